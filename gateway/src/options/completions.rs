//! What a shell needs to complete the options of this program.

use clap::Command;
use clap_complete::Shell;

/// Returns a shell's completions of a command.
pub(crate) fn completions(shell: Shell, mut command: Command) -> String {
    let mut written = Vec::new();
    clap_complete::generate(shell, &mut command, PROGRAM, &mut written);
    let script = String::from_utf8_lossy(&written).into_owned();
    match shell == Shell::Bash {
        // clap_complete names the blocks of subcommands otherwise than it calls them, where the program's name has a
        // dash (`src/aot/shells/bash.rs`): no subcommand would be completed.
        true => script.replace("grasp__subcmd__gateway", "grasp__gateway"),
        false => script,
    }
}

const PROGRAM: &str = "grasp-gateway";

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use super::*;
    use crate::options::GatewayCommand;
    use shared::options::read_options::ProgramOptions;

    /// Returns what bash offers for the last of these words.
    #[expect(clippy::disallowed_methods, reason = "bash, to see what it makes of our script")]
    fn offered(words: &[&str]) -> Vec<String> {
        let script = completions(Shell::Bash, GatewayCommand::definition());
        let ask = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={}; _grasp__gateway grasp-gateway {} {}; echo \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() - 1,
            words.last().unwrap(),
            words[words.len() - 2],
        );
        let done = Process::new("bash").args(["-c", &ask]).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_commands_and_options_at_every_depth() {
        for (words, expected) in [
            (&["grasp-gateway", "purg"][..], "purgatory"),
            (&["grasp-gateway", "purgatory", "li"], "list"),
            (&["grasp-gateway", "serve", "--relay-u"], "--relay-url"),
            (&["grasp-gateway", "purgatory", "refusals", "--req"], "--request"),
            (&["grasp-gateway", "repo", "maintain", "--al"], "--all"),
        ] {
            assert_eq!(offered(words), [expected], "{words:?}");
        }
    }
}
