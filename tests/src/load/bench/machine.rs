//! On what was measured.

use std::fs;

use serde_json::Value;
use serde_json::json;

use crate::clients::git::GitClient;
use crate::harness::strfry::strfry_binary;

/// A machine, and what runs on it.
#[derive(Debug, Clone)]
pub struct Machine {
    facts: Vec<(&'static str, String)>,
}

impl Machine {
    /// Describes this one.
    ///
    /// # Panics
    /// It has no git.
    pub async fn this() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let git = GitClient::init(folder.path())
            .await
            .run(&["--version"])
            .await
            .expect_ok();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = after("/proc/meminfo", "MemTotal:").trim_end_matches(" kB").parse();
        let relay = if strfry_binary().is_some() {
            "strfry"
        } else {
            "strfry's stand-in"
        };
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        Self {
            facts: vec![
                ("processor", after("/proc/cpuinfo", "model name")),
                ("cores", cores.to_string()),
                ("memory_gib", memory.map_or(0, |kib: u64| kib >> 20).to_string()),
                ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
                ("git", git.trim().trim_start_matches("git version ").to_owned()),
                ("relay", relay.to_owned()),
                ("build", build.to_owned()),
            ],
        }
    }

    /// Returns it for programs.
    pub fn to_json(&self) -> Value {
        self.facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect()
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let facts: Vec<String> = self
            .facts
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        f.write_str(&facts.join(", ").replace('_', " "))
    }
}

/// Returns what follows a name in a file of Linux.
fn after(path: &str, name: &str) -> String {
    let text = read(path);
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value
        .unwrap_or("unknown")
        .trim_start_matches([' ', '\t', ':'])
        .trim()
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
