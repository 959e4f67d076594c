//! The strfry that a gateway under test imports with: strfry itself, its double, or one that fails.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use crate::harness::process::program;

/// What the gateway is told of strfry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// Nothing.
    NotGiven,
    /// Where it is: strfry itself, or its double where the relay is the stand-in.
    Works,
    /// One that cannot import.
    Fails,
}

impl Import {
    /// Returns the program to name.
    ///
    /// # Panics
    /// The one that fails cannot be written into the folder.
    pub fn program(self, folder: &Path) -> Option<PathBuf> {
        match self {
            Self::NotGiven => None,
            // The double is built with the test, beside the programs.
            Self::Works => Some(std::env::var_os("STRFRY_BIN").map_or_else(|| program("strfry-double"), PathBuf::from)),
            Self::Fails => Some(failing_strfry(folder)),
        }
    }
}

/// A strfry whose every import fails.
fn failing_strfry(folder: &Path) -> PathBuf {
    let script = folder.join("failing-strfry");
    let text = "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'strfry 1.1.0'\necho 'strfry error: no' >&2\nexit 1\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}
