//! The result of a load for a repository, with the facts behind it: shared by readers, pages and pushes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use shared::git::Oid;
use shared::git::RefName;
use shared::nip01::memory_bytes;
use shared::rules::Facts;
use tokio::sync::OnceCell;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::fetch::advertised::Advertised;
use crate::fetch::cache::Audience;
use crate::fetch::cache::Shareable;
use crate::fetch::load_slots::LoadSize;
use crate::http::reply;
use crate::http::tagged::TaggedBody;
use crate::repositories::refs::RefSnapshot;

pub(crate) enum Found {
    /// A hosted repository, at `path`. One whose state declares no refs, or that has none yet, reads as empty, whatever
    /// is on disk.
    Readable {
        path: PathBuf,
        advertised: Arc<Advertised>,
    },
    /// A repository whose state declares objects that are not here: mirrors would copy an empty answer, or go back to
    /// an earlier state. With the refs that are here.
    DataMissing(Arc<Advertised>),
    /// A repository on disk whose events were lost with the purgatory: it is kept, and not served.
    NoState,
    NotHosted,
    Unavailable,
}

/// The result, and the facts behind it.
pub(crate) struct Finding {
    pub(crate) found: Found,
    /// `None`: Redis or the relay does not answer.
    pub(crate) facts: Option<Facts>,
    facts_bytes: u64,
    /// In which kind of slot the facts were loaded, or were tried to be.
    pub(super) load_size: LoadSize,
    audience: Audience,
    /// Made when it is asked for first.
    page: OnceCell<Option<TaggedBody>>,
    feed: OnceCell<TaggedBody>,
    /// Looked up when a pusher asks first.
    haves: OnceCell<Vec<Oid>>,
}

impl Finding {
    pub(super) fn new(found: Found, facts: Option<Facts>, audience: Audience, load_size: LoadSize) -> Self {
        let facts_bytes = facts.as_ref().map_or(0, bytes_of);
        Self {
            found,
            facts_bytes,
            load_size,
            facts,
            audience,
            page: OnceCell::new(),
            feed: OnceCell::new(),
            haves: OnceCell::new(),
        }
    }

    /// Returns the refs; `None`: there are no readable ones.
    pub(super) fn advertised(&self) -> Option<&Arc<Advertised>> {
        match &self.found {
            Found::Readable { advertised, .. } | Found::DataMissing(advertised) => Some(advertised),
            Found::NoState | Found::NotHosted | Found::Unavailable => None,
        }
    }

    /// Returns how many bytes the facts take; `None`: too many to be counted.
    pub(super) fn facts_room(&self) -> Option<u32> {
        self.facts_bytes.try_into().ok()
    }

    /// Returns the refs alone, and the size of the load.
    pub(super) fn without_facts(&self) -> Self {
        let found = match self.advertised() {
            Some(advertised) => Found::DataMissing(Arc::clone(advertised)),
            None => Found::Unavailable,
        };
        Self::new(found, None, Audience::Waiting, self.load_size)
    }

    /// Returns the page that was `rendered` when it was asked for first; `None`: there is nothing to show.
    pub(crate) async fn page(&self, rendered: impl Future<Output = Option<String>>) -> Option<&TaggedBody> {
        let page = async || Some(TaggedBody::new(Bytes::from(rendered.await?)));
        self.page.get_or_init(page).await.as_ref()
    }

    /// Keeps the feed of releases that was `written` when it was asked for first.
    pub(crate) async fn keep_feed(&self, written: impl Future<Output = String>) {
        let feed = async || TaggedBody::new(Bytes::from(written.await));
        self.feed.get_or_init(feed).await;
    }

    /// Returns the feed of releases, if it was kept.
    pub(crate) fn feed(&self) -> Option<&TaggedBody> {
        self.feed.get()
    }

    /// Returns the objects that a push need not send, which were `looked_up` when they were asked for first.
    pub(super) async fn haves(&self, looked_up: impl Future<Output = Vec<Oid>>) -> &[Oid] {
        self.haves.get_or_init(async || looked_up.await).await
    }

    /// Returns the same, if they were looked up.
    pub(super) fn known_haves(&self) -> Option<&[Oid]> {
        self.haves.get().map(Vec::as_slice)
    }

    /// Returns the refs of a readable repository.
    pub(crate) fn refs(&self) -> Option<&Arc<RefSnapshot>> {
        match &self.found {
            Found::Readable { advertised, .. } => Some(advertised.refs()),
            Found::DataMissing(_) | Found::NoState | Found::NotHosted | Found::Unavailable => None,
        }
    }
}

impl Found {
    /// Whether the repository is at an earlier state.
    pub(super) fn is_at_earlier_state(&self) -> bool {
        match self {
            Self::DataMissing(here) => here.refs().refs.keys().any(RefName::is_branch_or_tag),
            Self::Readable { .. } | Self::NoState | Self::NotHosted | Self::Unavailable => false,
        }
    }

    /// Answers a request of git that needs a repository that can be read.
    pub(crate) fn refusal(&self) -> Response {
        let (status, text) = self.refusal_text();
        reply::text(status, text)
    }

    /// Returns why it cannot be read, as a line of text.
    pub(crate) fn refusal_text(&self) -> (StatusCode, &'static str) {
        match self {
            // git shows the text of a refusal to the person, but no page (docs/facts/git-http.md 3.2).
            Self::NotHosted => (StatusCode::NOT_FOUND, "there is no such repository on this server\n"),
            Self::DataMissing(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the data of this repository is missing on this server; a maintainer must push it again\n",
            ),
            Self::NoState => (
                StatusCode::SERVICE_UNAVAILABLE,
                "this server has lost the events of this repository; a maintainer must publish them again\n",
            ),
            Self::Readable { .. } | Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the repository cannot be read now, try again later\n",
            ),
        }
    }
}

impl Shareable for Finding {
    /// Not the facts: many loads may wait, and facts are large.
    fn remains(this: &Arc<Self>) -> Option<Arc<Self>> {
        let is_any = this.advertised().is_some() || this.load_size != LoadSize::default();
        is_any.then(|| Arc::new(this.without_facts()))
    }

    fn audience(&self) -> Audience {
        self.audience
    }

    fn bytes(&self) -> u64 {
        let of_refs = self.advertised().map_or(0, |advertised| advertised.bytes());
        let page = self.page.get().and_then(Option::as_ref);
        let made = page.into_iter().chain(self.feed.get());
        let of_made: usize = made.map(|body| body.bytes.len()).sum();
        let of_haves = self.haves.get().map_or(0, |haves| haves.len() * Oid::LEN);
        of_refs + self.facts_bytes + (of_made + of_haves) as u64
    }
}

/// Returns about how many bytes facts take, with the page that is made of them: each text is in an event, in the parsed
/// form and on the page, and each row has its markup.
fn bytes_of(facts: &Facts) -> u64 {
    let text = |text: &String| text.len() + TEXT_BYTES;
    let texts = |texts: &Vec<String>| texts.iter().map(text).sum::<usize>();
    let announcements = facts.announcements.iter().map(|known| {
        let item = &known.item;
        let urls = texts(&item.clone_urls) + texts(&item.relay_urls);
        let keys = (item.roles.leads.len() + item.roles.listed.len()) * LISTED_KEY_BYTES;
        ITEM_BYTES + urls + keys + ESCAPED * (text(&item.name) + text(&item.description))
    });
    let states = facts.states.iter().map(|known| {
        let refs = known.item.declared.as_ref().map(|declared| &declared.refs);
        let names = refs.iter().flat_map(|refs| refs.keys());
        ITEM_BYTES
            + names
                .map(|name| REF_BYTES + ESCAPED * name.as_str().len())
                .sum::<usize>()
    });
    let pull_requests = facts.pull_requests.len() * ITEM_BYTES;
    let entries = facts
        .entries
        .values()
        .map(|entry| ITEM_BYTES + memory_bytes(&entry.event));
    let placeholders = facts.placeholders.len() * ITEM_BYTES;
    let listed_by = facts.listed_by.values().map(BTreeSet::len).sum::<usize>() * KEY_BYTES;
    let all = announcements.chain(states).chain(entries).sum::<usize>() + pull_requests + placeholders + listed_by;
    (PAGE_BYTES + all) as u64
}

/// A parsed event without its texts, its places in indices, and the row of its author on the page.
const ITEM_BYTES: usize = 2048;
/// A key that an announcement lists: there, in the numbers of who lists whom, awake or not, and in the sets of
/// maintainers that they make.
const LISTED_KEY_BYTES: usize = 3 * KEY_BYTES;
/// A key in a set.
const KEY_BYTES: usize = 64;
/// A ref that a state declares, and its row on the page, without its name.
const REF_BYTES: usize = 320;
/// A string, without its characters.
const TEXT_BYTES: usize = 40;
/// How much longer a text becomes by escaping.
const ESCAPED: usize = 7;
/// A page that shows nothing, with its style.
const PAGE_BYTES: usize = 8192;

#[cfg(test)]
mod tests {
    use shared::purgatory::Reading;
    use shared::rules::Access;
    use shared::rules::Covered;
    use shared::rules::MaintainerMode;

    use super::*;

    #[test]
    fn of_what_was_found_the_refs_and_the_size_alone_wait_for_the_next_load() {
        let (access, reading) = (Arc::new(Access::default()), Reading::default());
        let mode = MaintainerMode::default();
        let service = "svc".parse().unwrap();
        let facts = Facts::assemble(service, mode, access, Covered::default(), reading, Vec::new());
        let advertised = Arc::new(Advertised::new(Arc::new(RefSnapshot::empty())));
        let found = Found::Readable {
            path: PathBuf::new(),
            advertised: Arc::clone(&advertised),
        };
        let finding = Arc::new(Finding::new(found, Some(facts), Audience::Everybody, LoadSize::Small));

        let remains = Finding::remains(&finding).unwrap();

        assert!(Arc::ptr_eq(remains.advertised().unwrap(), &advertised));
        assert!(remains.facts.is_none());
        assert_eq!(remains.load_size, LoadSize::Small);
        let absent = |size| Arc::new(Finding::new(Found::Unavailable, None, Audience::Waiting, size));
        assert!(Finding::remains(&absent(LoadSize::Tiny)).is_none());
        let failed = Finding::remains(&absent(LoadSize::Large)).unwrap();
        assert_eq!(failed.load_size, LoadSize::Large, "a failure forgets it not");
    }
}
