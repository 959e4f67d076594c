//! The Lua scripts: one file for each atomic step, with a common part in front of it (`scripts/common.lua`). Redis runs
//! them, or this process (`memory/`).

use redis::Script;

use super::keys;

/// One script. Its text is made when it is needed: with the common part all of them have more than a megabyte.
pub(super) struct PurgatoryScript {
    /// Its name in messages: "hold an event".
    pub(super) name: &'static str,
    file: &'static str,
    /// By which Redis calls it: the SHA-1 of its source.
    pub(super) hash: String,
}

impl PurgatoryScript {
    pub(super) fn new(name: &'static str, file: &'static str) -> Self {
        Self {
            name,
            file,
            hash: Script::new(&source(file)).get_hash().to_owned(),
        }
    }

    /// Returns all of its text.
    pub(super) fn source(&self) -> String {
        source(self.file)
    }
}

fn source(file: &str) -> String {
    // The flags must be in the first line (Redis manual, "Lua API reference", script flags).
    let (flags, body) = file.split_once('\n').unwrap_or((file, ""));
    let common = include_str!("scripts/common.lua");
    [flags, &keys::lua_table(), common, body].join("\n")
}
