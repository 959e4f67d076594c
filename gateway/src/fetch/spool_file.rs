//! A file without a name: nothing is left of it when nobody uses it any more, or when the gateway dies.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::runtime::Handle;

use crate::repositories::layout::Layout;
use crate::repositories::layout::in_background;

#[derive(Debug)]
pub(super) struct SpoolFile {
    file: File,
    has_failed: AtomicBool,
}

impl SpoolFile {
    pub(super) async fn make(layout: &Layout) -> io::Result<Arc<Self>> {
        let layout = layout.clone();
        let file = in_background(move || layout.nameless_file()).await?;
        Ok(Arc::new(Self {
            file,
            has_failed: AtomicBool::new(false),
        }))
    }

    pub(super) async fn write(self: &Arc<Self>, bytes: Bytes, at: u64) -> io::Result<()> {
        let this = Arc::clone(self);
        in_background(move || this.file.write_all_at(&bytes, at)).await
    }

    /// Waits until the disk has all that was written, and has not failed over it.
    pub(super) async fn sync(self: &Arc<Self>) -> io::Result<()> {
        let this = Arc::clone(self);
        in_background(move || this.file.sync_data()).await
    }

    /// Reads `len` bytes. One that cannot be read has failed.
    pub(super) async fn read(self: &Arc<Self>, at: u64, len: usize) -> io::Result<Bytes> {
        let this = Arc::clone(self);
        let read = in_background(move || {
            let mut bytes = BytesMut::zeroed(len);
            this.file.read_exact_at(&mut bytes, at)?;
            Ok(bytes.freeze())
        });
        read.await
            .inspect_err(|_| self.has_failed.store(true, Ordering::Relaxed))
    }

    /// Whether somebody could not read it.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Ends it where waiting for the disk keeps nobody, if nobody else uses it.
    pub(super) fn close(file: Option<Arc<Self>>) {
        if let (Some(file), Ok(runtime)) = (file, Handle::try_current()) {
            runtime.spawn_blocking(move || drop(file));
        }
    }

    /// Cuts it off, as a disk that has lost something.
    #[cfg(test)]
    pub(super) fn cut(&self, len: u64) {
        self.file.set_len(len).unwrap();
    }
}
