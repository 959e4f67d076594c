//! Finds values in a line of JSON without building a tree and without recursion: the rest of the line, however deep,
//! costs one pass and no stack.
//!
//! It takes more than JSON: brackets need not match, and what stands between values is not checked. Of JSON it finds
//! what every parser finds (`tests/fuzz/src/plugin_line.rs` compares).

use std::borrow::Cow;

/// Returns the members of an object, each with its name and its value as it stands there; of a name that is there
/// twice, the last one counts. Anything else has no members.
pub(crate) fn members(object: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, &[u8])> {
    let mut rest = Rest::inside(object, b'{');
    std::iter::from_fn(move || {
        loop {
            let name = rest.next_value()?;
            rest.skip_colon()?;
            let value = rest.next_value()?;
            // A value that is not text names nothing relevant.
            if let Some(name) = text(name) {
                return Some((name, value));
            }
        }
    })
}

/// Returns the elements of an array, each as it stands there. Anything else has none.
pub(crate) fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Rest::inside(array, b'[');
    std::iter::from_fn(move || rest.next_value())
}

/// Returns the content of a string; `None`: the value is not a string.
pub(crate) fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    // Most have nothing to decode; JSON contains no control characters.
    if inner.iter().all(|byte| !matches!(byte, b'\\' | b'"' | 0..0x20)) {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice(value).ok().map(Cow::Owned)
}

/// Returns a non-negative integer; `None`: the value is not one.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    serde_json::from_slice(value).ok()
}

/// The rest of the inside of an object or an array.
struct Rest<'l>(&'l [u8]);

impl<'l> Rest<'l> {
    fn inside(value: &'l [u8], opens: u8) -> Self {
        let value = value.trim_ascii_start();
        Self(value.strip_prefix(&[opens]).unwrap_or_default())
    }

    fn skip_colon(&mut self) -> Option<()> {
        self.0 = self.0.trim_ascii_start().strip_prefix(b":")?;
        Some(())
    }

    /// Takes the next value, after a comma if there is one; `None`: there is none.
    fn next_value(&mut self) -> Option<&'l [u8]> {
        let rest = self.0.trim_ascii_start();
        let rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
        let end = match rest.first()? {
            b'"' => string_end(rest)?,
            b'{' | b'[' => nested_end(rest)?,
            b'}' | b']' | b',' | b':' => return None,
            _ => rest.iter().position(is_delimiter).unwrap_or(rest.len()),
        };
        let (value, rest) = rest.split_at(end);
        self.0 = rest;
        Some(value)
    }
}

fn is_delimiter(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b':' | b'"' | b'[' | b']' | b'{' | b'}')
}

/// Returns where a string that begins here has ended.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Returns where an object or an array that begins here has ended.
fn nested_end(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0_usize, 0_usize);
    loop {
        match text.get(at)? {
            b'"' => {
                at += string_end(&text[at..])?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last<'l>(object: &'l [u8], wanted: &str) -> Option<&'l [u8]> {
        members(object)
            .filter(|(name, _)| name == wanted)
            .map(|(_, value)| value)
            .last()
    }

    #[test]
    fn members_are_found_behind_whatever_stands_before_them() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        for before in [
            "1",
            "-1.5e+3",
            "null",
            "\"\"",
            "\"}]\\\"id\\\":1\"",
            "\"\\\\\"",
            "{}",
            "[]",
            "{\"id\":2,\"x\":[{\"id\":3}]}",
            "\"\\ud800\"",
            &deep,
        ] {
            let line = format!(" {{ \"x\" : {before} , \"id\" : \"a\\u0062\" }}");
            assert_eq!(
                last(line.as_bytes(), "id").and_then(text).as_deref(),
                Some("ab"),
                "{}",
                line.len()
            );
        }
    }

    #[test]
    fn the_last_of_two_members_counts_however_its_name_is_written() {
        let line = br#"{"id":1,"\u0069d":2}"#;

        assert_eq!(last(line, "id").and_then(number), Some(2));
    }

    #[test]
    fn what_is_no_object_or_is_cut_off_has_no_members() {
        for line in [
            &b""[..],
            b"[]",
            b"null",
            b"\"id\"",
            b"{",
            b"{\"id",
            b"{\"id\"",
            b"{\"id\":",
            b"{\"id\":\"",
            b"{:1}",
            b"{,}",
        ] {
            assert_eq!(last(line, "id"), None, "{}", String::from_utf8_lossy(line));
        }
        assert_eq!(last(b"{\"x\":[1,{\"id\":2}", "id"), None);
    }

    #[test]
    fn elements_are_those_of_an_array() {
        let found = |array: &'static [u8]| elements(array).map(String::from_utf8_lossy).collect::<Vec<_>>();

        assert_eq!(
            found(br#"["a", 5 ,null,{"a":[1]},[[]] ,"b"]"#),
            ["\"a\"", "5", "null", "{\"a\":[1]}", "[[]]", "\"b\""]
        );
        assert!(found(b"[]").is_empty() && found(b"{\"a\":1}").is_empty() && found(b"5").is_empty());
    }
}
