//! `grasp-gateway doctor`: checks everything that the server needs, from inside and as clients reach it, and reports
//! each problem with the command that corrects it. One row for each check.

mod checked_server;
mod host;
mod lists;
mod observation;
mod probe;
mod public;
mod redis;
mod relay;
mod strfry;
mod time_outs;

use std::future::ready;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::timeout;

use crate::admin::command_answer::CommandAnswer;
use crate::admin::doctor::checked_server::CheckedServer;
use crate::admin::doctor::observation::Diagnosis;
use crate::admin::doctor::observation::Observation;
use crate::command_error::CommandError;
use crate::options::DoctorOptions;

/// The results of a check.
type Findings<'p> = Pin<Box<dyn Future<Output = Vec<Observation>> + Send + 'p>>;

/// One check: its name and its function.
type Check = (&'static str, for<'p> fn(&'p CheckedServer<'_>) -> Findings<'p>);

/// In the order in which the parts need each other: the first that is wrong often explains the rest.
const CHECKS: [Check; 20] = [
    ("data directory", |server| Box::pin(ready(host::data_directory(server)))),
    ("file system", |server| Box::pin(ready(host::file_system(server)))),
    ("disk space", |server| Box::pin(ready(host::disk_space(server)))),
    ("git", |server| Box::pin(host::git(server))),
    ("open files", |server| Box::pin(ready(host::open_files(server)))),
    ("redis", |server| Box::pin(redis::settings(server))),
    ("redis write time", |server| Box::pin(redis::write_time(server))),
    ("clock", |server| Box::pin(redis::clock(server))),
    ("relay", |server| Box::pin(relay::identity(server))),
    ("plugin", |server| Box::pin(relay::plugin(server))),
    ("large and old states", |server| Box::pin(strfry::limits(server))),
    ("strfry import", |server| Box::pin(strfry::import(server))),
    ("agreement", |server| Box::pin(relay::agreement(server))),
    ("lists", |server| Box::pin(lists::matched(server))),
    ("domain", |server| Box::pin(public::reached(server))),
    ("git over http", |server| Box::pin(public::git(server))),
    ("size of pushes", |server| Box::pin(public::body_size(server))),
    ("pushes are passed on at once", |server| {
        Box::pin(public::buffering(server))
    }),
    ("websocket and client address", |server| {
        Box::pin(public::client_address(server))
    }),
    ("time-outs", |server| Box::pin(time_outs::time_outs(server))),
];

/// Runs all checks.
///
/// # Errors
/// The options do not give a required address.
pub(crate) async fn run(options: &DoctorOptions) -> Result<CommandAnswer, CommandError> {
    let server = CheckedServer::open(options).await?;
    let mut diagnosis = Diagnosis::default();
    let check_max = CHECK_MAX + server.silence;
    for (name, run) in CHECKS {
        let found = timeout(check_max, run(&server)).await;
        let found = found.unwrap_or_else(|_| {
            let text = format!("this check did not end within {} s", check_max.as_secs());
            vec![Observation::wrong(text, "see whether the service that it checks hangs")]
        });
        diagnosis.0.extend(found.into_iter().map(|finding| (name, finding)));
    }
    if let (Some(loader), Some(probe)) = (&server.behind, server.probe.get()) {
        probe.take_back(&loader.purgatory).await;
    }
    Ok(CommandAnswer {
        text: match options.json {
            true => diagnosis.json(),
            false => diagnosis.text(),
        },
        code: diagnosis.code(),
    })
}

/// For one check, beside the time in which connections are silent.
const CHECK_MAX: Duration = Duration::from_secs(30);
