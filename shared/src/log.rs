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

/// Begins the log of this program; `name` is in each line of text, where others write into the same log.
///
/// # Panics
/// It has begun before.
pub fn begin(directives: &str, format: LogFormat, name: Option<&'static str>) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let prefix = Prefix {
        is_journal: is_journal(),
        name: name.filter(|_| format == LogFormat::Text),
    };
    match format {
        // The journal has its own times.
        LogFormat::Text if prefix.is_journal => {
            let log = log.without_time();
            log.map_event_format(|inner| Prefixed { prefix, inner }).init();
        }
        LogFormat::Text => log.map_event_format(|inner| Prefixed { prefix, inner }).init(),
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_current_span(false);
            log.map_event_format(|inner| Prefixed { prefix, inner }).init();
        }
    }
}

/// Whether the journal reads standard error: systemd sets that in the environment, and it was not redirected since.
fn is_journal() -> bool {
    let said = std::env::var("JOURNAL_STREAM").ok();
    let own = io::stderr().as_fd().try_clone_to_owned().and_then(|stderr| {
        let metadata = File::from(stderr).metadata()?;
        Ok(format!("{}:{}", metadata.dev(), metadata.ino()))
    });
    said.is_some() && said == own.ok()
}

/// What is before each line: the priority for the journal, and the program.
#[derive(Clone, Copy)]
struct Prefix {
    is_journal: bool,
    name: Option<&'static str>,
}

struct Prefixed<F> {
    prefix: Prefix,
    inner: F,
}

impl<S, N, F> FormatEvent<S, N> for Prefixed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.prefix.is_journal {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        if let Some(name) = self.prefix.name {
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
