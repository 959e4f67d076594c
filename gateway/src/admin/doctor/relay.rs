//! Whether the relay is strfry, asks our plugin, and the plugin agrees with the gateway.

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use shared::agreement::Program;
use shared::agreement::ReportedSettings;
use shared::agreement::differences;
use shared::load_facts::FactLoader;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use shared::relay_client::PublishOutcome;

use crate::admin::doctor::checked_server::CheckedServer;
use crate::admin::doctor::observation::Observation;
use crate::admin::doctor::probe::Probe;
use crate::admin::doctor::probe::ProbeAnswer;
use crate::admin::own_address::is_own;
use crate::command_error::causes;
use crate::redis_mends::mend_of;
use crate::strfry_import::StrfryVersion;

pub(super) async fn identity(server: &CheckedServer<'_>) -> Vec<Observation> {
    let (Some(loader), Some(url)) = (&server.behind, &server.options.relay_url) else {
        return vec![Observation::well("not used: the server runs the built-in relay")];
    };
    if is_own(url, server.options.listen.bind).await {
        return vec![Observation::wrong("relay-url names the gateway itself", RELAY_URL_MEND)];
    }
    match loader.relay.information().await {
        Ok(document) => vec![judge(&document)],
        Err(error) => vec![Observation::wrong(
            format!("it does not answer: {}", causes(&error)),
            "systemctl start strfry; where its log (journalctl -u strfry -n 20) has `Permission denied`, somebody imported as \
             root: chown -R strfry: /var/lib/strfry; or correct relay-url",
        )],
    }
}

/// Interprets a relay's information document.
fn judge(document: &Value) -> Observation {
    let text = |name: &str| {
        document
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or("unknown")
            .to_owned()
    };
    let (software, version) = (text("software"), text("version"));
    let message_max = document
        .pointer("/limitation/max_message_length")
        .and_then(Value::as_u64);
    if document.get("supported_grasps").is_some() {
        return Observation::wrong(
            format!("relay-url names a GRASP server, and not strfry: {software}"),
            RELAY_URL_MEND,
        );
    }
    if !software.contains("strfry") {
        return Observation::warning(format!("it is {software} {version}, and not strfry"), RELAY_URL_MEND);
    }
    if let Some(max) = message_max.filter(|max| *max < MESSAGE_BYTES) {
        return Observation::warning(
            format!(
                "it accepts messages of at most {max} bytes; states of large repositories have up to {MESSAGE_BYTES}"
            ),
            "strfry.conf: relay.maxWebsocketPayloadSize as in strfry-config/strfry.conf, then: systemctl restart strfry",
        );
    }
    // Not what is named after it. What it was built of may not be known.
    let is_its_own = software.trim_end_matches(".git").ends_with("strfry");
    let parsed = StrfryVersion::parse(&version).filter(|_| is_its_own);
    if parsed.is_some_and(|version| version < StrfryVersion::MINIMUM) {
        return Observation::wrong(
            format!("it is strfry {version}; 1.1.0 or newer is needed"),
            "install strfry 1.1.0 or newer, then: systemctl restart strfry",
        );
    }
    Observation::well(format!("strfry {version}"))
}

pub(super) async fn plugin(server: &CheckedServer<'_>) -> Vec<Observation> {
    let Some(loader) = &server.behind else {
        return vec![Observation::well(
            "not used: the built-in relay applies the policy itself",
        )];
    };
    if is_away(loader).await {
        // It was named before.
        return Vec::new();
    }
    let Some(unsent) = Probe::new(&server.service) else {
        return Vec::new();
    };
    let probe = server.probe.get_or_init(|| send(unsent, loader)).await;
    vec![match &probe.answer {
        ProbeAnswer::HeldHere => Observation::well(
            "strfry asked the plugin about an announcement, and the plugin holds it in the gateway's Redis",
        ),
        ProbeAnswer::HeldElsewhere => Observation::wrong(
            "it holds events in a different Redis than the gateway's, or in a different database of it",
            "give both the same redis-url, in /etc/grasp/config.toml (a variable, or an option in \
             relay.writePolicy.plugin of strfry.conf, overrides it), then: systemctl restart strfry grasp-gateway",
        ),
        ProbeAnswer::Unread(text) => Observation::wrong(text.clone(), mend_of(text)),
        ProbeAnswer::Stored => Observation::wrong("strfry stores git events without asking it", PLUGIN_MEND),
        ProbeAnswer::Refused(text) => judge_refusal(text, &server.service.to_string()),
    }]
}

/// Whether the relay does not answer: nothing is wrong with its plugin then.
async fn is_away(loader: &FactLoader) -> bool {
    loader.relay.information().await.is_err()
}

async fn send(mut probe: Probe, loader: &FactLoader) -> Probe {
    let outcome = loader.relay.publish(&probe.announcement).await;
    probe.answer = match outcome {
        PublishOutcome::Held(_) => {
            let held = loader.purgatory.entries(&BTreeSet::from([probe.announcement.id])).await;
            match held {
                Ok(held) if held.is_empty() => ProbeAnswer::HeldElsewhere,
                Ok(_) => ProbeAnswer::HeldHere,
                Err(error) => ProbeAnswer::Unread(causes(&error)),
            }
        }
        PublishOutcome::Stored => {
            if let Some(deletion) = probe.deletion() {
                // Whatever the outcome, nobody needs this announcement.
                drop(loader.relay.publish(&deletion).await);
            }
            ProbeAnswer::Stored
        }
        PublishOutcome::Refused(text) | PublishOutcome::Busy(text) => ProbeAnswer::Refused(text),
        other @ (PublishOutcome::Duplicate
        | PublishOutcome::Replaced
        | PublishOutcome::Deleted
        | PublishOutcome::Expired) => ProbeAnswer::Refused(format!("{other:?}")),
    };
    probe
}

/// The plugin's own words, or strfry's where it has none.
fn judge_refusal(text: &str, domain: &str) -> Observation {
    let refused = format!("an announcement that names {domain} was refused: {text}");
    if text.contains("must list") {
        Observation::wrong(
            refused,
            format!(
                "give the plugin the domain {domain} too, in /etc/grasp/config.toml (a variable, or --domain in \
                 relay.writePolicy.plugin of strfry.conf, overrides it), then: systemctl restart strfry"
            ),
        )
    } else if text.contains("internal error") {
        Observation::wrong(
            format!("strfry cannot run its plugin: {text}"),
            "journalctl -u strfry -n 20 has the reason; the path in strfry.conf must be a program that strfry's user may \
             run: runuser -u strfry -- /usr/bin/grasp-plugin --version",
        )
    } else if text.contains("purgatory is not available") {
        Observation::wrong(
            format!("the plugin cannot use its Redis: {text}"),
            "journalctl -u strfry -n 20 has the reason: redis-url, redis-password-file (strfry's user must read it), rights",
        )
    } else if text.starts_with("restricted:") || text.starts_with("blocked:") {
        Observation::warning(
            refused,
            "the plugin answers; the operator's lists or limits refuse the probe",
        )
    } else {
        Observation::wrong(refused, PLUGIN_MEND)
    }
}

pub(super) async fn agreement(server: &CheckedServer<'_>) -> Vec<Observation> {
    let Some(loader) = &server.behind else {
        return Vec::new();
    };
    let own = ReportedSettings::of(loader);
    let Ok([gateway, plugin]) = reported(&loader.purgatory).await else {
        // It was named before.
        return Vec::new();
    };
    let mut found = Vec::new();
    for (reported, program, mend) in [
        (
            gateway,
            Program::Gateway,
            "systemctl start grasp-gateway; or give this command and it the same redis-url",
        ),
        (
            plugin,
            Program::Plugin,
            "systemctl restart strfry; or give both the same redis-url",
        ),
    ] {
        match reported {
            Some(reported) => {
                let differs = differences(&own, &reported, program).into_iter();
                found.extend(differs.map(|text| match text.split_once(": ") {
                    Some((text, mend)) => Observation::wrong(text, mend),
                    None => Observation::wrong(text, ""),
                }));
            }
            // The plugin ends with its relay, which was named before.
            None if program == Program::Plugin && is_away(loader).await => {}
            None => found.push(Observation::wrong(format!("no {program} runs with this Redis"), mend)),
        }
    }
    if found.is_empty() {
        found.push(Observation::well(
            "gateway, plugin and this command have the same version, domain, rules and lists",
        ));
    }
    found
}

/// Returns the settings that gateway and plugin have reported. strfry may have started the plugin a moment ago, for our
/// probe.
async fn reported(purgatory: &Purgatory) -> Result<[Option<ReportedSettings>; 2], PurgatoryError> {
    let begun = Instant::now();
    loop {
        let reported = ReportedSettings::read(purgatory).await?;
        if reported[1].is_some() || begun.elapsed() > PLUGIN_REPORTS {
            return Ok(reported);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How long a plugin takes at most, from its start until it has reported its settings.
const PLUGIN_REPORTS: Duration = Duration::from_secs(2);

const RELAY_URL_MEND: &str = "relay-url must name strfry, by relay.bind and relay.port in strfry.conf, such as \
                              ws://127.0.0.1:7777";

const PLUGIN_MEND: &str = "strfry.conf: relay.writePolicy.plugin as in strfry-config/strfry.conf; then: systemctl \
                           restart strfry";

/// As `strfry-config/strfry.conf` has it.
const MESSAGE_BYTES: u64 = 393_216;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admin::doctor::observation::Severity;

    #[test]
    fn a_relay_is_known_by_its_document() {
        let rows = [
            (
                json!({"software": "git+https://github.com/hoytech/strfry.git", "version": "1.1.1"}),
                Severity::Well,
            ),
            (
                json!({"software": "strfry", "version": "1.0.4-12-gabcdef0"}),
                Severity::Wrong,
            ),
            (
                json!({"software": "strfry", "version": "no-git-commits"}),
                Severity::Well,
            ),
            (json!({"software": "strfry-grasp", "version": "0.1.0"}), Severity::Well),
            (
                json!({"software": "strfry", "supported_grasps": ["GRASP-01"]}),
                Severity::Wrong,
            ),
            (json!({"software": "another"}), Severity::Warning),
            (
                json!({"software": "strfry", "limitation": {"max_message_length": 99}}),
                Severity::Warning,
            ),
            (json!({}), Severity::Warning),
        ];
        for (document, severity) in rows {
            assert_eq!(judge(&document).severity, severity, "{document}");
        }
    }
}
