//! What the pusher's git is told, in its own terms: always 200, with results per ref and `remote:` lines
//! (facts/git-http 3.2).

use bytes::Bytes;
use shared::rules::PushDecision;
use warp::reply::Response;

use crate::http::reply;
use crate::push::results;
use wire::command_list::CommandList;
use wire::command_list::PushCapabilities;
use wire::report::Report;
use wire::report::ReportWriter;

/// The answer to one push, for the client that it comes from.
pub(crate) struct Answer {
    writer: ReportWriter,
}

impl Answer {
    pub(crate) fn new(capabilities: &PushCapabilities) -> Self {
        Self {
            writer: ReportWriter::new(capabilities),
        }
    }

    /// The answer to a push that was refused by what is known before its pack.
    pub(crate) fn refused(&self, list: &CommandList, decision: &PushDecision) -> Response {
        let report = Report {
            unpack: Ok(()),
            refs: results(list, decision),
        };
        self.whole(&decision.remarks, &report)
    }

    /// The answer to a push of which nothing can be done, for one reason.
    pub(crate) fn failed(&self, list: &CommandList, reason: &str) -> Response {
        let names = list.commands.iter().map(|command| command.name.clone());
        let report = Report {
            unpack: Err(reason.to_owned()),
            refs: names.map(|name| (name, Err(reason.to_owned()))).collect(),
        };
        self.whole(&[reason.to_owned()], &report)
    }

    /// The answer to something that is no push.
    pub(crate) fn refuse_list(&self, reason: &str) -> Response {
        let report = Report {
            unpack: Err(reason.to_owned()),
            refs: Vec::new(),
        };
        self.whole(&[reason.to_owned()], &report)
    }

    fn whole(&self, remarks: &[String], report: &Report) -> Response {
        let mut bytes: Vec<u8> = remarks
            .iter()
            .flat_map(|remark| self.writer.remote_text(remark))
            .collect();
        bytes.extend_from_slice(&self.writer.finish(report));
        reply::git(RESULT_TYPE, bytes.into())
    }
}

/// The answer to git's question before a large push: nothing at all.
pub(crate) fn probe() -> Response {
    reply::git(RESULT_TYPE, Bytes::new())
}

/// `gitprotocol-http(5)`, "Smart Service git-receive-pack".
pub(crate) const RESULT_TYPE: &str = "application/x-git-receive-pack-result";
