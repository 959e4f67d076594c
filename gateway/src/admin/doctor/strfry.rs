//! Whether strfry takes what repositories need, by its configuration as it runs, and whether `strfry import` works.

use std::time::Duration;
use std::time::Instant;

use nostr::event::EventId;
use nostr::filter::Filter;
use shared::load_facts::FactLoader;
use shared::relay_client::PublishOutcome;

use crate::admin::doctor::checked_server::CheckedServer;
use crate::admin::doctor::observation::Observation;
use crate::admin::doctor::probe::Probe;
use crate::admin::doctor::probe::ProbeAnswer;
use crate::command_error::causes;
use crate::strfry_import::StrfryImport;

/// Sends a state with as many refs as a large repository has, and as old as one may be that is published again.
pub(super) async fn limits(server: &CheckedServer<'_>) -> Vec<Observation> {
    let Some((loader, probe)) = held_probe(server) else {
        return Vec::new();
    };
    let state = &probe.large_state;
    vec![match loader.relay.publish(state).await {
        PublishOutcome::Held(_) => Observation::well("a large and old state passes"),
        PublishOutcome::Refused(text) => judge_refusal(&text),
        other @ (PublishOutcome::Stored
        | PublishOutcome::Duplicate
        | PublishOutcome::Replaced
        | PublishOutcome::Deleted
        | PublishOutcome::Expired
        | PublishOutcome::Busy(_)) => Observation::warning(
            format!("a large and old state was not held: {other:?}"),
            "journalctl -u strfry -n 20",
        ),
    }]
}

/// The plugin's own refusals begin with a word of NIP-01 that strfry's do not use for these.
fn judge_refusal(text: &str) -> Observation {
    let refused = format!("a state of a large repository, or an old one, is refused: {text}");
    if text.starts_with("restricted:") || text.starts_with("blocked:") {
        let mend = "the plugin answers; the operator's lists or limits refuse the probe";
        return Observation::warning(refused, mend);
    }
    Observation::wrong(
        refused,
        "strfry.conf: maxEventSize = 262144, maxNumTags = 5000, rejectEventsOlderThanSeconds = 630720000 and \
         maxWebsocketPayloadSize = 393216; then: systemctl restart strfry",
    )
}

/// Imports an event with the rights of this user, and asks the relay for it.
pub(super) async fn import(server: &CheckedServer<'_>) -> Vec<Observation> {
    let Some(paths) = server.options.strfry.paths() else {
        return Vec::new();
    };
    let Some((loader, probe)) = held_probe(server) else {
        return Vec::new();
    };
    let Some(event) = probe.short_lived() else {
        return Vec::new();
    };
    let import = match StrfryImport::open(paths).await {
        Ok(import) => import,
        Err(error) => return vec![Observation::wrong(causes(&error), "correct strfry-bin")],
    };
    vec![match import.import(&event).await {
        Ok(_) if serves(loader, event.id).await => Observation::well("the relay serves an event that was imported"),
        Ok(_) => Observation::wrong(
            "an event was imported, and the relay does not serve it: strfry-conf names another database than the \
             relay's",
            "give strfry-conf the file that strfry at relay-url runs with; `db` in it must be an absolute path",
        ),
        Err(error) => Observation::wrong(
            format!("as this user, {}", causes(&error)),
            "usermod -aG strfry grasp; chmod -R g+rwX /var/lib/strfry; UMask=0002 in strfry.service, and \
             ReadWritePaths=/var/lib/strfry in grasp-gateway.service; then: systemctl daemon-reload; systemctl restart \
             strfry grasp-gateway",
        ),
    }]
}

/// Another process has written it: the relay may see it a moment later.
async fn serves(loader: &FactLoader, event_id: EventId) -> bool {
    let begun = Instant::now();
    while !matches!(loader.relay.any(vec![Filter::new().id(event_id)]).await, Ok(true)) {
        if begun.elapsed() > SERVED_WITHIN {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

/// Returns the probe if it is held here: then strfry and its plugin work.
fn held_probe<'p>(server: &'p CheckedServer<'_>) -> Option<(&'p FactLoader, &'p Probe)> {
    let probe = server.probe.get()?;
    (probe.answer == ProbeAnswer::HeldHere).then_some((server.behind.as_ref()?, probe))
}

const SERVED_WITHIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::doctor::observation::Severity;

    /// The words of strfry 1.1 (`events.cpp`), and of our plugin.
    #[test]
    fn a_setting_of_strfry_is_told_from_a_limit_of_ours() {
        for (text, severity) in [
            ("invalid: event too large: 219765", Severity::Wrong),
            ("invalid: too many tags: 3501", Severity::Wrong),
            ("invalid: created_at too early", Severity::Wrong),
            (
                "the message has 220000 bytes, and the relay accepts 131072",
                Severity::Wrong,
            ),
            (
                "restricted: too many events of this author wait for git data",
                Severity::Warning,
            ),
            ("blocked: this repository is not hosted here", Severity::Warning),
        ] {
            let found = judge_refusal(text);

            assert_eq!(found.severity, severity, "{text}");
            assert!(found.text.contains(text) && !found.mend.is_empty());
        }
    }
}
