//! Answers to visitors: at `/` the relay's information document or the list of hosted repositories, and the page of a
//! repository with the feed of its releases.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use shared::git::Oid;
use shared::nip34::Coordinate;
use shared::rules::Facts;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::StatusCode;
use warp::http::header;
use warp::reply::Reply;
use warp::reply::Response;

use crate::fetch::finding::Finding;
use crate::fetch::finding::Found;
use crate::fetch::reader::Reader;
use crate::http::open_counts::OpenCounts;
use crate::http::pages::feed::feed;
use crate::http::pages::landing::Search;
use crate::http::pages::landing::landing;
use crate::http::pages::repository::Contents;
use crate::http::pages::repository::Outline;
use crate::http::pages::repository::name_of;
use crate::http::relay_info::RelayInfo;
use crate::http::reply;
use crate::http::tagged::TaggedBody;
use crate::repositories::Repositories;

/// Answers visitors.
pub(crate) struct Front {
    reader: Arc<Reader>,
    repositories: Repositories,
    relay_info: RelayInfo,
    open_counts: Arc<OpenCounts>,
    /// The shown content of commits, by its maximum size. It never changes.
    contents: Cache<ContentsOf, Arc<Contents>, ContentsBytes>,
    /// The landing page as most see it, without a search, and which version of the names it shows.
    landing: Mutex<Option<(u64, TaggedBody)>>,
}

type ContentsOf = (Coordinate, Oid, usize);

#[derive(Debug, Clone)]
struct ContentsBytes;

impl Weighter<ContentsOf, Arc<Contents>> for ContentsBytes {
    fn weight(&self, _: &ContentsOf, contents: &Arc<Contents>) -> u64 {
        CONTENTS_BYTES + contents.bytes() as u64
    }
}

impl Front {
    /// Shows what `reader` finds and what `repositories` have.
    pub(crate) fn new(reader: Arc<Reader>, repositories: Repositories) -> Self {
        Self {
            reader,
            repositories,
            relay_info: RelayInfo::default(),
            open_counts: Arc::new(OpenCounts::new()),
            contents: Cache::with_weighter(CONTENTS_EXPECTED, CONTENTS_BYTES_MAX, ContentsBytes),
            landing: Mutex::default(),
        }
    }

    /// Answers `GET /`: the information document for those that accept it (NIP-11), a page for all others.
    pub(super) async fn root(&self, query: &str, headers: &HeaderMap) -> Response {
        let loader = &self.reader.loader;
        let mut accepts = headers
            .get_all(header::ACCEPT)
            .into_iter()
            .filter_map(|value| value.to_str().ok());
        let mut answer = match accepts.any(|accept| accept.contains(RELAY_INFO_TYPE)) {
            true => {
                let document = self.relay_info.document(&loader.relay, &loader.access.current()).await;
                reply::with_type(StatusCode::OK, RELAY_INFO_TYPE, document.into_response())
            }
            false => reply::html_tagged(&self.landing(&Search::parse(query)).await, headers),
        };
        answer
            .headers_mut()
            .insert(header::VARY, HeaderValue::from_static("Accept"));
        answer
    }

    async fn landing(&self, search: &Search) -> TaggedBody {
        let (hosted, access) = (self.repositories.hosted(), self.reader.loader.access.current());
        self.repositories.list_permitted(&access).await;
        // Before the page: later changes make it old.
        let version = hosted.version();
        let render = || {
            let page = hosted.page(&search.name, search.page);
            TaggedBody::new(Bytes::from(landing(&self.reader.loader.service, search, &page)))
        };
        if *search != Search::default() {
            return render();
        }
        let mut kept = self.landing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, page)) = kept.as_ref().filter(|(shown, _)| *shown == version) {
            return page.clone();
        }
        let page = render();
        *kept = Some((version, page.clone()));
        page
    }

    /// Answers with the page of a repository, or that the client that sent `headers` has it.
    pub(super) async fn repository(&self, coordinate: &Coordinate, headers: &HeaderMap) -> Response {
        let finding = self.reader.find(coordinate).await;
        let facts = match facts_to_show(&finding) {
            Ok(facts) => facts,
            Err(refusal) => {
                // Its announcement may have been deleted since it was listed. A denied repository is not shown anyway,
                // and must be in the list when it is permitted again.
                let is_permitted = |facts: &Facts| facts.access.permits(coordinate);
                if matches!(finding.found, Found::NotHosted) && finding.facts.as_ref().is_some_and(is_permitted) {
                    self.repositories.hosted().remove(coordinate);
                }
                return *refusal;
            }
        };
        let mut is_new = false;
        let rendered = async {
            is_new = true;
            // Another gateway may have made it.
            if finding.refs().is_some_and(|refs| !refs.refs.is_empty()) {
                self.repositories.hosted().add([coordinate.clone()]);
            }
            let counts = self.open_counts.of(&self.reader.loader.relay, coordinate, facts);
            let outline = Outline::new(coordinate, facts, counts)?;
            let contents = self.contents(coordinate, &finding, outline.room()).await;
            Some(outline.page(&contents))
        };
        let page = finding.page(rendered).await;
        if is_new {
            self.reader.weigh(coordinate, &finding);
        }
        match page {
            Some(page) => reply::html_tagged(page, headers),
            None => Found::NotHosted.refusal(),
        }
    }

    /// Answers with the feed of a repository's releases, or that the client that sent `headers` has it.
    pub(super) async fn releases(&self, coordinate: &Coordinate, headers: &HeaderMap) -> Response {
        let finding = self.reader.find(coordinate).await;
        let (facts, refs) = match (facts_to_show(&finding), finding.refs()) {
            (Ok(facts), Some(refs)) => (facts, refs),
            (Ok(_), None) => return finding.found.refusal(),
            (Err(refusal), _) => return *refusal,
        };
        let mut is_new = false;
        let written = async {
            is_new = true;
            let releases = self.repositories.at(coordinate).releases(Arc::clone(refs)).await;
            let releases = releases.unwrap_or_else(|error| {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(repo.coordinate = %coordinate, error, "cannot read the tags of a repository");
                Vec::new()
            });
            feed(coordinate, name_of(coordinate, facts), &facts.service, &releases)
        };
        let feed = finding.feed(written).await;
        if is_new {
            self.reader.weigh(coordinate, &finding);
        }
        reply::feed_tagged(feed, headers)
    }

    /// Returns the content, up to a size, of the commit that HEAD leads to; nothing if it cannot be read.
    async fn contents(&self, coordinate: &Coordinate, finding: &Finding, bytes_max: usize) -> Arc<Contents> {
        let Some(head) = finding.refs().and_then(|refs| refs.head_oid()) else {
            return Arc::default();
        };
        let key = (coordinate.clone(), head, bytes_max);
        if let Some(contents) = self.contents.get(&key) {
            return contents;
        }
        let repository = self.repositories.at(coordinate);
        let rendered = repository.head_contents(head, move |read| Arc::new(Contents::new(read, bytes_max)));
        match rendered.await {
            Ok(contents) => {
                self.contents.insert(key, Arc::clone(&contents));
                contents
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(repo.coordinate = %coordinate, error, "cannot read the content of a repository's page");
                Arc::default()
            }
        }
    }
}

/// Returns the facts of a repository that can be shown, or why it cannot.
fn facts_to_show(finding: &Finding) -> Result<&Facts, Box<Response>> {
    match (&finding.found, &finding.facts) {
        // Nothing is queried about a repository that does not exist.
        (Found::DataMissing(_) | Found::NoState | Found::NotHosted, _) => Err(Box::new(finding.found.refusal())),
        (_, Some(facts)) => Ok(facts),
        (_, None) => {
            let text = "the relay or Redis does not answer: try again later\n";
            Err(Box::new(reply::text(StatusCode::SERVICE_UNAVAILABLE, text)))
        }
    }
}

/// NIP-11.
const RELAY_INFO_TYPE: &str = "application/nostr+json";

/// For the shown content of commits: that of some thousand repositories.
const CONTENTS_BYTES_MAX: u64 = 16 << 20;

/// Of one, in addition to the content.
const CONTENTS_BYTES: u64 = 512;

/// Commits whose content is kept; more are not an error.
const CONTENTS_EXPECTED: usize = 4_000;
