//! The frames of git's wire protocols.

use bytes::BytesMut;
use wire::pkt_line::PktLine;

/// Reads frame after frame. What is read is written as it came, and the start of a frame is no frame.
pub fn pkt_line(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((frame, len))) = PktLine::decode(rest) {
        let (bytes, after) = rest.split_at(len);
        let mut written = BytesMut::new();
        frame.encode(&mut written);
        // The length may be written in upper case.
        assert!(written[..4].eq_ignore_ascii_case(&bytes[..4]), "{frame:?}");
        assert_eq!(written[4..], bytes[4..]);
        for cut in [0, 3, len / 2, len - 1] {
            assert_eq!(PktLine::decode(&bytes[..cut]), Ok(None), "{cut} of {frame:?}");
        }
        rest = after;
    }
}
