//! What both programs decide by: who counts as maintainer, and the operator's lists.

use clap::Args;

use crate::options::access_files::AccessFiles;
use crate::options::access_files::AccessPaths;
use crate::options::config_errors::ConfigErrors;
use crate::rules::MaintainerMode;

/// What both programs decide by. Give both the same.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rules, the same for both programs")]
pub struct RuleOptions {
    /// The rule by which listed maintainers count. hybrid: role tags by the reciprocal rule, the `maintainers` tag one
    /// way; reciprocal or recursive: one rule for both.
    #[arg(long, value_name = "MODE", value_enum, default_value_t, hide_possible_values = true)]
    pub maintainer_mode: MaintainerMode,
    /// The operator's lists.
    #[command(flatten)]
    pub lists: AccessPaths,
}

impl RuleOptions {
    /// Adds the errors in the operator's lists.
    pub fn check(&self, errors: &mut ConfigErrors) {
        if let Err(error) = AccessFiles::check(&self.lists) {
            errors.push(format!("{error}: {}", error.source));
        }
    }
}
