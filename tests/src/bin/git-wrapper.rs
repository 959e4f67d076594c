//! A git that asks its test before and after it runs, and fails where that says so (`tests::faults::git_wrapper`).
//! Without an answer it is git.

use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;

use tests::faults::git_wrapper::REAL;
use tests::faults::git_wrapper::SOCKET;

fn main() -> ExitCode {
    let own = std::env::current_exe().unwrap_or_default();
    let directory = own.parent().unwrap_or(Path::new("/"));
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    #[expect(clippy::disallowed_methods, reason = "this is git, as the gateway runs it")]
    let mut git = Command::new(directory.join(REAL));
    git.args(&arguments);
    let subcommand = arguments.first().map(|first| first.to_string_lossy().into_owned());
    let asked = ask(&directory.join(SOCKET), &subcommand.unwrap_or_default());
    if let Ok(Answer::RunAndTell(mut test)) = asked {
        let status = git.status();
        // The test says when the end may be known, and whether it is as it was; one that has gone does not mind.
        let mut verdict = [0];
        if test.write_all(b"e").is_ok() && test.read_exact(&mut verdict).is_ok() && verdict == *b"f" {
            return fail();
        }
        return match status.map(|status| status.code()) {
            Ok(Some(code)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
            Ok(None) | Err(_) => ExitCode::FAILURE,
        };
    }
    if matches!(asked, Ok(Answer::Fail)) {
        return fail();
    }
    drop(git.exec());
    ExitCode::FAILURE
}

/// Ends as git does when the disk has an error.
fn fail() -> ExitCode {
    let said = writeln!(std::io::stderr(), "fatal: cannot read or write: Input/output error");
    // Whoever does not hear it sees the exit code.
    said.ok();
    ExitCode::from(128)
}

enum Answer {
    Run,
    Fail,
    RunAndTell(UnixStream),
}

fn ask(socket: &Path, subcommand: &str) -> std::io::Result<Answer> {
    let mut test = UnixStream::connect(socket)?;
    writeln!(test, "{} {subcommand}", std::process::id())?;
    let mut answer = [0];
    test.read_exact(&mut answer)?;
    Ok(match answer {
        [b'w'] => Answer::RunAndTell(test),
        [b'f'] => Answer::Fail,
        _ => Answer::Run,
    })
}
