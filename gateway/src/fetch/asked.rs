//! What a fetch asks for, as far as it decides how it is answered. Pure.

use std::path::Path;

use bytes::Buf;
use bytes::BytesMut;
use shared::git::Oid;

use crate::fetch::advertised::Advertised;
use crate::fetch::answer_key::AnswerKey;
use crate::fetch::answer_key::AnswerKeyParser;
use wire::pkt_line::PktLine;
use wire::protocol::GitProtocol;

#[derive(Debug)]
pub(super) struct Asked {
    /// `None`: the answer is for this client only.
    pub(super) key: Option<AnswerKey>,
    /// All that a ref reaches.
    pub(super) wants_tip: bool,
    /// The first objects that the client lists as its own.
    pub(super) haves: Vec<Oid>,
    /// It names more filters than a client needs: git asks each of them about each object.
    pub(super) has_long_filter: bool,
}

pub(super) struct AskedParser<'a> {
    advertised: &'a Advertised,
    key: AnswerKeyParser<'a>,
    rest: BytesMut,
    is_malformed: bool,
    wants_tip: bool,
    haves: Vec<Oid>,
    has_long_filter: bool,
}

impl<'a> AskedParser<'a> {
    pub(super) fn new(path: &Path, advertised: &'a Advertised, protocol: Option<&GitProtocol>) -> Self {
        Self {
            advertised,
            key: AnswerKeyParser::new(path, advertised, protocol),
            rest: BytesMut::new(),
            is_malformed: false,
            wants_tip: false,
            haves: Vec::new(),
            has_long_filter: false,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        while !self.is_malformed {
            match PktLine::decode(&rest) {
                Ok(Some((frame, len))) => {
                    self.key.take(&frame);
                    if let PktLine::Data(line) = frame {
                        self.line(line);
                    }
                    rest.advance(len);
                }
                Ok(None) => {
                    self.rest = rest;
                    return;
                }
                Err(_) => self.is_malformed = true,
            }
        }
    }

    pub(super) fn asked(self, repository: &Path) -> Asked {
        let is_whole = !self.is_malformed && self.rest.is_empty();
        Asked {
            key: is_whole.then(|| self.key.key(repository)).flatten(),
            wants_tip: self.wants_tip,
            haves: self.haves,
            has_long_filter: self.has_long_filter,
        }
    }

    fn line(&mut self, line: &[u8]) {
        let oid_behind = |start: &[u8]| {
            let oid = line.strip_prefix(start)?.first_chunk::<OID_CHARS>();
            Some(oid.and_then(|oid| std::str::from_utf8(oid).ok()?.parse::<Oid>().ok()))
        };
        if let Some(want) = oid_behind(b"want ") {
            // git may understand a line that is unknown here.
            self.wants_tip |= want.is_none_or(|oid| self.advertised.is_tip(&oid));
        } else if let Some(Some(have)) = oid_behind(b"have ").filter(|_| self.haves.len() < HAVES_MAX) {
            self.haves.push(have);
        } else if let Some(filter) = line.strip_prefix(b"filter ") {
            self.has_long_filter |= filter.len() > FILTER_BYTES_MAX;
        }
    }
}

const OID_CHARS: usize = 40;

/// As many as git names at first, from the newest on.
const HAVES_MAX: usize = 16;

/// Of a `combine:` of about ten filters.
const FILTER_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::repositories::refs::RefSnapshot;

    const TIP: &str = "1111111111111111111111111111111111111111";

    fn asked(request: &str) -> Asked {
        let refs = RefSnapshot {
            refs: [("refs/heads/main".parse().unwrap(), TIP.parse().unwrap())].into(),
            ..RefSnapshot::empty()
        };
        let (path, refs) = (Path::new("/r.git"), Advertised::new(Arc::new(refs)));
        let mut parser = AskedParser::new(path, &refs, None);
        for piece in request.as_bytes().chunks(7) {
            parser.take(piece);
        }
        parser.asked(path)
    }

    #[test]
    fn a_request_that_is_not_whole_is_for_one_client_only() {
        let want = format!("0032want {TIP}\n0000");
        assert!(asked(&want).key.is_some());
        for request in [format!("{want}0009do"), format!("{want}zzzz"), want[..20].to_owned()] {
            assert!(asked(&request).key.is_none(), "{request}");
        }
    }

    #[test]
    fn what_is_wanted_and_had_is_seen_however_much_there_is() {
        let have = format!("0032have {}\n", "2".repeat(40));
        let other = asked(&format!("0032want {}\n{have}", "3".repeat(40)));
        assert!(!other.wants_tip && other.haves.len() == 1);
        let tip = asked(&format!("{}0009what\n0040want {TIP} unknown-words\n", have.repeat(99)));
        assert!(tip.wants_tip && tip.haves.len() == HAVES_MAX);
        assert!(asked(&format!("0032want {}\n", "X".repeat(40))).wants_tip);
    }
}
