//! The options about the strfry that imports events which the relay refuses from clients.

use std::ffi::OsString;
use std::fs;
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clap::Args;
use clap::builder::OsStringValueParser;
use shared::options::config_errors::ConfigErrors;

use crate::strfry_import::StrfryPaths;

/// Where strfry is; both or neither. Empty counts as not given: that is how an environment file leaves them unset.
#[derive(Debug, Clone, Args)]
pub(crate) struct StrfryOptions {
    /// The strfry binary, to import events that the relay refuses from any client: protected ones (NIP-70), and those
    /// that are too old or too far in the future. Needs --strfry-conf and --relay-url [default: such events are stuck].
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new())]
    strfry_bin: Option<OsString>,
    /// The configuration of the strfry at --relay-url, with an absolute path in `db`. This server's user must be able
    /// to write that database [default: none].
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new())]
    strfry_conf: Option<OsString>,
}

impl StrfryOptions {
    /// Returns where strfry is; `None`: not given.
    pub(crate) fn paths(&self) -> Option<StrfryPaths> {
        Some(StrfryPaths {
            program: path(self.strfry_bin.as_ref())?,
            config: path(self.strfry_conf.as_ref())?,
        })
    }

    /// Adds errors that can be found without running it.
    pub(crate) fn check(&self, has_relay_url: bool, errors: &mut ConfigErrors) {
        let Some(StrfryPaths { program, config }) = self.paths() else {
            if path(self.strfry_bin.as_ref())
                .or(path(self.strfry_conf.as_ref()))
                .is_some()
            {
                errors.push("--strfry-bin and --strfry-conf belong together: give both or neither");
            }
            return;
        };
        if !has_relay_url {
            errors.push("--strfry-bin needs --relay-url: the built-in relay is not strfry");
        }
        let is_program = |meta: Metadata| meta.is_file() && meta.permissions().mode() & 0o111 != 0;
        if !fs::metadata(&program).is_ok_and(is_program) {
            errors.push(format!("--strfry-bin is {}: it must be a program", program.display()));
        }
        if let Err(error) = fs::read_to_string(&config) {
            errors.push(format!(
                "--strfry-conf is {}, which cannot be read: {error}",
                config.display()
            ));
        }
    }
}

fn path(given: Option<&OsString>) -> Option<PathBuf> {
    given.filter(|path| !path.is_empty()).map(PathBuf::from)
}
