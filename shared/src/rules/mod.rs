//! The rules of GRASP-01: facts in, verdicts out. Nothing here logs, waits, reads or knows the time.

mod admission;
mod facts;
mod maintainers;
mod push;
mod refusal;
mod release;
mod service;

pub use admission::Admission;
pub use admission::GitEvent;
pub use admission::decide_admission;
pub use facts::Facts;
pub use facts::Hosting;
pub use facts::Known;
pub use facts::ServedEvents;
pub use facts::Standing;
pub use maintainers::MaintainerMode;
pub use maintainers::MaintainerModeError;
pub use maintainers::Membership;
pub use push::Atomicity;
pub use push::PushDecision;
pub use push::PushTarget;
pub use push::RefVerdict;
pub use push::decide_push;
pub use refusal::Refusal;
pub use release::Alignment;
pub use release::Disk;
pub use release::Installation;
pub use release::InstallationSource;
pub use release::OnDisk;
pub use release::Plan;
pub use release::Staged;
pub use release::plan;
pub use service::Service;
pub use service::ServiceError;
