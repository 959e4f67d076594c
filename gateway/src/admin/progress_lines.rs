//! The progress of work on many repositories: a line for each, and below them, on a terminal, a bar.

use std::io;
use std::io::IsTerminal;
use std::io::Write;

use shared::nip34::Coordinate;

use crate::admin::needs::repository;
use crate::command_error::CommandError;

/// Writes how far a command is.
pub(super) struct ProgressLines {
    count: usize,
    done: usize,
    is_terminal: bool,
}

impl ProgressLines {
    pub(super) fn new(count: usize) -> Self {
        Self {
            count,
            done: 0,
            is_terminal: io::stdout().is_terminal(),
        }
    }

    /// Shows the current repository, on a terminal.
    pub(super) fn begin(&self, coordinate: &Coordinate) -> Result<(), CommandError> {
        if !self.is_terminal {
            return Ok(());
        }
        let filled = BAR_WIDTH * self.done / self.count.max(1);
        let bar = format!("{}{}", "#".repeat(filled), "-".repeat(BAR_WIDTH - filled));
        write(&format!(
            "\r\x1b[K[{bar}] {}/{} {}",
            self.done,
            self.count,
            repository(coordinate)
        ))
    }

    /// Writes its outcome.
    pub(super) fn end(&mut self, coordinate: &Coordinate, text: &str) -> Result<(), CommandError> {
        let (done, count) = (self.done + 1, self.count);
        self.end_with(&format!("{done}/{count} {}: {text}", repository(coordinate)))
    }

    /// Writes a line of another form.
    pub(super) fn end_with(&mut self, line: &str) -> Result<(), CommandError> {
        self.done += 1;
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        write(&format!("{clear}{line}\n"))
    }
}

fn write(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(CommandError::because("cannot write what was done"))
}

const BAR_WIDTH: usize = 30;
