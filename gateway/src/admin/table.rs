//! How values are shown on a terminal: whatever clients have written into them, they stay in their line.

use comfy_table::Table;
use comfy_table::presets;

/// Returns a table without lines.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().copied());
    table.add_rows(rows);
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Returns `text` without characters that a terminal acts upon.
pub(super) fn plain(text: &str) -> String {
    let is_formatting =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let escaped = text.chars().map(|c| match c.is_control() || is_formatting(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    escaped.collect()
}

/// Returns a time as its two largest units.
pub(super) fn span(secs: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = UNITS.iter().position(|(unit, _)| secs >= *unit).unwrap_or(3);
    let (unit, name) = UNITS[first];
    let next = UNITS.get(first + 1).map(|(next, name)| (secs % unit / next, name));
    match next.filter(|(count, _)| *count > 0) {
        Some((count, next)) => format!("{}{name} {count}{next}", secs / unit),
        None => format!("{}{name}", secs / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (secs, text) in [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3_600, "1h"), (90_061, "1d 1h")] {
            assert_eq!(span(secs), text);
        }
    }

    #[test]
    fn nothing_that_a_client_wrote_acts_on_a_terminal() {
        assert_eq!(
            plain("a\u{1b}[31m\n\u{9b}b\u{202e}c 🎉"),
            "a\\u{1b}[31m\\n\\u{9b}b\\u{202e}c 🎉"
        );
    }
}
