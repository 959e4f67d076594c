//! The two protocols that a proxy takes apart into frames: Redis' RESP, and WebSockets with nostr messages. Pure.

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// RESP2 or RESP3.
    Redis,
    /// HTTP with an upgrade, then WebSocket frames; a plain HTTP answer passes as it is.
    WebSocket,
}

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connected.
    ToServer,
    /// Back.
    ToClient,
}

/// What comes next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The HTTP request with which a WebSocket begins, or its answer.
    Head,
    /// Frames.
    Frames,
    /// Bytes that are passed on as they come.
    Plain,
}

impl Wire {
    /// Returns how long the part before the first frame is, once it is complete.
    pub fn head_length(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Redis => Some(0),
            Self::WebSocket => Some(bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4),
        }
    }

    /// Tells what comes behind a head: without an upgrade there are no frames.
    pub fn after_head(self, head: &[u8], direction: Direction) -> Stage {
        let is_upgrade = match direction {
            Direction::ToServer => String::from_utf8_lossy(head)
                .to_lowercase()
                .contains("upgrade: websocket"),
            Direction::ToClient => head.starts_with(b"HTTP/1.1 101"),
        };
        match self == Self::Redis || is_upgrade {
            true => Stage::Frames,
            false => Stage::Plain,
        }
    }

    /// Returns how long the first frame is, once it is complete.
    pub fn frame_length(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Redis => resp_length(bytes),
            Self::WebSocket => {
                let frame = WebSocketFrame::read(bytes)?;
                let end = frame.start + frame.length;
                (bytes.len() >= end).then_some(end)
            }
        }
    }

    /// Tells whether a frame to Redis calls a script.
    pub fn is_counted(self, frame: &[u8]) -> bool {
        let name = frame.split(|byte| *byte == b'\n').nth(2).unwrap_or_default();
        let name = name.to_ascii_uppercase();
        self == Self::Redis
            && ["EVALSHA\r", "EVAL\r", "FCALL\r"]
                .iter()
                .any(|counted| name == counted.as_bytes())
    }

    /// Tells whether a frame from Redis answers no command.
    pub fn is_push(self, frame: &[u8]) -> bool {
        self == Self::Redis && frame.starts_with(b">")
    }

    /// Returns the id of the event that a frame sends to the relay.
    pub fn event_id(self, frame: &[u8]) -> Option<String> {
        let text = self.text(frame)?;
        let message: serde_json::Value = serde_json::from_str(&text).ok()?;
        (message[0] == "EVENT").then(|| message[1]["id"].as_str().map(str::to_owned))?
    }

    /// Returns the id of the event that a frame from the relay answers.
    pub fn answered_id(self, frame: &[u8]) -> Option<String> {
        let text = self.text(frame)?;
        let message: serde_json::Value = serde_json::from_str(&text).ok()?;
        (message[0] == "OK").then(|| message[1].as_str().map(str::to_owned))?
    }

    /// Returns a frame from the relay as one says it who gives up every query: nothing that was found, and an end that
    /// says that it is none.
    pub fn cut_query(self, frame: Vec<u8>) -> Option<Vec<u8>> {
        let message = self.text(&frame).and_then(|text| serde_json::from_str(&text).ok());
        let message: serde_json::Value = message.unwrap_or_default();
        match message[0].as_str() {
            // What is stored from now on is no answer to a query.
            Some("EVENT") if message[1] != "live" => None,
            Some("EOSE") => {
                let text = serde_json::json!(["CLOSED", message[1], "error: too many queries"]);
                Some(self.text_frame(&text.to_string()))
            }
            Some(_) | None => Some(frame),
        }
    }

    /// Makes a frame of a text, as a server sends it.
    pub fn text_frame(self, text: &str) -> Vec<u8> {
        let length = text.len();
        let mut frame = vec![0x81];
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short), _) if short < 126 => frame.push(short),
            (_, Ok(medium)) => {
                frame.push(126);
                frame.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    fn text(self, frame: &[u8]) -> Option<String> {
        if self != Self::WebSocket {
            return None;
        }
        let parsed = WebSocketFrame::read(frame).filter(|parsed| parsed.is_text)?;
        let payload = frame.get(parsed.start..parsed.start + parsed.length)?;
        let mask = parsed.mask.unwrap_or_default();
        let plain = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        String::from_utf8(plain.collect()).ok()
    }
}

struct WebSocketFrame {
    is_text: bool,
    mask: Option<[u8; 4]>,
    start: usize,
    length: usize,
}

impl WebSocketFrame {
    /// Reads the head of a frame (RFC 6455, 5.2).
    fn read(bytes: &[u8]) -> Option<Self> {
        let &[first, second, ..] = bytes else { return None };
        let (length, mut start) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            127 => (
                usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
                10,
            ),
            short => (usize::from(short), 2),
        };
        let mask = match second & 0x80 {
            0 => None,
            _ => Some(bytes.get(start..start + 4)?.try_into().ok()?),
        };
        start += mask.map_or(0, |_| 4);
        Some(Self {
            is_text: first & 0x0f == 1,
            mask,
            start,
            length,
        })
    }
}

/// Returns how long the value at the start is, once it is complete.
fn resp_length(bytes: &[u8]) -> Option<usize> {
    let line_end = bytes.windows(2).position(|window| window == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..line_end - 2]).ok()?.parse::<i64>().ok();
    let values = match bytes[0] {
        b'$' | b'=' | b'!' => {
            let length = usize::try_from(number()?).map_or(line_end, |length| line_end + length + 2);
            return (bytes.len() >= length).then_some(length);
        }
        b'*' | b'~' | b'>' => number()?,
        b'%' => 2 * number()?,
        // The attributes, and what they are of.
        b'|' => 2 * number()? + 1,
        _ => 0,
    };
    let mut end = line_end;
    for _ in 0..values {
        end += resp_length(bytes.get(end..)?)?;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_redis_ends_where_its_last_part_ends() {
        for value in [
            "+OK\r\n",
            ":12\r\n",
            "$3\r\nabc\r\n",
            "$-1\r\n",
            "*2\r\n$1\r\na\r\n*1\r\n:3\r\n",
            "%1\r\n+a\r\n:1\r\n",
            ">2\r\n+message\r\n$0\r\n\r\n",
            "_\r\n",
        ] {
            let longer = format!("{value}+next\r\n");
            assert_eq!(
                Wire::Redis.frame_length(longer.as_bytes()),
                Some(value.len()),
                "{value:?}"
            );
            assert_eq!(
                Wire::Redis.frame_length(&value.as_bytes()[..value.len() - 1]),
                None,
                "{value:?}"
            );
        }
    }

    #[test]
    fn only_scripts_count() {
        assert!(Wire::Redis.is_counted(b"*2\r\n$7\r\nEVALSHA\r\n$1\r\na\r\n"));
        assert!(!Wire::Redis.is_counted(b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n"));
        assert!(!Wire::Redis.is_counted(b"*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$4\r\nEVAL\r\n"));
    }

    #[test]
    fn an_event_is_found_behind_its_mask() {
        let text = format!(r#"["EVENT",{{"id":"{}"}}]"#, "a".repeat(64));
        let mask = [1, 2, 3, 4];
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));

        assert_eq!(Wire::WebSocket.frame_length(&frame), Some(frame.len()));
        assert_eq!(Wire::WebSocket.event_id(&frame), Some("a".repeat(64)));
        let answer = Wire::WebSocket.text_frame(r#"["OK","b",true,""]"#);
        assert_eq!(Wire::WebSocket.answered_id(&answer), Some("b".to_owned()));
        assert_eq!(Wire::WebSocket.event_id(&answer), None);
    }
}
