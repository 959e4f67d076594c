//! Everything that can happen next, each with the name of the function or script that it stands for.

use crate::event::Coordinates;
use crate::event::Event;
use crate::event::Message;
use crate::event::Push;
use crate::redis::GatewayId;
use crate::state::Request;

/// One step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A client does something.
    Client(ClientStep),
    /// The relay does something.
    Relay(RelayStep),
    /// The plugin does something.
    Plugin(PluginStep),
    /// A gateway does something.
    Gateway(GatewayId, GatewayStep),
    /// Time passes.
    Time(TimeStep),
    /// Something breaks, or works again.
    Fault(Fault),
}

/// Steps of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientStep {
    /// Sends a message to the relay.
    Send(Message),
    /// Begins a push at a gateway.
    Push(GatewayId, Push),
}

/// Steps of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayStep {
    /// Commits one message that the plugin accepted, and answers.
    Commit(Request),
}

/// Steps of the plugin (`shared/src/write_policy.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginStep {
    /// `Policy::delete`: `delete_page.lua`, and accept.
    Delete(Request),
    /// `FactLoader::load`, its first half: `read_page.lua`.
    ReadPurgatory(Request),
    /// Its second half, and `decide_admission`.
    Decide,
    /// `hold_entry.lua`, which notes nothing of what an announcement lists: there may be more than it has room for.
    Hold,
    /// `follow_listings_page.lua`.
    FollowListings,
    /// Tells the client that the event is held, after `WAIT`.
    Answer,
}

/// Steps of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayStep {
    /// It has nothing in hand.
    Worker(WorkerStep),
    /// `Committer::commit`: locks, `mark_dirty_page.lua`, and reads the purgatory for the second decision about a push.
    LockForPush,
    /// Reads the relay, `decide_push`.
    DecidePush,
    /// `put_placeholder.lua`.
    PutPlaceholder,
    /// `LockedRepository::take_in`: moves the objects of the push in; or `LockedRepository::stage_whole`, or
    /// `LockedRepository::keep_part`: keeps them aside. Then `plan`, on the facts that the push was decided on.
    TakeIn,
    /// Takes the locks that a wider reconcile needs.
    Lock,
    /// `Reconciler::load`: the first half of the facts, also anew after `try_extend`.
    ReadFirst,
    /// `Reconciler::load`: the second half of the facts, `plan`, and `try_extend` where that changes more.
    Plan,
    /// `change_repositories` and `act`: the next thing of the plan.
    Act(Act),
    /// `publish_one`: sends an event to the relay.
    Publish(Event),
    /// `settle.lua`.
    Settle(Event),
}

/// Steps of `Worker::step` and `follow_relay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerStep {
    /// `mark_overdue.lua`.
    MarkOverdue,
    /// Takes a coordinate that is dirty, locks it, and reads the first half of the facts.
    StartReconcile(Coordinates),
    /// `take_due.lua`.
    TakeDue,
    /// `follow_relay`: marks what the relay has committed.
    FollowRelay,
    /// `recover`: holds again what it was releasing when Redis lost everything.
    WriteAgain,
    /// `follow_epoch`: finds another Redis than before, and marks what is held (`mark_held_page.lua`) or on disk; if it
    /// is empty, it notes whom the relay's announcements list (`note_listings_page.lua`).
    NoticeNewMaster,
}

/// What a plan consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// `LockedRepository::align`: all refs of a repository in one transaction, after what came in parts has moved in.
    Align,
    /// `LockedRepository::install`: the ref of the PR in one repository.
    Install,
    /// `mark_dirty_page.lua`: what is left to others.
    MarkOthers,
    /// `mark_releasing_page.lua`.
    MarkReleasing,
    /// `extend_page.lua`: what is undecided.
    Extend,
    /// `end_page.lua`.
    End,
    /// `expire.lua`.
    Expire,
    /// `drop_placeholder.lua`.
    DropPlaceholders,
    /// `LockedRepository::unstage`.
    Unstage,
    /// `LockedRepository::end_parts`.
    EndParts,
    /// `note_listings_page.lua`.
    NoteListings,
    /// `clear_dirty.lua`, and lets go of the locks.
    ClearDirty,
}

/// Time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeStep {
    /// A lease, or the pause before the next attempt, ends.
    LeaseEnds(Event),
    /// A deadline passes.
    DeadlinePasses(Event),
    /// The deletions' gates end.
    GatesEnd,
}

/// Something breaks, or works again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A gateway is killed, or one of its calls fails and it gives up what it does.
    KillGateway(GatewayId),
    /// It is started again.
    StartGateway(GatewayId),
    /// The plugin is killed, or one of its calls fails; strfry starts it again at the next event.
    KillPlugin,
    /// The relay is killed, and the plugin with it.
    KillRelay,
    /// It is started again.
    StartRelay,
    /// Redis does not answer.
    LoseRedis,
    /// It answers again.
    FindRedis,
    /// The replica catches up.
    Replicate,
    /// The replica is the master now.
    Failover,
    /// Redis comes back without anything.
    EmptyRedis,
    /// The answer to what a gateway publishes does not come in time.
    LoseAnswer(GatewayId, Event),
    /// The second half of the facts comes back full, and without this event: an error.
    ReadShort(GatewayId, Event),
    /// A repository cannot be read: a reconcile goes on without it, and keeps the mark.
    CannotRead(GatewayId, Coordinates),
    /// The refs of a repository cannot be changed: the same.
    CannotChange(GatewayId, Coordinates),
    /// The ref of the PR cannot be set in a repository: the same without that PR there.
    CannotInstall(GatewayId, Coordinates),
    /// A repository cannot be read any more.
    BreakDisk(Coordinates),
    /// It can be read again.
    MendDisk(Coordinates),
}
