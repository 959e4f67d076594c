//! `grasp-gateway doctor`: checks everything that the server needs, from inside and as clients reach it, and reports
//! each problem with the command that corrects it. One row for each check.

mod host;
mod lists;
mod observation;
mod patient;
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
use crate::admin::doctor::observation::Diagnosis;
use crate::admin::doctor::observation::Observation;
use crate::admin::doctor::patient::Patient;
use crate::command_error::CommandError;
use crate::options::DoctorOptions;

/// The results of a check.
type Findings<'p> = Pin<Box<dyn Future<Output = Vec<Observation>> + Send + 'p>>;

/// One check: its name and its function.
type Check = (&'static str, for<'p> fn(&'p Patient<'_>) -> Findings<'p>);

/// In the order in which the parts need each other: the first that is wrong often explains the rest.
const CHECKS: [Check; 20] = [
    ("data directory", |patient| {
        Box::pin(ready(host::data_directory(patient)))
    }),
    ("file system", |patient| Box::pin(ready(host::file_system(patient)))),
    ("disk space", |patient| Box::pin(ready(host::disk_space(patient)))),
    ("git", |patient| Box::pin(host::git(patient))),
    ("open files", |patient| Box::pin(ready(host::open_files(patient)))),
    ("redis", |patient| Box::pin(redis::settings(patient))),
    ("redis write time", |patient| Box::pin(redis::write_time(patient))),
    ("clock", |patient| Box::pin(redis::clock(patient))),
    ("relay", |patient| Box::pin(relay::identity(patient))),
    ("plugin", |patient| Box::pin(relay::plugin(patient))),
    ("large and old states", |patient| Box::pin(strfry::limits(patient))),
    ("strfry import", |patient| Box::pin(strfry::import(patient))),
    ("agreement", |patient| Box::pin(relay::agreement(patient))),
    ("lists", |patient| Box::pin(lists::matched(patient))),
    ("domain", |patient| Box::pin(public::reached(patient))),
    ("git over http", |patient| Box::pin(public::git(patient))),
    ("size of pushes", |patient| Box::pin(public::body_size(patient))),
    ("pushes are passed on at once", |patient| {
        Box::pin(public::buffering(patient))
    }),
    ("websocket and client address", |patient| {
        Box::pin(public::client_address(patient))
    }),
    ("time-outs", |patient| Box::pin(time_outs::time_outs(patient))),
];

/// Runs all checks.
///
/// # Errors
/// The options do not give a required address.
pub(crate) async fn run(options: &DoctorOptions) -> Result<CommandAnswer, CommandError> {
    let patient = Patient::admit(options).await?;
    let mut diagnosis = Diagnosis::default();
    let check_max = CHECK_MAX + patient.silence;
    for (name, run) in CHECKS {
        let found = timeout(check_max, run(&patient)).await;
        let found = found.unwrap_or_else(|_| {
            let text = format!("this check did not end within {} s", check_max.as_secs());
            vec![Observation::wrong(text, "see whether the service that it checks hangs")]
        });
        diagnosis.0.extend(found.into_iter().map(|finding| (name, finding)));
    }
    if let (Some(loader), Some(probe)) = (&patient.behind, patient.probe.get()) {
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
