//! An answer that lists refs, made a piece at a time, so that a long one need not be in memory as a whole. Pure.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use bytes::BytesMut;
use shared::git::Oid;
use shared::git::RefName;

use crate::repositories::refs::RefSnapshot;

/// How an answer shows refs.
pub(crate) trait RefFormat: Send {
    /// Writes what precedes the refs.
    fn begin(&mut self, refs: &RefSnapshot, out: &mut BytesMut);
    /// Writes a ref, if it is to be shown.
    fn add(&mut self, refs: &RefSnapshot, name: &RefName, oid: Oid, out: &mut BytesMut);
    /// Writes what follows the refs.
    fn end(&mut self, out: &mut BytesMut);
}

/// An answer, in pieces of about [`PIECE_BYTES`]. Each is a copy: one that waits for its reader keeps no other in
/// memory.
pub(crate) struct RefAnswer {
    begun: Bytes,
    rest: Option<UnwrittenRefs>,
}

/// What makes the rest of an answer.
struct UnwrittenRefs {
    refs: Arc<RefSnapshot>,
    format: Box<dyn RefFormat>,
    /// The last ref that was written; `None`: nothing was.
    after: Option<RefName>,
}

impl RefAnswer {
    /// Makes the answer whole if it has at most [`OWN_BYTES_MAX`], and else its beginning.
    pub(crate) fn begin(refs: &Arc<RefSnapshot>, format: impl RefFormat + 'static) -> Self {
        Self::with(refs, format, OWN_BYTES_MAX)
    }

    pub(crate) fn whole(refs: &Arc<RefSnapshot>, format: impl RefFormat + 'static) -> Bytes {
        Self::with(refs, format, usize::MAX).begun
    }

    fn with(refs: &Arc<RefSnapshot>, format: impl RefFormat + 'static, len: usize) -> Self {
        let all = UnwrittenRefs {
            refs: Arc::clone(refs),
            format: Box::new(format),
            after: None,
        };
        let mut out = BytesMut::new();
        let rest = all.write(&mut out, len);
        Self {
            // Of what it had to grow by, nothing is kept.
            begun: Bytes::copy_from_slice(&out),
            rest,
        }
    }

    /// Returns all of it, if it is made.
    pub(crate) fn made(&self) -> Option<&Bytes> {
        self.rest.is_none().then_some(&self.begun)
    }

    /// Returns all of it, if it may be in memory for each of its readers.
    pub(crate) fn short(&self) -> Option<&Bytes> {
        self.made().filter(|made| made.len() <= WHOLE_BYTES_MAX)
    }
}

impl From<Bytes> for RefAnswer {
    fn from(whole: Bytes) -> Self {
        Self {
            begun: whole,
            rest: None,
        }
    }
}

impl Iterator for RefAnswer {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if !self.begun.is_empty() {
            let piece = self.begun.split_to(self.begun.len().min(PIECE_BYTES));
            return Some(Bytes::copy_from_slice(&piece));
        }
        let mut out = BytesMut::with_capacity(PIECE_BYTES + LINE_BYTES);
        self.rest = self.rest.take()?.write(&mut out, PIECE_BYTES);
        Some(out.freeze())
    }
}

impl UnwrittenRefs {
    /// Writes until there are `len` bytes, or a line more. Returns what makes the rest.
    fn write(mut self, out: &mut BytesMut, len: usize) -> Option<Self> {
        let from = match &self.after {
            None => {
                self.format.begin(&self.refs, out);
                Bound::Unbounded
            }
            Some(last) => Bound::Excluded(last),
        };
        let shown = self.refs.refs.range((from, Bound::Unbounded));
        for (name, oid) in shown {
            self.format.add(&self.refs, name, *oid, out);
            if out.len() >= len {
                self.after = Some(name.clone());
                return Some(self);
            }
        }
        self.format.end(out);
        None
    }
}

/// What an answer that others may have too may take in memory as long as one of its readers takes nothing: that to some
/// thousand refs.
const WHOLE_BYTES_MAX: usize = 256 << 10;

/// The same of an answer to one request.
const OWN_BYTES_MAX: usize = 64 << 10;

/// One read of a reader on a fast line.
const PIECE_BYTES: usize = 32 << 10;

/// Of most refs.
const LINE_BYTES: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::advertise::Advertisement;
    use crate::fetch::ls_refs::LsRefs;
    use crate::repositories::testing::imported_refs;
    use wire::protocol::ProtocolVersion;

    /// Wherever the pieces end, they are what the whole is.
    fn assert_in_pieces<F: RefFormat + 'static>(refs: &Arc<RefSnapshot>, format: impl Fn() -> F) {
        let whole = RefAnswer::whole(refs, format());
        for len in [1, 100, 5_000, usize::MAX] {
            let pieces: Vec<Bytes> = RefAnswer::with(refs, format(), len).collect();
            assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES + LINE_BYTES));
            assert_eq!(pieces.concat(), whole);
        }
    }

    #[test]
    fn pieces_are_the_whole() {
        for count in [0, 1, 5_000] {
            let refs = Arc::new(imported_refs(count));
            assert_in_pieces(&refs, LsRefs::all);
            assert_in_pieces(&refs, || Advertisement::to_fetch(ProtocolVersion::V1, &refs));
            assert_in_pieces(&refs, || {
                Advertisement::to_push(ProtocolVersion::V0, vec![Oid::from_bytes([1; 20]).unwrap()])
            });
        }
    }

    #[test]
    fn only_a_long_answer_is_made_later() {
        for (count, is_short) in [(500, true), (5_000, false)] {
            let answer = RefAnswer::begin(&Arc::new(imported_refs(count)), LsRefs::all());

            assert_eq!(answer.short().is_some(), is_short);
            assert!(answer.begun.len() <= OWN_BYTES_MAX + LINE_BYTES);
        }
    }
}
