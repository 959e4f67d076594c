//! The commands of a push: read from the body's start, and decided about on facts and refs.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use nostr::event::EventId;
use shared::nip34::Coordinate;
use shared::rules::Atomicity;
use shared::rules::Facts;
use shared::rules::Hosting;
use shared::rules::PushDecision;
use shared::rules::PushTarget;
use shared::rules::decide_push;
use wire::command_list::CommandList;
use wire::command_list::CommandListError;
use wire::command_list::CommandListLimits;
use wire::command_list::CommandListParser;
use wire::command_list::PushCapabilities;

use crate::fairness::shares::Claim;
use crate::fairness::shares::Shares;
use crate::http::body::Body;
use crate::http::body::BodyError;
use crate::http::body::BodyLimits;
use crate::http::body::BodyReader;
use crate::push::answer::PushAnswer;
use crate::push::answer::PushResult;
use crate::push::error::PushError;
use crate::push::list_memory::ListMemory;
use crate::repositories::Repositories;
use crate::repositories::error::RepositoryError;
use crate::repositories::objects::ReadError;
use crate::repositories::refs::RefSnapshot;

pub(super) struct PushRequest {
    pub(super) coordinate: Coordinate,
    /// Where it comes from.
    pub(super) pusher: IpAddr,
    pub(super) list: CommandList,
    /// Of the list, and then of the answer.
    pub(super) memory: ListMemory,
}

pub(super) enum UnreadCommands {
    /// They are not what git sends; the capabilities that were understood tell how to answer.
    Malformed(PushCapabilities, CommandListError),
    /// There is no memory for them.
    GaveWay(PushCapabilities),
    /// The request broke off, or they did not arrive in time.
    Body(BodyError),
}

impl PushRequest {
    /// Reads the commands into their address's share of `lists`; returns them with the bytes behind them that were read
    /// along: the start of the pack.
    pub(super) async fn read(
        coordinate: Coordinate,
        pusher: IpAddr,
        lists: &Shares,
        body: &mut Body,
    ) -> Result<(Self, Vec<u8>), UnreadCommands> {
        let mut memory = ListMemory::new(lists, pusher);
        let mut parser = CommandListParser::new(CommandListLimits::default());
        let mut reader = BodyReader::new(body, COMMANDS);
        while let Some(bytes) = reader.next().await.map_err(UnreadCommands::Body)? {
            let parsed = parser.push(&bytes);
            let has_room = memory.take_for(parser.bytes()).is_ok();
            match parsed {
                Ok(None) if has_room => {}
                Ok(Some((list, rest))) if has_room => {
                    let request = Self {
                        coordinate,
                        pusher,
                        list,
                        memory,
                    };
                    return Ok((request, rest.to_vec()));
                }
                Ok(Some((list, _))) => return Err(UnreadCommands::GaveWay(list.capabilities)),
                Ok(None) => return Err(UnreadCommands::GaveWay(parser.capabilities().clone())),
                Err(error) => return Err(UnreadCommands::Malformed(parser.capabilities().clone(), error)),
            }
        }
        let ended = std::io::ErrorKind::UnexpectedEof.into();
        Err(UnreadCommands::Body(BodyError::Broken(ended)))
    }

    /// As [`Self::decide`], before the lock: on the refs that readers get. Anybody may ask for a decision, and under
    /// the lock the refs are read again.
    pub(super) async fn decide_early(
        &self,
        facts: &Facts,
        repositories: &Repositories,
    ) -> Result<Option<PushDecision>, PushError> {
        let repository = repositories.at(&self.coordinate);
        self.decide(facts, repository.cached_refs()).await
    }

    /// Decides about the push with the refs that `refs` returns; `None`: the repository is not hosted here.
    pub(super) async fn decide(
        &self,
        facts: &Facts,
        refs: impl Future<Output = Result<Option<impl Borrow<RefSnapshot>>, ReadError>>,
    ) -> Result<Option<PushDecision>, PushError> {
        if facts.hosting(&self.coordinate) == Hosting::Absent {
            return Ok(None);
        }
        // What no state declares is not there for a pusher either: a reconcile replaces it.
        let read = match facts.declares_refs(&self.coordinate) {
            true => refs.await.map_err(RepositoryError::from)?,
            false => None,
        };
        let none = BTreeMap::new();
        let target = PushTarget {
            coordinate: &self.coordinate,
            refs: read.as_ref().map_or(&none, |snapshot| &snapshot.borrow().refs),
        };
        let atomicity = match self.list.capabilities.atomic {
            true => Atomicity::AllOrNothing,
            false => Atomicity::PerRef,
        };
        let mut decision = decide_push(facts, target, &self.list.commands, atomicity);
        if self.list.push_options > 0 {
            decision.notes.push(OPTIONS_IGNORED.to_owned());
        }
        Ok(Some(decision))
    }

    /// Waits until its claim or its memory is another address's, of which its own has most: it must then end.
    pub(super) async fn gives_way(&self, claim: &Claim) {
        tokio::select! {
            () = claim.ended() => {}
            () = self.memory.ended() => {}
        }
    }

    /// Answers it; nothing but the answer is left of it.
    pub(super) fn answer(self, result: PushResult) -> PushAnswer {
        PushAnswer::new(&self.list.capabilities, self.memory, result)
    }

    pub(super) fn pull_request_ids(&self) -> BTreeSet<EventId> {
        let updates = self
            .list
            .commands
            .iter()
            .filter_map(|command| command.update.as_ref().ok());
        updates.filter_map(|update| update.name.pull_request_id()).collect()
    }
}

/// What a pusher with options (`-o`) reads.
const OPTIONS_IGNORED: &str = "push options (-o) have no effect on this server and were ignored";

/// Of the command list, which is small and comes first; its parser bounds its bytes.
const COMMANDS: BodyLimits = BodyLimits {
    bytes_max: u64::MAX,
    stall_max: Duration::from_secs(15),
    duration_max: Duration::from_secs(15),
};
