//! Where the frames of a WebSocket end (RFC 6455, section 5.2), so that one of ours can stand between two that are
//! passed on. Pure.

/// Follows the bytes of one direction.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The head of the frame that begins, as far as it is known.
    head: Vec<u8>,
    /// What is missing of its payload.
    payload_left: u64,
}

impl Frames {
    /// Takes note of bytes that were passed on.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.payload_left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.payload_left -= skipped as u64;
            bytes = &bytes[skipped..];
            if let Some((&byte, rest)) = bytes.split_first() {
                self.head.push(byte);
                bytes = rest;
                if self.head.len() == head_bytes(&self.head) {
                    self.payload_left = payload_bytes(&self.head);
                    self.head.clear();
                }
            }
        }
    }

    /// Returns how many bytes surely belong to the frame that has begun; 0: none has.
    pub(crate) fn bytes_to_pass(&self) -> u64 {
        match self.head.is_empty() {
            true => self.payload_left,
            false => (head_bytes(&self.head) - self.head.len()) as u64,
        }
    }
}

/// Returns how long a head is that begins so: at least what is known of it.
fn head_bytes(head: &[u8]) -> usize {
    let Some(&second) = head.get(1) else { return 2 };
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    2 + length + mask
}

/// Returns how much payload follows a complete head.
fn payload_bytes(head: &[u8]) -> u64 {
    let number = |len: usize| head[2..2 + len].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    match head[1] & 0x7f {
        126 => number(2),
        127 => number(8),
        short => u64::from(short),
    }
}

/// Tells a client that the server goes away: status 1001, with a reason (RFC 6455, 7.4.1).
pub(crate) const GOING_AWAY: &[u8] = b"\x88\x14\x03\xe9server is stopping";

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize, mask: &[u8]) -> Vec<u8> {
        let flag = if mask.is_empty() { 0 } else { 0x80 };
        let mut frame = vec![0x81];
        match (u8::try_from(payload), u16::try_from(payload)) {
            (Ok(short), _) if short < 126 => frame.push(flag | short),
            (_, Ok(medium)) => {
                frame.push(flag | 126);
                frame.extend(medium.to_be_bytes());
            }
            _ => {
                frame.push(flag | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(std::iter::repeat_n(0xff, payload));
        frame
    }

    #[test]
    fn a_frame_ends_where_its_payload_ends_however_the_bytes_come() {
        for payload in [0, 1, 125, 126, 65_535, 65_536] {
            for mask in [&b""[..], b"mask"] {
                let one = frame(payload, mask);
                let two = [one.as_slice(), &one].concat();
                for chunk_bytes in [1, 2, 3, 7, 1000, two.len()] {
                    let mut frames = Frames::default();
                    let mut passed = 0;
                    for chunk in two.chunks(chunk_bytes) {
                        frames.pass(chunk);
                        passed += chunk.len();
                        let between = passed % one.len() == 0;
                        assert_eq!(
                            frames.bytes_to_pass() == 0,
                            between,
                            "{payload} {passed} of {}",
                            one.len()
                        );
                        let missing = (one.len() - passed % one.len()) as u64;
                        assert!(between || frames.bytes_to_pass() <= missing, "{payload} {passed}");
                    }
                }
            }
        }
    }

    #[test]
    fn going_away_is_one_whole_frame() {
        let mut frames = Frames::default();

        frames.pass(GOING_AWAY);

        assert_eq!(frames.bytes_to_pass(), 0);
        assert_eq!(GOING_AWAY.len(), 2 + usize::from(GOING_AWAY[1]));
    }
}
