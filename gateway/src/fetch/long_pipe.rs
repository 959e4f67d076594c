//! The pipe of a long answer of git, read in large pieces.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::ioctl_fionbio;
use rustix::pipe::fcntl_setpipe_size;

/// The pipe of a long answer. git writes a few KiB at a time, and each time it would wake who waits for it: so nobody
/// does, and what comes together in a while is taken at once.
pub(super) struct LongPipe {
    pipe: File,
    buffer: Vec<u8>,
    is_wide: bool,
    /// Nothing was left in it the last time.
    is_drained: bool,
}

impl LongPipe {
    /// Takes over the pipe from the async threads, and widens it as far as this user may.
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&pipe, false)?;
        Ok(Self {
            // One user's pipes have a bound in all.
            is_wide: fcntl_setpipe_size(&pipe, WIDE_PIPE_BYTES).is_ok_and(|bytes| bytes >= WIDE_PIPE_BYTES),
            pipe: pipe.into(),
            buffer: vec![0; LONG_CHUNK_BYTES],
            is_drained: true,
        })
    }

    /// Returns what is in the pipe; nothing is the end. Blocks: a git that is killed ends it.
    pub(super) fn read(&mut self) -> io::Result<Bytes> {
        if self.is_wide && self.is_drained {
            thread::sleep(GATHER_TIME);
        }
        let len = loop {
            match self.pipe.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.is_drained = len < self.buffer.len();
        Ok(Bytes::copy_from_slice(&self.buffer[..len]))
    }
}

/// One read of a long answer.
const LONG_CHUNK_BYTES: usize = 128 << 10;

/// Linux' bound for a pipe of a user (`pipe(7)`).
const WIDE_PIPE_BYTES: usize = 1 << 20;

/// git fills a quarter of a wide pipe meanwhile.
const GATHER_TIME: Duration = Duration::from_micros(500);
