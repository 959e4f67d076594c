//! How far a long command is, on standard error: a bar on a terminal, and elsewhere a line now and then. What the
//! command is asked for goes to standard output, above the bar where both are the same terminal.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use indicatif::HumanDuration;
use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use parking_lot::Mutex;

/// How far a command is.
pub struct CommandProgress {
    bar: ProgressBar,
    /// When the next line is due; `None`: a bar is seen, or nothing is wanted.
    next_line: Mutex<Option<Instant>>,
}

impl CommandProgress {
    /// Begins `count` steps of work; shows nothing if the output goes to a script.
    pub fn new(count: u64, is_json: bool) -> Self {
        match is_json {
            true => Self::quiet(),
            false => Self::shown(count, io::stderr().is_terminal()),
        }
    }

    /// Shows nothing.
    pub fn quiet() -> Self {
        Self {
            bar: bar(0, false),
            next_line: Mutex::new(None),
        }
    }

    fn shown(count: u64, is_terminal: bool) -> Self {
        Self {
            bar: bar(count, is_terminal),
            next_line: Mutex::new((!is_terminal).then(|| Instant::now() + LINE_INTERVAL)),
        }
    }

    /// Names the current step.
    pub fn begin(&self, step: &str) {
        self.bar.set_message(step.to_owned());
        self.tell();
    }

    /// Updates the number of finished steps.
    pub fn set(&self, done: u64) {
        self.bar.set_position(done);
        self.tell();
    }

    /// Ends a step.
    pub fn end_step(&self) {
        self.set(self.bar.position() + 1);
    }

    /// Returns how many steps are done, and of how many.
    pub fn counts(&self) -> (u64, u64) {
        (self.bar.position(), self.bar.length().unwrap_or_default())
    }

    /// Writes a line to standard output.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn line(&self, line: &str) -> io::Result<()> {
        self.bar.suspend(|| {
            let mut stdout = io::stdout();
            stdout.write_all(format!("{line}\n").as_bytes())?;
            stdout.flush()
        })
    }

    /// Writes a line to standard error, where progress is shown: a failure to write does not stop the work.
    pub fn note(&self, line: &str) {
        self.bar
            .suspend(|| io::stderr().write_all(format!("{line}\n").as_bytes()).ok());
    }

    fn tell(&self) {
        let now = Instant::now();
        let mut next_line = self.next_line.lock();
        if next_line.is_some_and(|due| due <= now) {
            *next_line = Some(now + LINE_INTERVAL);
            self.note(&sentence(self.counts(), self.bar.eta(), &self.bar.message()));
        }
    }
}

impl Drop for CommandProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bar(count: u64, is_seen: bool) -> ProgressBar {
    let target = match is_seen {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let style = ProgressStyle::with_template(BAR).expect("the template is a constant");
    ProgressBar::with_draw_target(Some(count), target).with_style(style.progress_chars("#>-"))
}

fn sentence((done, count): (u64, u64), left: Duration, step: &str) -> String {
    let left = match left.as_secs() {
        0 => String::new(),
        1.. => format!(", about {} left", HumanDuration(left)),
    };
    let step = if step.is_empty() {
        String::new()
    } else {
        format!(": {step}")
    };
    format!("{done} of {count} done{left}{step}")
}

const BAR: &str = "[{bar:30}] {pos}/{len}, {eta} left  {wide_msg}";

/// Between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_counts_and_what_remains() {
        let minutes = Duration::from_secs(180);
        assert_eq!(
            sentence((12, 100), minutes, "r"),
            "12 of 100 done, about 3 minutes left: r"
        );
        assert_eq!(sentence((0, 100), Duration::ZERO, ""), "0 of 100 done");
    }

    #[test]
    fn steps_are_counted_whether_or_not_they_are_shown() {
        let progress = CommandProgress::new(3, false);

        progress.begin("one");
        progress.end_step();
        progress.end_step();

        assert_eq!(progress.counts(), (2, 3));
        assert_eq!(CommandProgress::new(3, true).counts(), (0, 0));
    }
}
