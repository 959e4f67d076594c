//! A push, from the first byte of its command list to the last flush (design 5).
//!
//! Commands are read and decided here; the pack goes into a quarantine of its own; under the identifier's lock the
//! decision is made again on fresh facts, the objects move in, and a look at the identifier does the rest, which is
//! what it does for every other cause too. From the lock on it runs in a task of its own: a client that hangs up
//! cannot cut it in half.

mod answer;
mod commit;
mod end_of_body;
mod receive;

use std::sync::Arc;
use std::time::Duration;

use shared::load_facts::FactsError;
use shared::load_facts::FactsScope;
use shared::nip34::Coordinate;
use shared::rules::Atomicity;
use shared::rules::Facts;
use shared::rules::Hosting;
use shared::rules::PushDecision;
use shared::rules::PushTarget;
use shared::rules::RefVerdict;
use shared::rules::decide_push;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::http::body;
use crate::http::body::Body;
use crate::http::body::DrainLimits;
use crate::http::reply;
use crate::push::answer::Answer;
use crate::repositories::StorageError;
use crate::site::Site;
use crate::site::declares_refs;
use shared::git::Namespace;
use shared::git::RefUpdate;
use tokio::io::AsyncReadExt;
use wire::command_list::CommandList;
use wire::command_list::CommandListError;
use wire::command_list::CommandListLimits;
use wire::command_list::CommandListParser;
use wire::command_list::PushCapabilities;
use wire::command_list::Step;

/// Why nothing could be decided about a push.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("no facts to decide on")]
    FactLoader(#[from] FactsError),
    #[error("cannot read the repository")]
    Storage(#[from] StorageError),
}

/// A push whose commands are read and decided upon once.
struct Push {
    site: Arc<Site>,
    coordinate: Coordinate,
    list: CommandList,
}

/// Answers a POST of `git-receive-pack`.
pub(crate) async fn receive_pack(site: Arc<Site>, coordinate: Coordinate, mut body: Body) -> Response {
    let read = tokio::time::timeout(COMMANDS_TIMEOUT, read_commands(&mut body)).await;
    let (list, pack_start) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(ReadError::List(capabilities, error))) => {
            body::drain(&mut body, DRAIN).await;
            return Answer::new(&capabilities).refuse_list(&error.to_string());
        }
        Ok(Err(ReadError::Body(error))) => {
            return reply::text(StatusCode::BAD_REQUEST, format!("cannot read the push: {error}\n"));
        }
        Err(_) => {
            return reply::text(
                StatusCode::REQUEST_TIMEOUT,
                "the commands of the push did not arrive in time\n",
            );
        }
    };
    // Before a large push git asks whether it may talk at all (facts/git-http 3.3).
    if list.commands.is_empty() {
        return answer::probe();
    }
    let push = Push { site, coordinate, list };
    match push.decide().await {
        Ok(None) => reply::text(StatusCode::NOT_FOUND, "no such repository here\n"),
        Ok(Some((_, decision))) => push.go_on(decision, pack_start, body).await,
        Err(error) => {
            body::drain(&mut body, DRAIN).await;
            push.refuse_for_now(&error)
        }
    }
}

impl Push {
    /// Loads facts and decides; `None`: the repository is not hosted here.
    async fn decide(&self) -> Result<Option<(Facts, PushDecision)>, PushError> {
        let (facts, _) = self.site.loader.load(&self.subject()).await?;
        if facts.hosting(&self.coordinate) == Hosting::Absent {
            return Ok(None);
        }
        // What nobody has declared is not there for a pusher either: a look replaces it.
        let refs = match declares_refs(&facts, &self.coordinate) {
            true => self.site.storage.refs(&self.coordinate).await?,
            false => None,
        };
        let updates: Vec<RefUpdate> = self.updates().cloned().collect();
        let target = PushTarget {
            coordinate: &self.coordinate,
            refs: refs.as_ref(),
        };
        let decision = decide_push(&facts, target, &updates, self.atomicity());
        Ok(Some((facts, decision)))
    }

    /// Returns what must be known about the push.
    fn subject(&self) -> FactsScope {
        let pull_request = |update: &RefUpdate| match update.name.namespace() {
            Namespace::PullRequest(event_id) => Some(event_id),
            Namespace::Branch | Namespace::Tag | Namespace::MalformedPullRequest | Namespace::Other => None,
        };
        FactsScope {
            identifiers: [self.coordinate.identifier.clone()].into(),
            pull_request_ids: self.updates().filter_map(pull_request).collect(),
            arriving: None,
        }
    }

    /// Returns the commands that are well-formed.
    fn updates(&self) -> impl Iterator<Item = &RefUpdate> {
        self.list
            .commands
            .iter()
            .filter_map(|command| command.parsed.as_ref().ok())
    }

    fn atomicity(&self) -> Atomicity {
        if self.list.capabilities.atomic {
            Atomicity::AllOrNothing
        } else {
            Atomicity::PerRef
        }
    }

    /// Tells whether the decision leaves anything to do. It does where all is in place too: whoever put it there may
    /// not have released its events yet, and facts and refs are of one moment only under the identifier's lock.
    fn goes_on(&self, decision: &PushDecision) -> bool {
        let all_in_place = !decision.verdicts.is_empty() && !decision.is_refused();
        (decision.has_effect() || all_in_place) && !is_spoilt(&self.list)
    }

    fn capabilities(&self) -> &PushCapabilities {
        &self.list.capabilities
    }

    async fn go_on(self, decision: PushDecision, pack_start: Vec<u8>, mut body: Body) -> Response {
        if self.goes_on(&decision) {
            return commit::carry_out(self, decision, pack_start, body).await;
        }
        // An answer is read only by a client that has sent everything.
        body::drain(&mut body, DRAIN).await;
        Answer::new(self.capabilities()).refused(&self.list, &decision)
    }

    fn refuse_for_now(&self, error: &PushError) -> Response {
        tracing::warn!(repo.coordinate = %self.coordinate, error = error as &dyn std::error::Error, "push not decided");
        Answer::new(self.capabilities()).failed(&self.list, for_now(error))
    }
}

/// What a pusher is told when something here does not work.
fn for_now(error: &PushError) -> &'static str {
    match error {
        PushError::FactLoader(FactsError::Purgatory(_)) => "the purgatory (Redis) does not answer, push again later",
        PushError::FactLoader(FactsError::Relay(_)) => "the relay does not answer, push again later",
        PushError::Storage(_) => "the repository cannot be read now, push again later",
    }
}

/// Tells whether a push that wants all or nothing has a command that is not even well-formed.
fn is_spoilt(list: &CommandList) -> bool {
    list.capabilities.atomic && list.commands.iter().any(|command| command.parsed.is_err())
}

/// Returns the verdicts with the defects in their places: one per command.
fn results<'a>(list: &'a CommandList, decision: &'a PushDecision) -> Vec<(String, Result<(), String>)> {
    let mut verdicts = decision.verdicts.iter();
    list.commands
        .iter()
        .map(|command| {
            let result = match &command.parsed {
                Err(defect) => Err(defect.to_string()),
                Ok(_) => match verdicts.next() {
                    Some(RefVerdict::Refuse { reason }) => Err(reason.clone()),
                    Some(_) if is_spoilt(list) => Err("atomic push failure: another ref was refused".to_owned()),
                    Some(RefVerdict::InPlace | RefVerdict::Allow | RefVerdict::Stage { .. }) => Ok(()),
                    None => Err("not decided".to_owned()),
                },
            };
            (command.name.clone(), result)
        })
        .collect()
}

enum ReadError {
    List(PushCapabilities, CommandListError),
    Body(std::io::Error),
}

/// Reads the command list; returns it with the bytes behind it that were read along.
async fn read_commands(body: &mut Body) -> Result<(CommandList, Vec<u8>), ReadError> {
    let mut parser = CommandListParser::new(CommandListLimits::default());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = body.read(&mut chunk).await.map_err(ReadError::Body)?;
        if read == 0 {
            return Err(ReadError::Body(std::io::ErrorKind::UnexpectedEof.into()));
        }
        match parser.push(&chunk[..read]) {
            Ok(Step::Incomplete) => {}
            Ok(Step::Complete { list, rest }) => return Ok((list, rest.to_vec())),
            Err(error) => return Err(ReadError::List(parser.capabilities().clone(), error)),
        }
    }
}

/// For the command list, which is small and comes first.
const COMMANDS_TIMEOUT: Duration = Duration::from_secs(15);

/// Read and forgotten of a push that is refused, before the answer.
const DRAIN: DrainLimits = DrainLimits {
    bytes_max: 1 << 30,
    stall_max: Duration::from_secs(10),
    duration_max: Duration::from_secs(600),
};

/// Read at once.
const CHUNK_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use shared::git::Oid;

    use super::*;
    use wire::command_list::Command;
    use wire::command_list::CommandDefect;

    /// The well-formed commands of such a push were left undone and reported ok.
    #[test]
    fn all_or_nothing_with_a_malformed_command_reports_nothing_as_done() {
        let oid: Oid = "1".repeat(40).parse().unwrap();
        let create = |name: &str| Command {
            name: name.to_owned(),
            parsed: name
                .parse()
                .map(|name| RefUpdate {
                    name,
                    old: None,
                    new: Some(oid),
                })
                .map_err(|source| CommandDefect::Name { source, deletes: false }),
        };
        let decision = PushDecision {
            verdicts: vec![RefVerdict::Allow],
            extend: [].into(),
            awaited: [].into(),
            remarks: Vec::new(),
        };

        for atomic in [false, true] {
            let list = CommandList {
                commands: vec![create("refs/heads/main"), create("refs/heads/..")],
                capabilities: PushCapabilities {
                    atomic,
                    ..PushCapabilities::default()
                },
            };
            let oks: Vec<bool> = results(&list, &decision)
                .iter()
                .map(|(_, result)| result.is_ok())
                .collect();

            assert_eq!(oks, [!atomic, false]);
        }
    }
}
