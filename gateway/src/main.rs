//! `grasp-gateway`: starts the server and stops it on SIGTERM or SIGINT.

mod admin;
mod background;
mod command_error;
mod declare;
mod descriptors;
mod fairness;
mod fetch;
mod git;
mod http;
mod live_parts;
mod logged;
mod meter;
mod options;
mod outside;
mod outside_relay;
mod process;
mod push;
mod reconcile;
mod redis_mends;
mod repositories;
mod socket_activation;
mod start;
mod strfry_import;

use std::io;
use std::io::ErrorKind;
use std::io::Write;
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use crate::admin::unmatched_lines::name_unmatched_lines;
use crate::command_error::CommandError;
use crate::options::GatewayCommand;
use crate::options::GatewayOptions;
use crate::options::completions::completions;
use crate::start::Server;
use shared::agreement::Program;
use shared::agreement::keep_agreement;
use shared::log;
use shared::options::config_watch::ConfigWatch;
use shared::options::environment::LogFormat;
use shared::options::environment::log_directives;
use shared::options::environment::log_format;
use shared::options::environment::unknown_variables;
use shared::options::read_options::ProgramOptions;
use tokio::runtime::Runtime;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let command = match GatewayCommand::read(std::env::args_os().collect()) {
        Ok(command) => command,
        Err(errors) => {
            fail(&errors);
            return ExitCode::FAILURE;
        }
    };
    // Both were checked with the options.
    let directives = log_directives(LOG_DEFAULT).unwrap_or_else(|_| LOG_DEFAULT.to_owned());
    log::begin(&directives, log_format().unwrap_or(LogFormat::Text), None);
    for variable in unknown_variables(&GatewayCommand::definition()) {
        tracing::warn!("{variable}");
    }
    match socket_activation::take_listener()
        .map_err(Into::into)
        .and_then(|socket| run(command, socket))
    {
        Ok(code) => code,
        Err(error) => {
            fail(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run(command: GatewayCommand, activated: Option<TcpListener>) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let runtime = Runtime::new()?;
    let ended = runtime.block_on(async {
        match command {
            GatewayCommand::Serve(options) => {
                run_server(&options, activated).await?;
                Ok(ExitCode::SUCCESS)
            }
            GatewayCommand::Declare(declare) => {
                let clone_url = declare.run().await?;
                writeln!(io::stdout(), "{clone_url}")?;
                Ok(ExitCode::SUCCESS)
            }
            GatewayCommand::Doctor(options) => {
                let answer = admin::doctor::run(&options).await?;
                print(&answer.text)?;
                Ok(answer.code)
            }
            GatewayCommand::Config(options) => {
                print(&options.run()?)?;
                Ok(ExitCode::SUCCESS)
            }
            GatewayCommand::Completions { shell } => {
                print(&completions(shell, GatewayCommand::definition()))?;
                Ok(ExitCode::SUCCESS)
            }
            GatewayCommand::Man { folder } => {
                clap_mangen::generate_to(GatewayCommand::definition(), &folder).map_err(CommandError::because(
                    format!("cannot write the man pages into {}", folder.display()),
                ))?;
                Ok(ExitCode::SUCCESS)
            }
            GatewayCommand::Purgatory(options) => {
                let answer = admin::purgatory::run(&options).await?;
                print(&answer.text)?;
                Ok(answer.code)
            }
            GatewayCommand::Repo(options) => {
                let answer = admin::repo::run(&options).await?;
                print(&answer.text)?;
                Ok(answer.code)
            }
        }
    });
    // Threads that wait for a disk, or for the lock file of another server, can be cut off anywhere.
    runtime.shutdown_timeout(THREADS_END);
    ended
}

fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has closed its end: it has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

async fn run_server(
    options: &GatewayOptions,
    activated: Option<TcpListener>,
) -> Result<(), Box<dyn std::error::Error>> {
    descriptors::raise(&options.live.server);
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let hang_up = signal(SignalKind::hangup())?;
    let server = Server::start(options, activated).await?;
    let service = &server.loader().service;
    tracing::info!(
        bind = %server.address(),
        relay = service.relay_url(),
        clone = format!("{}/<npub>/<identifier>.git", service.http_origin()),
        "serving"
    );
    follow_operator(options, &server, hang_up);
    let signals = [stop.clone(), cut.clone()];
    tokio::spawn(async move {
        for signal in signals {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            signal.cancel();
        }
    });
    Ok(server.run(stop.cancelled_owned(), cut.cancelled_owned()).await?)
}

/// Follows what the operator changes while the server runs, and logs what may be a mistake.
fn follow_operator(options: &GatewayOptions, server: &Server, hang_up: Signal) {
    let (loader, live) = (server.loader(), server.live());
    if options.redis().is_some() {
        tokio::spawn(keep_agreement(Program::Gateway, loader.clone()));
    }
    let watch = ConfigWatch::new(
        loader.access.clone(),
        options.file.clone(),
        GatewayCommand::definition(),
        options.live,
        move |options| live.apply(options),
    );
    tokio::spawn(watch.follow(hang_up));
    let (lists, data_dir) = (options.rules.lists.clone(), options.data_dir.clone());
    tokio::spawn(name_unmatched_lines(loader.clone(), lists, data_dir));
}

/// Writes the error and its causes, for the operator who has just typed the command.
#[expect(
    clippy::print_stderr,
    reason = "the operator reads it on the terminal, whatever GRASP_LOG says"
)]
fn fail(error: &dyn std::error::Error) {
    eprintln!("grasp-gateway: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}

/// The level without GRASP_LOG.
const LOG_DEFAULT: &str = "info,nostr_lmdb=warn";

/// For threads that still work when the server has ended.
const THREADS_END: Duration = Duration::from_secs(2);
