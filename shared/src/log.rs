//! The log of both programs, on standard error: as text or as JSON, and with the priority of each line where the
//! journal of systemd reads it (`sd-daemon(3)`).

use std::fmt;
use std::fs::File;
use std::io;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::Event;
use tracing::Level;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::FormatEvent;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::registry::LookupSpan;

use crate::options::environment::LogFormat;

/// Begins the log of this program; `name` stands in each line of text, where others write into the same log.
///
/// # Panics
/// It has begun before.
pub fn begin(directives: &str, format: LogFormat, name: Option<&'static str>) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let is_journal = is_journal();
    match (format, is_journal) {
        // The journal has its own times.
        (LogFormat::Text, true) => log
            .without_time()
            .map_event_format(|inner| Prefixed {
                is_journal,
                name,
                inner,
            })
            .init(),
        (LogFormat::Text, false) => log
            .map_event_format(|inner| Prefixed {
                is_journal,
                name,
                inner,
            })
            .init(),
        (LogFormat::Json, _) => log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .map_event_format(|inner| Prefixed {
                is_journal,
                name: None,
                inner,
            })
            .init(),
    }
}

/// Whether the journal reads standard error: systemd says so, and it was not redirected since.
fn is_journal() -> bool {
    let said = std::env::var("JOURNAL_STREAM").ok();
    let own = io::stderr().as_fd().try_clone_to_owned().and_then(|stderr| {
        let metadata = File::from(stderr).metadata()?;
        Ok(format!("{}:{}", metadata.dev(), metadata.ino()))
    });
    said.is_some() && said == own.ok()
}

/// Writes the priority and the program before each line.
struct Prefixed<F> {
    is_journal: bool,
    name: Option<&'static str>,
    inner: F,
}

impl<S, N, F> FormatEvent<S, N> for Prefixed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.is_journal {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        if let Some(name) = self.name {
            write!(writer, "{name}: ")?;
        }
        self.inner.format_event(context, writer, event)
    }
}

/// As `syslog(3)` numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
