//! The answer to a push: per-ref results, notes for the pusher, keepalives, the last flush (git `gitprotocol-pack(5)`,
//! "Report Status"; what clients show of it: docs/facts/git-http.md 3.2). Pure.

use bytes::Bytes;
use bytes::BytesMut;
use shared::rules::Commanded;
use shared::rules::Verdict;

use crate::command_list::PushCapabilities;
use crate::pkt_line::PktLine;

/// The results of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Why the pack was refused; `None`: it was not, or there was none.
    pub unpack_error: Option<String>,
    /// Each command with its verdict, in the order sent.
    pub commands: Vec<Commanded>,
}

/// Writes the answer in the form that the pusher's git asked for.
#[derive(Debug, Clone, Copy)]
pub struct ReportWriter {
    side_band: bool,
    quiet: bool,
    report: bool,
}

impl ReportWriter {
    /// Makes a writer for a pusher with `capabilities`.
    pub fn new(capabilities: &PushCapabilities) -> Self {
        Self {
            side_band: capabilities.side_band_64k,
            quiet: capabilities.quiet,
            report: capabilities.report_status,
        }
    }

    /// Returns `text` as lines that the client prints behind `remote: `; nothing without a side band.
    pub fn remote_text(&self, text: &str) -> Bytes {
        let mut out = BytesMut::new();
        if self.side_band {
            let lines = text.lines().map(|line| neutral(line) + "\n");
            band(BAND_TEXT, lines.collect::<String>().as_bytes(), &mut out);
        }
        out.freeze()
    }

    /// Returns `text` as [`ReportWriter::remote_text`] does for clients that want progress, and otherwise an empty
    /// packet, which git sends to keep a connection alive (`receive-pack.c`, `copy_to_sideband`).
    pub fn progress(&self, text: &str) -> Bytes {
        if !self.quiet {
            return self.remote_text(text);
        }
        let mut out = BytesMut::new();
        if self.side_band {
            PktLine::Data(&[BAND_REPORT]).encode(&mut out);
        }
        out.freeze()
    }

    /// Returns the results and the flush that ends the push for the client: all work must be done before it.
    pub fn finish(&self, report: &Report) -> Bytes {
        let mut lines = BytesMut::new();
        if self.report {
            write_report(report, &mut lines);
        }
        if !self.side_band {
            return lines.freeze();
        }
        let mut out = BytesMut::new();
        band(BAND_REPORT, &lines, &mut out);
        PktLine::Flush.encode(&mut out);
        out.freeze()
    }
}

fn write_report(report: &Report, out: &mut BytesMut) {
    match report.unpack_error.as_deref() {
        None => line("unpack ok", out),
        // An empty reason, or "ok", would read as success.
        Some("" | "ok") => line("unpack failed", out),
        Some(reason) => line(&format!("unpack {reason}"), out),
    }
    for Commanded { name, verdict } in &report.commands {
        match verdict {
            Verdict::InPlace | Verdict::Allow(_) | Verdict::Part(_) | Verdict::Stage { .. } => {
                line(&format!("ok {name}"), out)
            }
            Verdict::Refuse { reason } => line(&format!("ng {name} {reason}"), out),
        }
    }
    PktLine::Flush.encode(out);
}

/// Writes one line, cut if it is longer than a pkt-line. Ref names come first and fit, because they came in a pkt-line.
fn line(text: &str, out: &mut BytesMut) {
    let mut text = neutral(text);
    text.truncate(text.floor_char_boundary(PktLine::DATA_LEN_MAX - 1));
    text.push('\n');
    PktLine::Data(text.as_bytes()).encode(out);
}

/// Replaces control characters, which could end a line of the report or control the pusher's terminal.
fn neutral(text: &str) -> String {
    let replace = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(replace).collect()
}

/// Writes `bytes` to a band, in as many packets as needed.
fn band(number: u8, bytes: &[u8], out: &mut BytesMut) {
    for part in bytes.chunks(PktLine::DATA_LEN_MAX - 1) {
        let mut packet = Vec::with_capacity(part.len() + 1);
        packet.push(number);
        packet.extend_from_slice(part);
        PktLine::Data(&packet).encode(out);
    }
}

const BAND_REPORT: u8 = 1;
const BAND_TEXT: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(side_band_64k: bool, report_status: bool) -> ReportWriter {
        ReportWriter::new(&PushCapabilities {
            side_band_64k,
            report_status,
            ..PushCapabilities::default()
        })
    }

    fn refused(name: &str, reason: &str) -> Report {
        Report {
            unpack_error: None,
            commands: vec![
                Commanded {
                    name: "refs/heads/a".into(),
                    verdict: Verdict::InPlace,
                },
                Commanded {
                    name: name.into(),
                    verdict: Verdict::Refuse { reason: reason.into() },
                },
            ],
        }
    }

    #[test]
    fn results_go_to_band_one_and_a_flush_ends_the_push() {
        let report = refused("refs/heads/b", "no state");

        let answer = writer(true, true).finish(&report);

        let inner = "000eunpack ok\n0014ok refs/heads/a\n001dng refs/heads/b no state\n0000";
        assert_eq!(answer, format!("{:04x}\x01{inner}0000", inner.len() + 5));
    }

    #[test]
    fn without_a_side_band_there_is_only_the_report() {
        let plain = writer(false, true);

        assert_eq!(
            plain.finish(&refused("refs/heads/b", "x")),
            "000eunpack ok\n0014ok refs/heads/a\n0016ng refs/heads/b x\n0000"
        );
        assert!(plain.remote_text("hello").is_empty());
        assert!(writer(false, false).finish(&refused("refs/heads/b", "x")).is_empty());
        assert_eq!(writer(true, false).finish(&refused("refs/heads/b", "x")), "0000");
    }

    #[test]
    fn progress_is_shown_to_who_wants_it_and_a_sign_of_life_to_others() {
        let writer = |side_band_64k, quiet| {
            ReportWriter::new(&PushCapabilities {
                side_band_64k,
                quiet,
                ..PushCapabilities::default()
            })
        };

        assert_eq!(writer(true, false).progress("half"), "000a\x02half\n");
        assert_eq!(writer(true, true).progress("half"), "0005\x01");
        assert!(writer(false, false).progress("half").is_empty());
        assert!(writer(false, true).progress("half").is_empty());
    }

    #[test]
    fn a_failed_unpack_is_never_read_as_ok() {
        for (reason, expected) in [
            ("", "unpack failed\n"),
            ("ok", "unpack failed\n"),
            ("too large", "unpack too large\n"),
        ] {
            let report = Report {
                unpack_error: Some(reason.into()),
                commands: Vec::new(),
            };

            let answer = writer(false, true).finish(&report);

            assert_eq!(&answer[4..answer.len() - 4], expected.as_bytes());
        }
    }

    #[test]
    fn texts_cannot_forge_lines_or_steer_a_terminal() {
        let answer = writer(false, true).finish(&refused("refs/heads/b\nok refs/heads/c", "a\x1b[2J\nb\r\u{9b}c\0"));

        let text = String::from_utf8(answer.to_vec()).unwrap();
        assert!(text.contains("ng refs/heads/b?ok refs/heads/c a?[2J?b??c?\n"), "{text}");
        assert_eq!(writer(true, true).remote_text("a\x1b[31m\nb"), "000e\x02a?[31m\nb\n");
    }

    #[test]
    fn long_answers_are_split_into_whole_packets() {
        let text = "é".repeat(100_000);

        let mut bytes = &writer(true, true).remote_text(&text)[..];

        let (mut packets, mut shown) = (0, Vec::new());
        while let Some((frame, len)) = PktLine::decode(bytes).unwrap() {
            let PktLine::Data([2, data @ ..]) = frame else {
                panic!("{frame:?}")
            };
            assert!(data.len() <= 65515);
            shown.extend_from_slice(data);
            bytes = &bytes[len..];
            packets += 1;
        }
        assert_eq!((packets, shown), (4, format!("{text}\n").into_bytes()));
        let long = writer(false, true).finish(&refused(&"x".repeat(65400), &text));
        assert!(long.ends_with("\n0000".as_bytes()));
    }
}
