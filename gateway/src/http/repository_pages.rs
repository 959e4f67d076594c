//! Answers with the page of a repository, and with the feed of its releases.

use std::net::IpAddr;
use std::sync::Arc;

use shared::nip34::Coordinate;
use shared::rules::Facts;
use warp::http::HeaderMap;
use warp::http::StatusCode;
use warp::reply::Response;

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
}

impl RepositoryPages {
    pub(crate) fn new(reader: Arc<Reader>, repositories: Repositories) -> Self {
        Self {
            reader,
            repositories,
            open_counts: Arc::new(OpenCounts::new()),
            contents: ShownContents::new(),
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
                tracing::warn!(repo.coordinate = %coordinate, error = logged(&error), "cannot read the tags of a repository");
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
