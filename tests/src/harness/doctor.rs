//! `grasp-gateway doctor` and `grasp-gateway repo` as the operator of a world calls them.

use serde_json::Value;

use crate::harness::process::program;
use crate::harness::process::shell;
use crate::harness::world::World;

/// What the doctor finds.
#[derive(Debug)]
pub struct Diagnosis {
    /// Its findings, as JSON.
    pub findings: Vec<Value>,
    /// How it ends.
    pub code: i32,
}

impl Diagnosis {
    /// Returns what is wrong, or may be: the check and the text with what mends it.
    pub fn named(&self) -> Vec<(&str, String)> {
        let bad = self.findings.iter().filter(|finding| finding["severity"] != "ok");
        bad.map(|finding| {
            let text = ["finding", "mend"].map(|name| finding[name].as_str().unwrap_or_default());
            (finding["check"].as_str().unwrap_or_default(), text.join(" | mend: "))
        })
        .collect()
    }

    /// Whether a check names a text, in the finding or in its mend.
    pub fn names(&self, check: &str, text: &str) -> bool {
        self.named()
            .iter()
            .any(|(name, found)| *name == check && found.contains(text))
    }
}

impl World {
    /// Calls the doctor with the options of the gateway, and more.
    ///
    /// # Panics
    /// It answers no JSON.
    pub async fn doctor(&self, more: &[&str]) -> Diagnosis {
        self.doctor_with(more, "").await
    }

    /// Calls `grasp-gateway repo` with the options of the gateway; returns how it ends, and what it writes.
    pub async fn repo(&self, words: &[&str]) -> (i32, String) {
        let options = self.gateway_arguments();
        let words = words.iter().copied().chain(options.iter().skip(1).map(String::as_str));
        let quoted: Vec<String> = words.map(|word| format!("'{word}'")).collect();
        let program = program("grasp-gateway").display().to_string();
        let answer = shell(&format!("{program} repo {} 2>&1; echo $?", quoted.join(" ")), "").await;
        let (text, code) = answer.trim_end().rsplit_once('\n').unwrap_or(("", &answer));
        (code.trim().parse().unwrap_or(-1), format!("{text}\n"))
    }

    /// Calls it with environment variables too.
    ///
    /// # Panics
    /// It answers no JSON.
    pub async fn doctor_with(&self, more: &[&str], variables: &str) -> Diagnosis {
        let mut arguments = self.gateway_arguments();
        arguments[0] = "doctor".to_owned();
        let is_replaced = |argument: &String| {
            let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
            more.iter().any(|other| name(other) == name(argument))
        };
        arguments.retain(|argument| !is_replaced(argument));
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let arguments: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
        let log = self.folder().join("doctor.log");
        let command = format!(
            "{variables} {} {} --json 2>>{}; echo $?",
            program("grasp-gateway").display(),
            arguments.join(" "),
            log.display()
        );
        let answer = shell(&command, "").await;
        let (findings, code) = answer.trim().rsplit_once('\n').unwrap_or_else(|| {
            panic!("no answer: {}", std::fs::read_to_string(&log).unwrap_or_default());
        });
        Diagnosis {
            findings: serde_json::from_str(findings).unwrap(),
            code: code.parse().unwrap(),
        }
    }
}
