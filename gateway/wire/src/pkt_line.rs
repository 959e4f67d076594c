//! pkt-lines, the frames of git's wire protocols (git `gitprotocol-common(5)`, "pkt-line Format"). Strict, no I/O.

use std::fmt;
use std::fmt::Write;

use bytes::BufMut;
use bytes::BytesMut;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PktLine<'a> {
    /// `0000`: the end of a section.
    Flush,
    /// `0001`: between the parts of a section (protocol v2).
    Delimiter,
    /// `0002`: the end of a response (protocol v2).
    ResponseEnd,
    /// Anything else; never empty.
    Data(&'a [u8]),
}

/// Why bytes are not a pkt-line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PktLineError {
    /// The first four bytes are not hex digits.
    #[error("a pkt-line begins with four hex digits")]
    Length,
    /// `0003`, which has no meaning, or `0004`, an empty line, which git's own tools never send.
    #[error("a pkt-line cannot have the length {len}")]
    Short {
        /// The length, header included.
        len: usize,
    },
    /// Longer than any pkt-line may be.
    #[error("a pkt-line has at most {max} bytes, not {len}", max = PktLine::LEN_MAX)]
    Long {
        /// The length, header included.
        len: usize,
    },
}

impl<'a> PktLine<'a> {
    /// Longest frame, header included.
    pub const LEN_MAX: usize = 65520;
    /// Longest content.
    pub const DATA_LEN_MAX: usize = Self::LEN_MAX - 4;

    /// Decodes the frame at the start of `bytes` and returns it with its length; `None` if it is incomplete.
    ///
    /// # Errors
    /// [`PktLineError`] as soon as the header is malformed.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, PktLineError> {
        let mut len = 0;
        for digit in bytes.iter().take(4) {
            // Not `from_str_radix`, which accepts a sign.
            let digit = char::from(*digit).to_digit(16).ok_or(PktLineError::Length)?;
            len = len << 4 | digit as usize;
        }
        if bytes.len() < 4 {
            return Ok(None);
        }
        let frame = match len {
            0 => return Ok(Some((Self::Flush, 4))),
            1 => return Ok(Some((Self::Delimiter, 4))),
            2 => return Ok(Some((Self::ResponseEnd, 4))),
            3 | 4 => return Err(PktLineError::Short { len }),
            5..=Self::LEN_MAX => bytes.get(4..len),
            _ => return Err(PktLineError::Long { len }),
        };
        Ok(frame.map(|data| (Self::Data(data), len)))
    }

    /// Appends the frame to `out`.
    ///
    /// # Panics
    /// If the data is empty or longer than [`PktLine::DATA_LEN_MAX`]; every caller writes lines that it has bounded.
    pub fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Flush => out.put_slice(b"0000"),
            Self::Delimiter => out.put_slice(b"0001"),
            Self::ResponseEnd => out.put_slice(b"0002"),
            Self::Data(data) => {
                out.put_slice(&header_of(data.len()));
                out.put_slice(data);
            }
        }
    }

    /// Appends a frame with `text` to `out`, without making the text first.
    ///
    /// # Panics
    /// As [`PktLine::encode`].
    pub fn encode_text(text: fmt::Arguments<'_>, out: &mut BytesMut) {
        let at = out.len();
        out.put_slice(b"0000");
        out.write_fmt(text)
            .expect("there is room for any text that fits into memory");
        let header = header_of(out.len() - at - 4);
        out[at..at + 4].copy_from_slice(&header);
    }
}

/// Returns what comes before so many bytes of data.
fn header_of(data_len: usize) -> [u8; 4] {
    assert!((1..=PktLine::DATA_LEN_MAX).contains(&data_len), "{data_len}");
    let len = data_len + 4;
    [12, 8, 4, 0].map(|shift| DIGITS[len >> shift & 15])
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_are_four_hex_digits_of_a_length_in_range() {
        for (bytes, expected) in [
            ("", Ok(None)),
            ("000", Ok(None)),
            ("0000", Ok(Some((PktLine::Flush, 4)))),
            ("0001x", Ok(Some((PktLine::Delimiter, 4)))),
            ("0002", Ok(Some((PktLine::ResponseEnd, 4)))),
            ("0003", Err(PktLineError::Short { len: 3 })),
            ("0004", Err(PktLineError::Short { len: 4 })),
            ("0005", Ok(None)),
            ("0005a", Ok(Some((PktLine::Data(b"a"), 5)))),
            ("000Aabcdef", Ok(Some((PktLine::Data(b"abcdef"), 10)))),
            ("fff0", Ok(None)),
            ("fff1", Err(PktLineError::Long { len: 65521 })),
            ("+0a5", Err(PktLineError::Length)),
            ("P", Err(PktLineError::Length)),
            (" 005a", Err(PktLineError::Length)),
        ] {
            assert_eq!(PktLine::decode(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn data_round_trips_and_is_incomplete_until_its_last_byte(data in prop::collection::vec(any::<u8>(), 1..300)) {
            let mut out = BytesMut::new();
            PktLine::Data(&data).encode(&mut out);

            prop_assert_eq!(PktLine::decode(&out), Ok(Some((PktLine::Data(&data), out.len()))));
            for end in 0..out.len() {
                prop_assert_eq!(PktLine::decode(&out[..end]), Ok(None));
            }
        }
    }
}
