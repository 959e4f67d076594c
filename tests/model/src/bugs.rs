//! Mistakes that the protocol is built against. Each can be made in the model, by a test alone, to show that the model
//! would find it.

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The entry is settled when the event is sent, not when the relay has answered.
    SettleBeforePublish,
    /// A settlement counts whoever makes it, and writes the entry that it is about.
    SettleWithoutLease,
    /// `shadowReject` is read as stored: its OK is *true*.
    HeldIsStored,
    /// A reconcile clears the mark whatever has happened since it read the number.
    ClearUnconditionally,
    /// A push marks its repository before the pack comes, and not in the lock.
    DirtyBeforeUpload,
    /// What is releasing is published by the reconcile that marked it, and by nobody else.
    NoOtherPublisher,
    /// Only what the relay has governs: a state that is on its way does not.
    GoverningWithoutReleasing,
    /// The relay is read before the purgatory: an event that moves in between is in neither.
    RelayBeforePurgatory,
    /// A query that came back short is taken for everything.
    ShortReadIsFact,
    /// The plugin lets in what has its data on disk.
    PluginJudgesData,
    /// The plugin lets in what is being released before what it is ordered after.
    ReleasedOutOfOrder,
    /// A PR expires when one of its repositories was searched for its commit.
    ExpireWithoutWidening,
    /// OK is said before a replica has the entry.
    AnswerWithoutWait,
    /// After a failover only what is held is reconciled.
    OnlyHeldIsMarked,
    /// What a gateway was releasing when Redis lost it is not written again.
    NothingIsWrittenAgain,
    /// It is marked as releasing again, without a reconcile.
    ReleasedAgainWithoutReconcile,
    /// A gateway never marks what it has published itself, even if its settlement does not count.
    OwnCommitsIgnoredForGood,
    /// What is overdue expires although a repository of it could not be read or changed.
    ExpireWithoutReading,
    /// What a reconcile leaves because others hold its lock is not marked dirty.
    LeftWithoutMark,
    /// What was locked besides is changed on facts that were read before.
    ExtendedWithoutReading,
    /// A push takes what it has read for all that its events matter to.
    UnreadIsSettled,
    /// Whom announcements list is noted when they are held, and never mended or written again.
    ListingsAreNeverMended,
    /// A new note of who lists whom raises no number of what is being decided meanwhile.
    NotedInSilence,
    /// A reconcile relies on what it has seen in a repository that it has not locked.
    ReliesOnUnlocked,
    /// What a repository cannot be read for stays to be done by whoever else came across it, too.
    FailureStopsOthers,
    /// What is kept of a state ends by the plan that has it expire, though a push has extended it meanwhile.
    PartsEndUnasked,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::SettleBeforePublish,
        Self::SettleWithoutLease,
        Self::HeldIsStored,
        Self::ClearUnconditionally,
        Self::DirtyBeforeUpload,
        Self::NoOtherPublisher,
        Self::GoverningWithoutReleasing,
        Self::RelayBeforePurgatory,
        Self::ShortReadIsFact,
        Self::PluginJudgesData,
        Self::ReleasedOutOfOrder,
        Self::ExpireWithoutWidening,
        Self::AnswerWithoutWait,
        Self::OnlyHeldIsMarked,
        Self::NothingIsWrittenAgain,
        Self::ReleasedAgainWithoutReconcile,
        Self::OwnCommitsIgnoredForGood,
        Self::ExpireWithoutReading,
        Self::LeftWithoutMark,
        Self::ExtendedWithoutReading,
        Self::UnreadIsSettled,
        Self::ListingsAreNeverMended,
        Self::NotedInSilence,
        Self::ReliesOnUnlocked,
        Self::FailureStopsOthers,
        Self::PartsEndUnasked,
    ];
}
