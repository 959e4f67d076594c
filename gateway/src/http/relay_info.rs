//! The relay information document (NIP-11): the relay's own, with the fields that GRASP-01 adds.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use shared::relay_client::RelayClient;
use shared::rules::Access;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::logged::logged;

/// The document, read from the relay from time to time.
#[derive(Default)]
pub(crate) struct RelayInfo {
    cached: Mutex<Option<(Instant, Value)>>,
}

impl RelayInfo {
    /// Returns the document, as JSON. Without an answer of the relay it has this server's own fields only.
    pub(crate) async fn document(&self, relay: &RelayClient, access: &Access) -> String {
        let mut cached = self.cached.lock().await;
        if cached.as_ref().is_none_or(|(read, _)| read.elapsed() >= CACHED_FOR) {
            let document = relay.information().await.unwrap_or_else(|error| {
                tracing::warn!(
                    error = logged(&error),
                    "the relay's information document cannot be read"
                );
                // As if it had been read: a relay that is down is not asked for each visitor.
                cached.take().map_or(Value::Null, |(_, document)| document)
            });
            *cached = Some((Instant::now(), document));
        }
        let document = cached.as_ref().map_or(&Value::Null, |(_, document)| document);
        complete(document, access).to_string()
    }
}

fn complete(relay: &Value, access: &Access) -> Value {
    let mut document = relay.as_object().cloned().unwrap_or_default();
    for (name, default) in [
        ("name", json!("a GRASP server")),
        ("description", json!("git repositories declared by signed nostr events")),
        ("software", json!("strfry-grasp")),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
    ] {
        if document
            .get(name)
            .is_none_or(|value| value.as_str().is_none_or(str::is_empty))
        {
            document.insert(name.to_owned(), default);
        }
    }
    document.insert("supported_grasps".to_owned(), json!(["GRASP-01"]));
    document.insert(
        "repo_acceptance_criteria".to_owned(),
        json!(format!("{ACCEPTANCE_CRITERIA}{}", access.criteria())),
    );
    Value::Object(document)
}

/// The conditions for hosting a repository, for people.
const ACCEPTANCE_CRITERIA: &str = "any repository whose announcement (kind 30617) lists this server in both its \
                                   'clone' and 'relays' tags, once git data that a state event (kind 30618) of its \
                                   maintainers declares has been pushed";

/// The operator may change the relay's configuration while it runs.
const CACHED_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relays_own_fields_stay() {
        let document = complete(
            &json!({"name": "mine", "software": "strfry", "supported_nips": [1, 9]}),
            &Access::default(),
        );

        assert_eq!(document["name"], "mine");
        assert_eq!(document["software"], "strfry");
        assert_eq!(document["supported_nips"], json!([1, 9]));
        assert_eq!(document["supported_grasps"], json!(["GRASP-01"]));
    }

    #[test]
    fn without_a_relay_the_document_is_still_complete() {
        let document = complete(&Value::Null, &Access::default());

        for field in ["name", "description", "software", "version", "repo_acceptance_criteria"] {
            assert!(document[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
        }
    }
}
