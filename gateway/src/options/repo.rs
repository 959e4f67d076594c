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
use crate::options::server::GatewayOptions;

/// What to do.
#[derive(Args)]
pub(crate) struct RepoOptions {
    #[command(subcommand)]
    pub(crate) action: RepoAction,
}

#[derive(Subcommand)]
pub(crate) enum RepoAction {
    /// Lists the repositories and what they take of the disk.
    List(RepoListOptions),
    /// Shows one: whose state governs it, which refs are not as that declares, its size, and what waits for it.
    Show(Box<RepoShowOptions>),
    /// Names refs that differ from the governing state or that no state declares, missing objects, and repositories
    /// that nobody announces here. Changes nothing.
    ///
    /// Ends with 0: all are well; 1: something is wrong.
    Check(Box<RepoCheckOptions>),
    /// Has a running gateway reconcile repositories now, and checks them after that.
    ///
    /// Ends with 0: all are well; 1: something is wrong still. Missing objects come back by a push, or from a backup.
    Repair(Box<RepairOptions>),
    /// Combines and indexes the packs of repositories now, as far as that can be done.
    ///
    /// A running gateway does so by itself where it pays; both may work at the same time.
    Maintain(MaintainOptions),
}

#[derive(Args)]
pub(crate) struct RepoListOptions {
    /// size: the largest repositories first; name: repositories by name; owner: the owners who have most, and how much.
    #[arg(
        long,
        value_name = "ORDER",
        value_enum,
        default_value = "size",
        hide_possible_values = true
    )]
    pub(crate) by: ListedBy,
    /// Only what this owner has.
    #[arg(long, value_name = "NPUB", value_parser = author)]
    pub(crate) owner: Option<PublicKey>,
    /// Answer in JSON, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
    /// The data directory of the gateway.
    #[arg(long, value_name = "DIR", default_value = "./grasp-data")]
    pub(crate) data_dir: PathBuf,
}

/// What a list of repositories has, in which order.
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

/// How to look at a repository: with all options of the server, whose it is.
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
    /// For how long to wait until a gateway has reconciled a repository.
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
    #[arg(long, value_name = "DIR", default_value = "./grasp-data")]
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
