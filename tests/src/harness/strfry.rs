//! strfry itself, with the shipped configuration, where `STRFRY_BIN` names it.

use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;

use crate::harness::process::Process;
use crate::harness::wait::eventually;
use crate::harness::wait::is_listened_at;

/// The name of its configuration in a test's folder.
pub const STRFRY_CONF: &str = "strfry.conf";

/// Starts strfry.
///
/// # Panics
/// It does not listen.
pub async fn start_strfry(folder: &Path, port: u16, plugin: &str) -> Process {
    let binary = strfry_binary().expect("STRFRY_BIN names it");
    let arguments = strfry_arguments(folder, port, plugin);
    let strfry = Process::start(&binary, &arguments, &folder.join("strfry.log"));
    eventually("strfry listens", async || is_listened_at(("127.0.0.1", port)).await).await;
    strfry
}

/// Returns the strfry to test with; `None`: its stand-in.
pub fn strfry_binary() -> Option<PathBuf> {
    std::env::var_os("STRFRY_BIN").map(PathBuf::from)
}

/// Writes a configuration that is the shipped one, for a database in `folder`. Returns the arguments of strfry with it.
///
/// # Panics
/// It cannot be written.
pub fn strfry_arguments(folder: &Path, port: u16, plugin: &str) -> Vec<String> {
    let database = folder.join("strfry-db");
    std::fs::create_dir_all(&database).unwrap();
    let configuration = strfry_configuration(&[
        ("db", format!("{database:?}")),
        ("port", port.to_string()),
        ("plugin", format!("{plugin:?}")),
    ]);
    let path = folder.join(STRFRY_CONF);
    std::fs::write(&path, configuration).unwrap();
    vec![format!("--config={}", path.display()), "relay".to_owned()]
}

/// The shipped strfry.conf with some of its values replaced.
///
/// # Panics
/// One of the names is not in it exactly once.
pub fn strfry_configuration(settings: &[(&str, String)]) -> String {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../strfry-config/strfry.conf");
    let mut replaced = 0;
    let mut text = String::new();
    for line in std::fs::read_to_string(shipped).unwrap().lines() {
        let name = line.split('=').next().unwrap_or_default().trim();
        match settings.iter().find(|(setting, _)| *setting == name) {
            Some((setting, value)) => {
                writeln!(text, "{setting} = {value}").unwrap();
                replaced += 1;
            }
            None => writeln!(text, "{line}").unwrap(),
        }
    }
    assert_eq!(replaced, settings.len(), "each is in the file once");
    text
}
