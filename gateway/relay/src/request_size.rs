//! What a request takes in memory, known before it is parsed. Pure.

use serde_json::Deserializer;

/// A message that is no event, before it is parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestSize {
    /// The subscription, of the messages that name one.
    pub(super) subscription: Option<String>,
    /// Bytes that it takes about once it is parsed: its text, and so many for each filter and each value. Without
    /// these, short values would take twelve times what they are sent in.
    pub(super) bytes: usize,
}

impl RequestSize {
    /// Measures a message; `None`: it is an event, or no message at all.
    pub(super) fn of(text: &str) -> Option<Self> {
        let (verb, rest) = leading_string(text.trim_start().strip_prefix('[')?)?;
        if verb == "EVENT" {
            return None;
        }
        let subscription = rest.trim_start().strip_prefix(',').and_then(leading_string);
        Some(Self {
            subscription: subscription.map(|(subscription, _)| subscription),
            bytes: parsed_bytes(text),
        })
    }
}

/// Returns the JSON string that a text begins with, and what follows it.
fn leading_string(text: &str) -> Option<(String, &str)> {
    let mut strings = Deserializer::from_str(text).into_iter::<String>();
    let string = strings.next()?.ok()?;
    Some((string, text.get(strings.byte_offset()..)?))
}

/// Returns the bytes that a message takes about once it is parsed.
pub(super) fn parsed_bytes(text: &str) -> usize {
    let (mut is_in_string, mut is_escaped) = (false, false);
    let mut bytes = text.len();
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_in_string,
            b'"' => is_in_string = !is_in_string,
            _ if is_in_string => {}
            b'{' => bytes += FILTER_BYTES,
            b',' | b'[' => bytes += VALUE_BYTES,
            _ => {}
        }
    }
    bytes
}

/// Of an empty `Filter`.
const FILTER_BYTES: usize = 300;
/// Of a value in a set of a `Filter`, in addition to its text.
const VALUE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_and_each_value_counts_and_strings_are_not_looked_into() {
        let size = |text: &str| RequestSize::of(text).map(|size| (size.subscription, size.bytes - text.len()));

        let rows = [
            (r#"["REQ","s"]"#, Some("s"), 2 * 64),
            (r#"["REQ","s",{}]"#, Some("s"), 300 + 3 * 64),
            (r#" [ "REQ" , "s" , {"kinds":[1,2]}]"#, Some("s"), 300 + 5 * 64),
            (
                r##"["COUNT","s",{"#t":["[[,,{\"[,{","\\"]},{}]"##,
                Some("s"),
                600 + 6 * 64,
            ),
            (r#"["CLOSE","s"]"#, Some("s"), 2 * 64),
            (r#"["REQ",1]"#, None, 2 * 64),
        ];
        for (text, subscription, more) in rows {
            assert_eq!(size(text), Some((subscription.map(str::to_owned), more)), "{text}");
        }
        for text in ["", "x", "[]", "[1]", "{}", r#"["EVENT",{"tags":[[]]}]"#] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
