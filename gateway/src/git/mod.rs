//! git on disk and on the wire: repositories, refs, packs, pkt-lines. No HTTP, no nostr relay, no policy.
//!
//! Reads of refs and all parsing of client bytes are native; packs and ref transactions are real git's
//! (facts/git-http 0).

mod advertise;
mod child;
mod command;
mod command_list;
mod conversation;
mod copy;
mod fetch_request;
mod ingest;
mod invocation;
mod layout;
mod ls_refs;
mod objects;
mod pkt_line;
mod protocol;
mod quarantine;
mod ref_cache;
mod ref_transaction;
mod refs;
mod report;
mod repository;
mod staging;
#[cfg(test)]
mod testing;
mod turns;
mod upload_pack;
mod version;

pub use advertise::Advertisements;
pub use advertise::CaptureError;
pub use command::Git;
pub use command::GitError;
pub use command::SMALL_GITS_MAX;
pub use command_list::Command;
pub use command_list::CommandDefect;
pub use command_list::CommandList;
pub use command_list::CommandListError;
pub use command_list::CommandListLimits;
pub use command_list::CommandListParser;
pub use command_list::PushCapabilities;
pub use command_list::Step;
pub use copy::CopyError;
pub use copy::copy_objects;
pub use ingest::IngestError;
pub use ingest::IngestLimits;
pub use layout::Layout;
pub use layout::LayoutError;
pub use layout::SweepReport;
pub use ls_refs::LsRefsError;
pub use objects::ObjectError;
pub use objects::object_kinds;
pub use pkt_line::PktLine;
pub use pkt_line::PktLineError;
pub use pkt_line::text_line;
pub use protocol::GitProtocol;
pub use protocol::ProtocolVersion;
pub use quarantine::Quarantine;
pub use ref_transaction::ApplyError;
pub use ref_transaction::RefTransaction;
pub use refs::Head;
pub use refs::RefReadError;
pub use refs::RefSnapshot;
pub use report::Report;
pub use report::ReportWriter;
pub use repository::CreateError;
pub use repository::Repositories;
pub use repository::Repository;
pub use staging::AdmitError;
pub use staging::Staging;
pub use upload_pack::Target;
pub use upload_pack::UploadPack;
pub use upload_pack::UploadPackAnswer;
pub use upload_pack::UploadPackError;
pub use upload_pack::UploadPackLimits;
pub use version::GitVersion;
