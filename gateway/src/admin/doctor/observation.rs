//! The results of the doctor, and how they are written.

use std::process::ExitCode;

use serde_json::Value;
use serde_json::json;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Well,
    /// It may be as meant, which only the operator knows.
    Note,
    /// It works now, but may fail later or for some clients.
    Warning,
    Wrong,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) severity: Severity,
    pub(super) text: String,
    /// The command, or the change, that corrects it; empty: nothing to correct.
    pub(super) mend: String,
}

impl Observation {
    pub(super) fn well(text: impl Into<String>) -> Self {
        Self::new(Severity::Well, text, "")
    }

    pub(super) fn note(text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Severity::Note, text, mend)
    }

    pub(super) fn warning(text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Severity::Warning, text, mend)
    }

    pub(super) fn wrong(text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Severity::Wrong, text, mend)
    }

    fn new(severity: Severity, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            severity,
            text: text.into(),
            mend: mend.into(),
        }
    }
}

/// What every check has found.
#[derive(Debug, Default)]
pub(super) struct Diagnosis(pub(super) Vec<(&'static str, Observation)>);

impl Diagnosis {
    /// Writes it for people: a line each, with the correction below.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (check, finding) in &self.0 {
            let mark = match finding.severity {
                Severity::Well => "ok     ",
                Severity::Note => "note   ",
                Severity::Warning => "warning",
                Severity::Wrong => "WRONG  ",
            };
            // One line each, whatever others have answered.
            let line = finding.text.replace(char::is_control, " ");
            text.push_str(&format!("{mark}  {check}: {line}\n"));
            if !finding.mend.is_empty() {
                text.push_str(&format!("         mend: {}\n", finding.mend));
            }
        }
        let count = |severity| {
            self.0
                .iter()
                .filter(|(_, finding)| finding.severity == severity)
                .count()
        };
        let (wrong, warnings) = (count(Severity::Wrong), count(Severity::Warning));
        text + &format!("{} checked, {wrong} wrong, {warnings} warnings\n", self.0.len())
    }

    /// Writes it for scripts.
    pub(super) fn json(&self) -> String {
        let rows = self.0.iter().map(|(check, finding)| {
            let severity = match finding.severity {
                Severity::Well => "ok",
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Wrong => "wrong",
            };
            json!({"check": check, "severity": severity, "finding": finding.text, "mend": finding.mend})
        });
        format!("{}\n", Value::Array(rows.collect()))
    }

    /// 0: all is well; 1: something is wrong; 2: nothing is, and something may be.
    pub(super) fn code(&self) -> ExitCode {
        let worst = self.0.iter().map(|(_, finding)| finding.severity).max();
        ExitCode::from(match worst.unwrap_or(Severity::Well) {
            Severity::Well | Severity::Note => 0,
            Severity::Wrong => 1,
            Severity::Warning => 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_its_mend_and_the_worst_decides_the_code() {
        let mut diagnosis = Diagnosis(vec![("disk", Observation::well("room"))]);
        diagnosis
            .0
            .push(("lists", Observation::note("line 1 matches nobody", "correct it")));
        assert_eq!(diagnosis.code(), ExitCode::from(0));
        diagnosis
            .0
            .push(("clock", Observation::warning("late\nby 5 s", "chronyc makestep")));
        assert_eq!(diagnosis.code(), ExitCode::from(2));
        let text = diagnosis.text();
        assert!(
            text.contains("warning  clock: late by 5 s\n         mend: chronyc makestep\n"),
            "{text}"
        );
        assert!(text.contains("note     lists: line 1"), "{text}");
        diagnosis.0.push(("redis", Observation::wrong("away", "")));
        assert_eq!(diagnosis.code(), ExitCode::from(1));
        assert!(diagnosis.text().ends_with("4 checked, 1 wrong, 1 warnings\n"));
        assert_eq!(
            serde_json::from_str::<Value>(&diagnosis.json()).unwrap()[3]["severity"],
            "wrong"
        );
    }
}
