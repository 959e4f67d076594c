//! What both programs take as options, and how they are checked.

#[cfg(feature = "io")]
pub mod access_files;
pub mod checker;
#[cfg(feature = "options")]
pub mod limits;
#[cfg(all(feature = "io", feature = "options"))]
pub mod redis;
