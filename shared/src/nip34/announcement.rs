//! Kind 30617, repository announcement (NIP-34).

use nostr::event::Event;

use super::Coordinate;
use super::Defect;
use super::Identifier;
use super::Roles;
use crate::nip01::Revision;
use crate::nip01::first_tag;
use crate::nip01::first_value;
use crate::nip01::tags;

/// A repository announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Which version of the announcement this is.
    pub revision: Revision,
    /// The repository it announces.
    pub coordinate: Coordinate,
    /// Where the repository can be cloned from, as written.
    pub clone_urls: Vec<String>,
    /// The relays of the repository, as written.
    pub relay_urls: Vec<String>,
    /// The maintainers it names.
    pub roles: Roles,
    /// The `name` tag; empty if there is none.
    pub name: String,
    /// The `description` tag; empty if there is none.
    pub description: String,
    /// Whether its owner restricts reading of the repository (`private` of ngit, `public-read` of gittr).
    pub is_private: bool,
}

impl Announcement {
    /// Reads an announcement, without looking at the kind.
    pub fn parse(event: &Event) -> Result<Self, Defect> {
        let identifier = Identifier::of(event)?;
        // Peers read only the first, so the others would be lost silently.
        if tags(event, "clone").count() > 1 {
            return Err("multiple clone tags: put all URLs into one clone tag".into());
        }
        Ok(Self {
            revision: Revision::of(event),
            coordinate: Coordinate::new(event.pubkey, &identifier),
            clone_urls: first_tag(event, "clone").unwrap_or_default().to_vec(),
            relay_urls: tags(event, "relays").flatten().cloned().collect(),
            roles: Roles::of(event),
            name: first_value(event, "name").to_owned(),
            description: first_value(event, "description").to_owned(),
            is_private: first_tag(event, "private").is_some_and(|values| values.first().is_none_or(|it| it != "false"))
                || first_value(event, "public-read") == "false",
        })
    }
}
