//! Kind 30618, repository state (NIP-34): the declared branches and tags of a repository.

use std::collections::BTreeMap;

use nostr::event::Event;
use nostr::key::PublicKey;

use super::Coordinate;
use super::Defect;
use super::Identifier;
use crate::git::Namespace;
use crate::git::Oid;
use crate::git::RefName;
use crate::nip01::Revision;
use crate::nip01::is_lower_hex;

/// A repository state, for every repository called `identifier` in whose maintainer set the author is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Which version of the author's state this is.
    pub revision: Revision,
    /// Who declares it.
    pub author: PublicKey,
    /// The repositories it speaks of.
    pub identifier: Identifier,
    /// What it declares, or why no repository can ever be aligned to it. A relay may serve it anyway.
    pub declared: Result<Declared, Unfulfillable>,
}

/// Why no repository can ever be aligned to a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfulfillable {
    /// A ref has the first digits of an object id only. Such a state is held, and expires: the public audit sends one
    /// and wants it answered OK (docs/facts/grasp.md 1.1).
    #[error("{} has an abbreviated object id", excerpt(.0.as_str()))]
    Abbreviated(RefName),
    /// Nothing is wrong: the state was read for its date only, with those of hundreds of others.
    #[error("its refs were not read")]
    Unread,
    /// Anything else.
    #[error(transparent)]
    Malformed(#[from] Defect),
}

/// The refs that a state declares: all branches and tags of the repository, no others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declared {
    /// Branches and tags; none of them is a directory of another. Empty: the repository has no refs.
    pub refs: BTreeMap<RefName, Oid>,
    /// The branch that HEAD names. `None`: the state has no HEAD, or names a branch that it does not declare.
    pub head: Option<RefName>,
}

impl State {
    /// Reads a state, without looking at the kind.
    ///
    /// # Errors
    /// The `d` tag cannot name a repository.
    pub fn parse(event: &Event) -> Result<Self, Defect> {
        Ok(Self {
            revision: Revision::of(event),
            author: event.pubkey,
            identifier: Identifier::of(event)?,
            declared: Declared::parse(event),
        })
    }

    /// Returns it without its refs.
    pub(crate) fn unread(self) -> Self {
        Self {
            declared: Err(Unfulfillable::Unread),
            ..self
        }
    }

    /// Returns the coordinate of its author's own repository, whether there is one or not.
    pub fn home(&self) -> Coordinate {
        Coordinate::new(self.author, &self.identifier)
    }
}

impl Declared {
    fn parse(event: &Event) -> Result<Self, Unfulfillable> {
        let mut refs = BTreeMap::new();
        let mut head = None;
        let mut abbreviated = None;
        for tag in event.tags.iter() {
            let [name, values @ ..] = tag.as_slice() else {
                continue;
            };
            let value = values.first().map_or("", String::as_str);
            if name == "HEAD" {
                head = value.strip_prefix("ref: ").unwrap_or(value).parse::<RefName>().ok();
                continue;
            }
            let (name, oid) = match declared_ref(name, value) {
                Ok(None) => continue,
                Ok(Some(declared)) => declared,
                // Another ref may have a worse fault.
                Err(Unfulfillable::Abbreviated(name)) => {
                    abbreviated = Some(name);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if refs.insert(name.clone(), oid).is_some_and(|before| before != oid) {
                return Err(malformed(format!("{} is declared twice", excerpt(name.as_str()))));
            }
        }
        // A directory sorts before its content, but not always right before: `a`, `a-b`, `a/c`.
        for name in refs.keys() {
            let mut directory = name.as_str();
            // The first two parts are no ref.
            while let Some((parent, _)) = directory.rsplit_once('/').filter(|_| is_nested(directory)) {
                directory = parent;
                if parent.parse().is_ok_and(|parent: RefName| refs.contains_key(&parent)) {
                    let (name, parent) = (excerpt(name.as_str()), excerpt(parent));
                    return Err(malformed(format!("{name} and {parent} cannot both exist")));
                }
            }
        }
        if let Some(name) = abbreviated {
            return Err(Unfulfillable::Abbreviated(name));
        }
        let head = head.filter(|name| name.namespace() == Namespace::Branch && refs.contains_key(name));
        Ok(Self { refs, head })
    }
}

/// Whether a name below `refs/heads/` or `refs/tags/` has directories there.
fn is_nested(name: &str) -> bool {
    name.bytes().filter(|byte| *byte == b'/').count() > 2
}

/// Reads one tag. `None`: the tag declares no ref; peeled entries (`^{}`) add nothing to the tag object, and a symbolic
/// value names another ref that is declared itself.
fn declared_ref(name: &str, value: &str) -> Result<Option<(RefName, Oid)>, Unfulfillable> {
    let governed = name.starts_with("refs/heads/") || name.starts_with("refs/tags/");
    if !governed || name.ends_with("^{}") || value.starts_with("ref: ") {
        return Ok(None);
    }
    let is_abbreviated = (1..2 * Oid::LEN).contains(&value.len()) && is_lower_hex(value, value.len());
    match (name.parse::<RefName>(), value.parse::<Oid>()) {
        (Ok(name), Ok(oid)) => Ok(Some((name, oid))),
        (Ok(name), Err(_)) if is_abbreviated => Err(Unfulfillable::Abbreviated(name)),
        (Ok(name), Err(error)) => Err(malformed(format!(
            "{} has no valid object id: {error}",
            excerpt(name.as_str())
        ))),
        (Err(_), _) => Err(malformed(format!("{} is not a valid ref name", excerpt(name)))),
    }
}

fn malformed(text: String) -> Unfulfillable {
    Unfulfillable::Malformed(text.into())
}

/// Returns the start of a name that may be as long as an event, and hold anything: a text that names it may be said for
/// each of many refs.
fn excerpt(name: &str) -> String {
    let mut chars = name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let start: String = chars.by_ref().take(NAME_CHARS_MAX).collect();
    match chars.next() {
        Some(_) => start + "…",
        None => start,
    }
}

/// Shown of a name.
const NAME_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Kind;
    use nostr::event::Tag;
    use nostr::key::Keys;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn declared(tags: &[&[&str]]) -> Result<Declared, Unfulfillable> {
        let tags = [&["d", "r"][..]].into_iter().chain(tags.iter().copied());
        let tags = tags.map(|tag| Tag::parse(tag.iter().copied()).unwrap());
        let event = EventBuilder::new(Kind::Custom(30618), "")
            .tags(tags)
            .finalize(&Keys::generate())
            .unwrap();
        State::parse(&event).unwrap().declared
    }

    fn name(text: &str) -> RefName {
        text.parse().unwrap()
    }

    #[test]
    fn both_spellings_of_head_are_read() {
        for head in ["ref: refs/heads/main", "refs/heads/main"] {
            let declared = declared(&[&["refs/heads/main", A], &["HEAD", head]]).unwrap();
            assert_eq!(declared.head, Some(name("refs/heads/main")), "{head}");
        }
    }

    #[test]
    fn a_head_that_is_not_declared_says_nothing() {
        for head in ["ref: refs/heads/other", "refs/tags/v1", "main", ""] {
            let declared = declared(&[&["refs/heads/main", A], &["refs/tags/v1", B], &["HEAD", head]]).unwrap();
            assert_eq!(declared.head, None, "{head}");
        }
    }

    #[test]
    fn peeled_symbolic_and_foreign_tags_declare_nothing() {
        let declared = declared(&[
            &["refs/tags/v1", A],
            &["refs/tags/v1^{}", B],
            &["refs/heads/alias", "ref: refs/heads/main"],
            &["refs/nostr/x", A],
            &["alt", "a state"],
        ])
        .unwrap();

        assert_eq!(declared.refs.into_keys().collect::<Vec<_>>(), [name("refs/tags/v1")]);
    }

    #[test]
    fn a_name_of_a_hundred_thousand_directories_is_a_defect() {
        let deep = "refs/heads".to_owned() + &"/x".repeat(100_000);
        let text = declared(&[&[&deep, A]]).unwrap_err().to_string();
        assert!(
            text.starts_with("refs/heads/x/x/x") && text.ends_with("… is not a valid ref name"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_state_is_valid() {
        assert_eq!(declared(&[]), Ok(Declared::default()));
    }

    #[test]
    fn defects_are_named() {
        for (tags, defect) in [
            (
                &[&["refs/heads/main", "abc123"][..]][..],
                "refs/heads/main has an abbreviated object id",
            ),
            (
                &[&["refs/heads/main", "abc123"], &["refs/heads/other", ""]],
                "refs/heads/other has no valid object id: an object id has 40 digits, only 0-9 and a-f",
            ),
            (&[&["refs/heads/a..b", A]], "refs/heads/a..b is not a valid ref name"),
            (
                &[&["refs/heads/main"]],
                "refs/heads/main has no valid object id: an object id has 40 digits, only 0-9 and a-f",
            ),
            (
                &[&["refs/heads/a\n", A]],
                "refs/heads/a\u{fffd} is not a valid ref name",
            ),
            (
                &[&["refs/heads/a", A], &["refs/heads/a", B]],
                "refs/heads/a is declared twice",
            ),
            (
                &[&["refs/heads/a", A], &["refs/heads/a-b", A], &["refs/heads/a/c/d", A]],
                "refs/heads/a/c/d and refs/heads/a cannot both exist",
            ),
        ] {
            assert_eq!(declared(tags).unwrap_err().to_string(), defect);
        }
    }
}
