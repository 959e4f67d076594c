//! The Lua scripts: one file for each atomic step, with a common part in front of it (`scripts/common.lua`).

use std::sync::LazyLock;

use redis::Script;

use super::keys;

/// One step on Redis.
pub(super) struct Operation {
    /// What it does, for messages: "hold an event".
    pub(super) name: &'static str,
    /// The script, called by its hash.
    pub(super) script: Script,
    /// Its text, to load it ahead.
    pub(super) source: String,
}

/// Every step, by what it is called in [`super::super::Purgatory`].
pub(super) struct Operations {
    pub(super) read: Operation,
    pub(super) hold: Operation,
    pub(super) mark_dirty: Operation,
    pub(super) clear_dirty: Operation,
    pub(super) mark_overdue: Operation,
    pub(super) mark_releasing: Operation,
    pub(super) take_due: Operation,
    pub(super) settle: Operation,
    pub(super) extend: Operation,
    pub(super) expire: Operation,
    pub(super) end: Operation,
    pub(super) delete: Operation,
    pub(super) vanish: Operation,
    pub(super) note_waiting: Operation,
    pub(super) put_placeholder: Operation,
    pub(super) drop_placeholder: Operation,
    pub(super) epoch: Operation,
    pub(super) begin_epoch: Operation,
    pub(super) mark_held: Operation,
}

/// Builds an operation from a script file.
macro_rules! operation {
    ($name:literal, $file:literal) => {
        Operation::new($name, include_str!(concat!("scripts/", $file)))
    };
}

pub(super) static OPERATIONS: LazyLock<Operations> = LazyLock::new(|| Operations {
    read: operation!("read", "read.lua"),
    hold: operation!("hold an event", "hold.lua"),
    mark_dirty: operation!("mark identifiers dirty", "mark_dirty.lua"),
    clear_dirty: operation!("clear a dirty mark", "clear_dirty.lua"),
    mark_overdue: operation!("mark what is overdue", "mark_overdue.lua"),
    mark_releasing: operation!("mark events as releasing", "mark_releasing.lua"),
    take_due: operation!("take what is due", "take_due.lua"),
    settle: operation!("settle a release", "settle.lua"),
    extend: operation!("extend deadlines", "extend.lua"),
    expire: operation!("expire an event", "expire.lua"),
    end: operation!("end events", "end.lua"),
    delete: operation!("delete events", "delete.lua"),
    vanish: operation!("remove an author's events", "vanish.lua"),
    note_waiting: operation!("note what events wait for", "note_waiting.lua"),
    put_placeholder: operation!("record a placeholder", "put_placeholder.lua"),
    drop_placeholder: operation!("drop a placeholder", "drop_placeholder.lua"),
    epoch: operation!("read the epoch", "epoch.lua"),
    begin_epoch: operation!("begin an epoch", "begin_epoch.lua"),
    mark_held: operation!("mark everything held dirty", "mark_held.lua"),
});

impl Operations {
    /// Returns all of them, to load them ahead.
    pub(super) fn all(&self) -> [&Operation; 19] {
        [
            &self.read,
            &self.hold,
            &self.mark_dirty,
            &self.clear_dirty,
            &self.mark_overdue,
            &self.mark_releasing,
            &self.take_due,
            &self.settle,
            &self.extend,
            &self.expire,
            &self.end,
            &self.delete,
            &self.vanish,
            &self.note_waiting,
            &self.put_placeholder,
            &self.drop_placeholder,
            &self.epoch,
            &self.begin_epoch,
            &self.mark_held,
        ]
    }
}

impl Operation {
    fn new(name: &'static str, file: &str) -> Self {
        // The flags must stand in the first line (Redis manual, "Lua API reference", script flags).
        let (flags, body) = file.split_once('\n').unwrap_or((file, ""));
        let common = include_str!("scripts/common.lua");
        let source = format!("{flags}\n{}\n{common}\n{body}", keys::lua_table());
        Self {
            name,
            script: Script::new(&source),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_adds_is_refused_by_a_full_redis() {
        let first_line = |operation: &Operation| operation.source.lines().next().unwrap().to_owned();

        let refused: Vec<_> = OPERATIONS
            .all()
            .into_iter()
            .filter(|operation| first_line(operation) != "#!lua flags=allow-oom")
            .map(|operation| (operation.name, first_line(operation)))
            .collect();

        let plain = "#!lua".to_owned();
        assert_eq!(
            refused,
            [("hold an event", plain.clone()), ("record a placeholder", plain)]
        );
    }
}
