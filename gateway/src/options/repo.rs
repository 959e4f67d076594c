//! The options of `grasp-gateway repo`.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;

use crate::options::maintenance::MaintenanceOptions;
use crate::options::purgatory::NamedRepository;

/// What to do.
#[derive(Args)]
pub(crate) struct RepoOptions {
    #[command(subcommand)]
    pub(crate) action: RepoAction,
}

#[derive(Subcommand)]
pub(crate) enum RepoAction {
    /// Combines and indexes the packs of repositories now, as far as that can be done.
    ///
    /// A running gateway does so by itself where it pays; both may work at the same time.
    Maintain(MaintainOptions),
}

#[derive(Args)]
pub(crate) struct MaintainOptions {
    /// Which repositories.
    #[arg(value_name = "NPUB/IDENTIFIER", required_unless_present = "all")]
    pub(crate) repositories: Vec<NamedRepository>,
    /// All repositories of the data directory.
    #[arg(long, conflicts_with = "repositories")]
    pub(crate) all: bool,
    /// The data directory of the gateway.
    #[arg(long, value_name = "DIR", default_value = "./grasp-data")]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) maintenance: MaintenanceOptions,
}
