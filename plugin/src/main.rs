//! `grasp-plugin`: strfry's write policy. Git events are held in the purgatory until the gateway has their data; events
//! that have nothing to do with git pass at once.
//!
//! strfry runs it, one event at a time, from its only writer thread (docs/strfry-contract.md).

mod options;
mod run;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use plugin::chain::Chain;
use shared::agreement::Program;
use shared::agreement::keep_agreement;
use shared::decision_counts::DecisionCounts;
use shared::load_facts::FactLoader;
use shared::log;
use shared::options::access_files::AccessFiles;
use shared::options::config_watch::ConfigWatch;
use shared::options::environment::LogFormat;
use shared::options::environment::log_directives;
use shared::options::environment::log_format;
use shared::options::environment::unknown_variables;
use shared::options::read_options::ProgramOptions;
use shared::options::read_options::read_options;
use shared::purgatory::Purgatory;
use shared::refusal_log::RefusalLog;
use shared::relay_client::RelayClient;
use shared::too_large::TooLarge;
use shared::write_policy::RecentlyAccepted;
use shared::write_policy::WritePolicy;
use tokio::runtime::Handle;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::options::PluginOptions;
use crate::run::Answerer;

fn main() -> ExitCode {
    let options: PluginOptions = match read_options(&std::env::args_os().collect::<Vec<_>>()) {
        Ok(options) => options,
        Err(errors) => return fail(&errors.to_string()),
    };
    let (directives, format) = (log_directives(LOG_DEFAULT), log_format());
    // stdout is the protocol; strfry passes stderr on as it is, between the lines of its own log.
    log::begin(
        directives.as_deref().unwrap_or(LOG_DEFAULT),
        *format.as_ref().unwrap_or(&LogFormat::Text),
        Some("grasp-plugin"),
    );
    // No reason to end: strfry would refuse every event.
    for error in [directives.err(), format.err()].into_iter().flatten() {
        tracing::warn!("{error}");
    }
    // Those of the gateway may be here too, by the same file.
    for variable in unknown_variables(&PluginOptions::definition()) {
        if variable.meant.is_some() {
            tracing::warn!("{variable}");
        }
    }
    // One event at a time, so one thread is enough, and starts fastest.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let handle = runtime.handle().clone();
    // Connections stay alive and answers arrive while this thread reads lines.
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    match serve(options, &handle) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error}")),
    }
}

fn serve(options: PluginOptions, runtime: &Handle) -> Result<(), Box<dyn std::error::Error>> {
    let _entered = runtime.enter();
    let purgatory = runtime.block_on(Purgatory::connect(&options.redis(), options.held_limits))?;
    let relay = RelayClient::impatient(options.relay_url, RELAY_TIMEOUT);
    let refusals = RefusalLog::new(purgatory.clone());
    let decisions = DecisionCounts::begin(purgatory.clone());
    let policy = WritePolicy {
        loader: FactLoader {
            purgatory,
            relay,
            service: options.domain,
            mode: options.rules.maintainer_mode,
            access: AccessFiles::open(options.rules.lists)?,
        },
        other_kinds: options.other_kinds,
        answer_timeout: ANSWER_TIMEOUT,
        recently_accepted: RecentlyAccepted::default(),
        too_large: TooLarge::default(),
        refusals,
        decisions,
    };
    // Beside the first event, not before it: strfry counts our start into its time-out.
    runtime.spawn(keep_agreement(Program::Plugin, policy.loader.clone()));
    let purgatory = policy.loader.purgatory.clone();
    let watch = ConfigWatch::new(
        policy.loader.access.clone(),
        options.file,
        PluginOptions::definition(),
        options.held_limits,
        move |limits| purgatory.set_limits(*limits),
    );
    runtime.spawn(watch.follow(signal(SignalKind::hangup())?));
    let chain = Chain::new(options.chain);
    if let Some(chain) = &chain {
        chain.end_on_sigterm()?;
    }
    let answerer = Arc::new(Answerer { policy, chain });
    let ended = run::run(&answerer, runtime);
    if let Some(chain) = &answerer.chain {
        chain.end();
    }
    Ok(ended?)
}

#[expect(
    clippy::print_stderr,
    reason = "before the log exists, stderr is where strfry shows why its plugin ended"
)]
fn fail(text: &str) -> ExitCode {
    eprintln!("grasp-plugin: {text}");
    ExitCode::FAILURE
}

/// The level without GRASP_LOG.
const LOG_DEFAULT: &str = "info";

/// For one answer in all: every write of the relay waits for it. Far below strfry's own 10 s, after which it would
/// kill us.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// For one answer of the relay.
const RELAY_TIMEOUT: Duration = Duration::from_millis(800);
