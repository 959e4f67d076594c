//! The Lua scripts: one file for each atomic step, with a common part in front of it (`scripts/common.lua`).

use redis::Script;

use super::keys;

/// One script.
pub(in crate::purgatory) struct PurgatoryScript {
    /// What it does, for messages: "hold an event".
    pub(in crate::purgatory) name: &'static str,
    /// Its text, to load it ahead.
    pub(in crate::purgatory) source: String,
    /// The script, called by its hash.
    pub(super) script: Script,
}

impl PurgatoryScript {
    pub(in crate::purgatory) fn new(name: &'static str, file: &str) -> Self {
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
