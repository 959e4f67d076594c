//! The options of maintenance, of the server and of `grasp-gateway repo maintain`.

use clap::Args;
use shared::options::values::ByteCount;
use shared::options::values::Expected;
use shared::options::values::HumanDuration;
use shared::options::values::SECS_MAX;
use shared::options::values::number;
use shared::options::values::seconds;
use shared::options::values::secs;

use crate::repositories::maintenance::MaintenanceSettings;

/// When the packs of a repository are maintained, and the limits of that.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
#[command(next_help_heading = "Maintenance of repositories")]
pub(crate) struct MaintenanceOptions {
    /// The number of packs at which a repository is maintained: they are combined and indexed. Fewer are enough when
    /// they have a tenth of its bytes, and 1 MiB.
    #[arg(long, value_name = "N", value_parser = number(2..=100_000_usize),
          default_value_t = MaintenanceSettings::DEFAULT.packs_max)]
    maintenance_packs_max: usize,
    /// How long a pack is kept after its objects are in another one. A fetch that reads it must not take longer.
    #[arg(long = "replaced-packs-keep-secs", value_name = "SECS", value_parser = seconds(0..=SECS_MAX),
          default_value_t = secs(MaintenanceSettings::DEFAULT.keep_replaced.as_secs()))]
    replaced_packs_keep: HumanDuration,
    /// How long unreachable objects are kept at least, from the time they were found. A state that names one of them
    /// again needs no push. The gateway looks for them four times within this time. 0: the next maintenance removes
    /// them.
    #[arg(long = "unreachable-keep-secs", value_name = "SECS", value_parser = seconds(0..=SECS_MAX),
          default_value_t = secs(MaintenanceSettings::DEFAULT.keep_unreachable.as_secs()))]
    unreachable_keep: HumanDuration,
    /// Maximum time of a git process that maintains a repository.
    #[arg(long = "maintenance-secs-max", value_name = "SECS", value_parser = seconds(1..=SECS_MAX),
          default_value_t = secs(MaintenanceSettings::DEFAULT.duration_max.as_secs()))]
    maintenance_max: HumanDuration,
    /// Maximum memory of a git process that maintains a repository.
    #[arg(long, value_name = "BYTES", value_parser = memory_of_git,
          default_value_t = ByteCount(MaintenanceSettings::DEFAULT.memory_bytes_max))]
    maintenance_memory_bytes_max: ByteCount,
}

impl MaintenanceOptions {
    /// Returns them as settings.
    pub(crate) fn settings(&self) -> MaintenanceSettings {
        MaintenanceSettings {
            packs_max: self.maintenance_packs_max,
            keep_replaced: *self.replaced_packs_keep,
            keep_unreachable: *self.unreachable_keep,
            duration_max: *self.maintenance_max,
            memory_bytes_max: self.maintenance_memory_bytes_max.0,
        }
    }
}

/// git does not even start with less.
fn memory_of_git(text: &str) -> Result<ByteCount, Expected> {
    let least = ByteCount(64 << 20);
    let enough = text.parse().ok().filter(|bytes: &ByteCount| bytes.0 >= least.0);
    enough.ok_or_else(|| Expected::new(format!("a size of at least {least}, such as 4GiB")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct MaintenanceOnly {
        #[command(flatten)]
        options: MaintenanceOptions,
    }

    #[test]
    fn each_option_of_maintenance_sets_its_own_setting() {
        let read = |arguments: &[&str]| {
            let arguments = ["test"].iter().chain(arguments);
            MaintenanceOnly::try_parse_from(arguments).unwrap().options.settings()
        };

        assert_eq!(read(&[]), MaintenanceSettings::DEFAULT);
        let given = read(&[
            "--maintenance-packs-max=2",
            "--replaced-packs-keep-secs=3",
            "--unreachable-keep-secs=6",
            "--maintenance-secs-max=4",
            "--maintenance-memory-bytes-max=64MiB",
        ]);
        let expected = MaintenanceSettings {
            packs_max: 2,
            keep_replaced: Duration::from_secs(3),
            keep_unreachable: Duration::from_secs(6),
            duration_max: Duration::from_secs(4),
            memory_bytes_max: 64 << 20,
        };
        assert_eq!(given, expected);
        for silly in [
            "--maintenance-memory-bytes-max=1",
            "--maintenance-packs-max=0",
            "--maintenance-secs-max=0",
        ] {
            assert!(MaintenanceOnly::try_parse_from(["test", silly]).is_err(), "{silly}");
        }
    }
}
