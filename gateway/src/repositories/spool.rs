//! The pack of a push while it arrives: nothing of it is read by git before its last byte is here.

use std::fs::File;
use std::io;
use std::io::Seek;
use std::path::Path;

use tokio::io::AsyncWriteExt;

use crate::repositories::layout::Layout;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::pack::IngestError;
use crate::repositories::pack::IngestLimits;

/// A pack as sent: in memory while it is small, else in a file without a name, which ends with it.
#[derive(Debug)]
pub(crate) struct Spool {
    layout: Layout,
    limits: IngestLimits,
    memory: Vec<u8>,
    file: Option<tokio::fs::File>,
    bytes: u64,
}

pub(super) enum Spooled {
    Memory(Vec<u8>),
    /// A file, at its start.
    File(File),
}

impl Spool {
    /// Spools into the data directory, within `limits`.
    pub(super) fn new(layout: Layout, limits: IngestLimits) -> Self {
        Self {
            layout,
            limits,
            memory: Vec::new(),
            file: None,
            bytes: 0,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the next bytes of the pack.
    ///
    /// # Errors
    /// [`IngestError`] as soon as the bytes cannot be those of a pack within the limits.
    pub(crate) async fn push(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        let before = self.bytes;
        self.bytes += bytes.len() as u64;
        if self.bytes > self.limits.pack_bytes_max {
            return Err(IngestError::TooLarge {
                max_bytes: self.limits.pack_bytes_max,
            });
        }
        if let Some(file) = &mut self.file {
            return file.write_all(bytes).await.map_err(unwritten(self.layout.root()));
        }
        self.memory.extend_from_slice(bytes);
        if before < PACK_HEADER_LEN && self.bytes >= PACK_HEADER_LEN {
            self.check_header()?;
        }
        if self.memory.len() > MEMORY_BYTES_MAX {
            let layout = self.layout.clone();
            let file = in_background(move || layout.nameless_file())
                .await
                .map_err(unwritten(self.layout.root()))?;
            let mut file = tokio::fs::File::from_std(file);
            file.write_all(&self.memory)
                .await
                .map_err(unwritten(self.layout.root()))?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        Ok(())
    }

    pub(super) async fn finish(self) -> Result<Spooled, IngestError> {
        match self.bytes {
            0 => return Err(IngestError::NoPack),
            bytes if bytes < PACK_HEADER_LEN => return Err(IngestError::NotAPack),
            _ => {}
        }
        let Some(mut file) = self.file else {
            return Ok(Spooled::Memory(self.memory));
        };
        file.flush().await.map_err(unwritten(self.layout.root()))?;
        let mut file = file.into_std().await;
        file.rewind().map_err(unwritten(self.layout.root()))?;
        Ok(Spooled::File(file))
    }

    /// Reads the header of the pack (git `gitformat-pack(5)`): most that is no pack shows here.
    fn check_header(&self) -> Result<(), IngestError> {
        let start = &self.memory;
        let number = |at: usize| start[at..at + 4].iter().fold(0, |n, b| n << 8 | u32::from(*b));
        if !start.starts_with(b"PACK") || !matches!(number(4), 2 | 3) {
            return Err(IngestError::NotAPack);
        }
        let (count, max) = (number(8), self.limits.objects_max);
        if count > max {
            return Err(IngestError::TooManyObjects { count, max });
        }
        Ok(())
    }
}

fn unwritten(directory: &Path) -> impl FnOnce(io::Error) -> IngestError {
    let failed = failed("write a pack in", directory);
    move |error| failed(error).into()
}

const PACK_HEADER_LEN: u64 = 12;

/// Most bytes of one pack held in memory: most pushes are smaller, and cost no file.
const MEMORY_BYTES_MAX: usize = 64 * 1024;
