//! What both programs decide by: how long events wait, who counts as maintainer, and the operator's lists.

use clap::Args;

use crate::options::access_files::AccessFiles;
use crate::options::access_files::AccessPaths;
use crate::options::config_errors::ConfigErrors;
use crate::options::values::HumanDuration;
use crate::options::values::SECS_MAX;
use crate::options::values::seconds;
use crate::options::values::secs;
use crate::rules::MaintainerMode;

/// What both programs decide by. Give both the same.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rules, the same for both programs")]
pub struct RuleOptions {
    /// How long an event waits for its git data.
    #[arg(long = "hold-secs", value_name = "SECS", value_parser = seconds(1..=SECS_MAX), default_value_t = HOLD)]
    pub hold: HumanDuration,
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

/// GRASP-01 asks for 30 minutes.
const HOLD: HumanDuration = secs(1800);
