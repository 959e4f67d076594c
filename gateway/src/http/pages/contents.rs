//! The content of a commit on the page of its repository: its README, and the last commits. Pure.

use crate::http::pages::escaped_excerpt;
use crate::http::pages::feed::timestamp;
use crate::http::pages::readme::readme_html;
use crate::repositories::head_contents::CommitLine;
use crate::repositories::head_contents::HeadContents;

/// The shown content of a commit, as HTML: it never changes.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(super) readme: String,
    pub(super) commits: String,
}

impl Contents {
    pub(crate) fn new(read: &HeadContents, bytes_max: usize) -> Self {
        let rows: String = read.commits.iter().map(commit_row).collect();
        let commits = match rows.is_empty() {
            true => String::new(),
            false => format!("<h2>Last commits</h2><table>{rows}</table>"),
        };
        let room = bytes_max.saturating_sub(commits.len() + README_FRAME_BYTES);
        let readme = read.readme.as_ref().map(|readme| {
            let (html, is_whole) = readme_html(readme, room.min(README_BYTES_MAX));
            let more = match is_whole {
                true => "",
                false => "<p class=\"quiet\">The rest of the README is not shown.</p>",
            };
            format!("<h2>README</h2><article dir=\"auto\">{html}</article>{more}")
        });
        Self {
            readme: readme.unwrap_or_default(),
            commits,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.readme.len() + self.commits.len()
    }
}

fn commit_row(commit: &CommitLine) -> String {
    let date = commit.time.map(timestamp).unwrap_or_default();
    format!(
        "<tr><td><bdi>{}</bdi><br><span class=\"quiet\"><bdi>{}</bdi> <time>{}</time></span></td>\
         <td><code title=\"{}\">{}</code></td></tr>",
        escaped_excerpt(&commit.title, TITLE_CHARS_MAX),
        escaped_excerpt(&commit.author, AUTHOR_CHARS_MAX),
        date.get(..DATE_CHARS).unwrap_or_default(),
        commit.oid,
        commit.oid.short(),
    )
}

/// Of a README: quotes in quotes make much of little.
const README_BYTES_MAX: usize = 16 * 1024;

/// Around a README.
const README_FRAME_BYTES: usize = 128;

const TITLE_CHARS_MAX: usize = 100;

const AUTHOR_CHARS_MAX: usize = 40;

/// Of a time, the day.
const DATE_CHARS: usize = "1970-01-01".len();
