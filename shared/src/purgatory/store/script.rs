//! The Lua scripts: one file for each atomic step, with a common part in front of it (`scripts/common.lua`). Redis runs
//! them, or this process (`memory/`).

use redis::Script;

use super::keys;

/// One script.
pub(super) struct PurgatoryScript {
    /// Its name in messages: "hold an event".
    pub(super) name: &'static str,
    pub(super) source: String,
    /// The script for Redis, called by its hash.
    pub(super) script: Script,
}

impl PurgatoryScript {
    pub(super) fn new(name: &'static str, file: &str) -> Self {
        // The flags must be in the first line (Redis manual, "Lua API reference", script flags).
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
