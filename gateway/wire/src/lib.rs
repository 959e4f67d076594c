//! The bytes that git clients send and read: URLs, pkt-lines, the command list of a push, the report on it. Pure: bytes
//! in, values out. The fuzz targets (`tests/fuzz`) feed each parser arbitrary bytes.

pub mod command_list;
pub mod path;
pub mod pkt_line;
pub mod protocol;
pub mod report;
