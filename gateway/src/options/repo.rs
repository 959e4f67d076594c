//! The options of `grasp-gateway repo`.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use nostr::key::PublicKey;
use shared::options::values::HumanDuration;
use shared::options::values::seconds;
use shared::options::values::secs;

use crate::options::maintenance::MaintenanceOptions;
use crate::options::purgatory::NamedRepository;
use crate::options::purgatory::author;
use crate::options::server::DATA_DIR;
use crate::options::server::GatewayOptions;

/// What to do.
#[derive(Args)]
pub(crate) struct RepoOptions {
    #[command(subcommand)]
    pub(crate) action: RepoAction,
}

#[derive(Subcommand)]
pub(crate) enum RepoAction {
    /// Lists the repositories and their disk use.
    List(RepoListOptions),
    /// Shows one repository: its governing state, refs that differ from it, its size, and the events that wait for it.
    Show(Box<RepoShowOptions>),
    /// Reports refs that differ from the governing state or that no state declares, missing objects, and repositories
    /// without an announcement. Changes nothing.
    ///
    /// Exit status 0: no problem; 1: a problem was found.
    Check(Box<RepoCheckOptions>),
    /// Has a running gateway reconcile repositories now, and checks them after that.
    ///
    /// Exit status 0: no problem is left; 1: problems remain. Missing objects must be pushed again, or restored from a
    /// backup.
    Repair(Box<RepairOptions>),
    /// Combines and indexes the packs of repositories now.
    ///
    /// A running gateway does this by itself where it is worthwhile; both may work at the same time.
    Maintain(MaintainOptions),
}

#[derive(Args)]
pub(crate) struct RepoListOptions {
    /// size: the largest repositories first; name: repositories by name; owner: the owners with the highest disk use
    /// first.
    #[arg(
        long,
        value_name = "ORDER",
        value_enum,
        default_value = "size",
        hide_possible_values = true
    )]
    pub(crate) by: ListedBy,
    /// Only the repositories of this owner.
    #[arg(long, value_name = "NPUB", value_parser = author)]
    pub(crate) owner: Option<PublicKey>,
    /// Answer in JSON, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
    /// The data directory of the gateway.
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
}

/// The content of a list of repositories, and its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListedBy {
    Size,
    Name,
    Owner,
}

/// Some repositories, or all.
#[derive(Args)]
pub(crate) struct NamedRepositories {
    /// Which repositories.
    #[arg(value_name = "NPUB/IDENTIFIER", required_unless_present = "all")]
    pub(crate) repositories: Vec<NamedRepository>,
    /// All repositories of the data directory.
    #[arg(long, conflicts_with = "repositories")]
    pub(crate) all: bool,
}

/// The options of `repo show`.
#[derive(Args)]
pub(crate) struct RepoShowOptions {
    /// Which repository.
    #[arg(value_name = "NPUB/IDENTIFIER")]
    pub(crate) repository: NamedRepository,
    #[command(flatten)]
    pub(crate) inspect: InspectOptions,
}

/// The options of `repo check`.
#[derive(Args)]
pub(crate) struct RepoCheckOptions {
    #[command(flatten)]
    pub(crate) named: NamedRepositories,
    #[command(flatten)]
    pub(crate) inspect: InspectOptions,
}

/// How to inspect a repository: with all options of its server.
#[derive(Args)]
pub(crate) struct InspectOptions {
    /// Leave out the objects, which take most of the time.
    #[arg(long)]
    pub(crate) refs_only: bool,
    /// Answer in JSON, for scripts: of several repositories a line for each.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: GatewayOptions,
}

#[derive(Args)]
pub(crate) struct RepairOptions {
    /// How long to wait until a gateway has reconciled a repository.
    #[arg(long = "wait-secs", value_name = "SECS", value_parser = seconds(1..=600), default_value_t = secs(10))]
    pub(crate) wait: HumanDuration,
    #[command(flatten)]
    pub(crate) check: RepoCheckOptions,
}

#[derive(Args)]
pub(crate) struct MaintainOptions {
    #[command(flatten)]
    pub(crate) named: NamedRepositories,
    /// The data directory of the gateway.
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) maintenance: MaintenanceOptions,
}

impl RepoAction {
    /// Returns the options of the server that it was given; `None`: it takes few of them.
    pub(super) fn server(&self) -> Option<&GatewayOptions> {
        match self {
            Self::Show(options) => Some(&options.inspect.server),
            Self::Check(options) => Some(&options.inspect.server),
            Self::Repair(options) => Some(&options.check.inspect.server),
            Self::List(_) | Self::Maintain(_) => None,
        }
    }
}
