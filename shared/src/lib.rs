//! What both GRASP binaries believe: the rules of GRASP-01 as pure functions, and the purgatory.
//!
//! `nip34`, `git`, `rules` and `settings` take values and return values: they build without Redis, tokio, a clock, a
//! disk or an environment (`cargo check -p shared --no-default-features` proves it). Everything that touches one of
//! these stands behind the feature `io`, and what both programs take as options behind `options`.

#![cfg_attr(
    test,
    allow(
        clippy::too_many_lines,
        reason = "a decision is tested as a table, and tables of data are long"
    )
)]

pub mod git;
pub mod nip34;
pub mod purgatory;
pub mod rules;
pub mod settings;

#[cfg(feature = "io")]
pub mod access_files;
#[cfg(feature = "options")]
pub mod limit_options;
#[cfg(feature = "io")]
pub mod lookup;
#[cfg(feature = "io")]
pub mod policy;
#[cfg(all(feature = "io", feature = "options"))]
pub mod redis_options;
#[cfg(feature = "io")]
pub mod relay;
