//! What both GRASP binaries believe: the rules of GRASP-01 as pure functions, and the purgatory.
//!
//! `nip34`, `git` and `rules` take values and return values: they build without Redis, tokio, a clock, a
//! disk or an environment (`cargo check -p shared --no-default-features` proves it). Everything that touches one of
//! these stands behind the feature `io`.

#![cfg_attr(
    test,
    allow(
        clippy::too_many_lines,
        reason = "a decision is tested as a table, and tables of data are long"
    )
)]

pub mod address_group;
#[cfg(feature = "io")]
pub mod agreement;
#[cfg(feature = "io")]
mod connections_runtime;
#[cfg(feature = "io")]
pub mod decision_counts;
#[cfg(feature = "io")]
mod facts_scope;
pub mod git;
#[cfg(feature = "io")]
pub mod live;
#[cfg(feature = "io")]
pub mod load_facts;
#[cfg(feature = "io")]
mod load_in_parts;
#[cfg(feature = "io")]
mod load_outwards;
#[cfg(feature = "io")]
mod load_related;
#[cfg(feature = "io")]
pub mod log;
pub mod nip01;
pub mod nip34;
#[cfg(feature = "io")]
pub mod options;
pub mod purgatory;
#[cfg(feature = "io")]
pub mod refusal_log;
#[cfg(feature = "io")]
pub mod relay_client;
#[cfg(feature = "io")]
mod request_filters;
pub mod rules;
#[cfg(feature = "io")]
pub mod too_large;
#[cfg(feature = "io")]
pub mod write_policy;
