//! Answers with the page of a repository, and with the feed of its releases.

use std::net::IpAddr;
use std::sync::Arc;

use shared::nip34::Coordinate;
use shared::rules::Facts;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::fairness::slots::Slot;
use crate::fairness::slots::Slots;
use crate::fetch::finding::Finding;
use crate::fetch::finding::Found;
use crate::fetch::reader::Reader;
use crate::http::open_counts::OpenCounts;
use crate::http::pages::feed::feed;
use crate::http::pages::repository::Outline;
use crate::http::pages::repository::name_of;
use crate::http::reply;
use crate::http::shown_contents::ShownContents;
use crate::logged::logged;
use crate::repositories::Repositories;

pub(crate) struct RepositoryPages {
    reader: Arc<Reader>,
    repositories: Repositories,
    open_counts: Arc<OpenCounts>,
    contents: ShownContents,
    /// For writing feeds.
    feeds: Slots,
}

impl RepositoryPages {
    pub(crate) fn new(reader: Arc<Reader>, repositories: Repositories) -> Self {
        Self {
            reader,
            repositories,
            open_counts: Arc::new(OpenCounts::new()),
            contents: ShownContents::new(),
            feeds: Slots::new(FEEDS_MAX),
        }
    }

    /// Answers with the page of a repository, or that the client at `address` that sent `headers` has it.
    pub(super) async fn page(&self, coordinate: &Coordinate, address: IpAddr, headers: &HeaderMap) -> Response {
        let finding = self.reader.find(coordinate, address).await;
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
            let contents = match finding.refs().and_then(|refs| refs.head_oid()) {
                Some(head) => {
                    self.contents
                        .of(&self.repositories, coordinate, head, outline.room())
                        .await
                }
                None => Arc::default(),
            };
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
    pub(super) async fn releases(&self, coordinate: &Coordinate, address: IpAddr, headers: &HeaderMap) -> Response {
        let finding = self.reader.find(coordinate, address).await;
        let finding = match (facts_to_show(&finding), finding.refs(), finding.feed()) {
            (Ok(_), Some(_), None) => {
                // Many may wait here, and facts are large.
                drop(finding);
                let slot = self.feeds.acquire(address).await;
                let finding = self.reader.find(coordinate, address).await;
                self.write_feed(coordinate, &finding, slot).await;
                finding
            }
            _ => finding,
        };
        match (facts_to_show(&finding), finding.feed()) {
            (Ok(_), Some(feed)) => reply::feed_tagged(feed, headers),
            (Ok(_), None) => finding.found.refusal(),
            (Err(refusal), _) => *refusal,
        }
    }

    /// Writes the feed of a repository that can be shown. What has begun ends, whether its client waits for it or not:
    /// the next one would begin again.
    async fn write_feed(&self, coordinate: &Coordinate, finding: &Arc<Finding>, slot: Slot) {
        let (Ok(facts), Some(refs), None) = (facts_to_show(finding), finding.refs(), finding.feed()) else {
            return;
        };
        let (name, service) = (name_of(coordinate, facts).to_owned(), facts.service.clone());
        let (repository, refs) = (self.repositories.at(coordinate), Arc::clone(refs));
        let (reader, kept) = (Arc::clone(&self.reader), Arc::clone(finding));
        let written = tokio::spawn(async move {
            let coordinate = repository.coordinate();
            let written = async {
                let releases = repository.releases(refs).await.unwrap_or_else(|error| {
                    tracing::warn!(repo.coordinate = %coordinate, error = logged(&error), "cannot read the tags of a repository");
                    Vec::new()
                });
                feed(coordinate, &name, &service, &releases)
            };
            kept.keep_feed(written).await;
            drop(slot);
            reader.weigh(coordinate, &kept);
        });
        if let Err(error) = written.await {
            tracing::error!(repo.coordinate = %coordinate, error = logged(&error), "the feed of a repository could not be written");
        }
    }
}

/// Feeds that are written at the same time, each of up to some thousand tags.
const FEEDS_MAX: usize = 4;

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
