//! The server with the purgatory dies, and another takes over: what was promised with replicas is held there, and
//! nothing else was promised (docs/ARCHITECTURE.md rule 1).

use std::time::Duration;
use std::time::Instant;

use nostr::event::Event;
use nostr::key::Keys;
use redis::cmd;
use shared::purgatory::*;
use tempfile::TempDir;

use crate::fixture::*;
use crate::server::topology_place;
use tests::harness::redis_connection::connect;
use tests::harness::redis_topology::Mode;
use tests::harness::redis_topology::Topology;

#[tokio::test]
async fn what_was_promised_is_held_after_a_failover_by_sentinel() {
    what_was_promised_is_held_after_a_failover(Mode::Sentinel).await;
}

#[tokio::test]
async fn what_was_promised_is_held_after_a_failover_in_a_cluster() {
    what_was_promised_is_held_after_a_failover(Mode::Cluster).await;
}

async fn what_was_promised_is_held_after_a_failover(mode: Mode) {
    let dir = TempDir::new().unwrap();
    let mut topology = Topology::start(mode, dir.path(), None, 2).await;
    let settings = RedisSettings {
        place: topology_place(&topology),
        replicas: 1,
        ..settings(&topology.urls()[0])
    };
    let purgatory = Purgatory::connect(&settings, Limits::DEFAULT).await.unwrap();
    let mut notifications = purgatory.notifications();
    let mut promises = Promises::default();
    while promises.kept.len() < 100 {
        promises.ask_for_one(&purgatory).await;
    }

    topology.kill_master();
    // A replica that was late has made refusals too.
    promises.refused = 0;
    promises.kept_since_refusal = 0;

    // Until then the master that is gone is asked, after it the next one.
    let start = Instant::now();
    while promises.refused == 0 || promises.kept_since_refusal < 100 {
        assert!(start.elapsed() < PATIENCE, "nothing is held again: {promises:?}");
        promises.ask_for_one(&purgatory).await;
    }
    let successor = topology.successor().await;
    let mut connection = connect(&format!("redis://127.0.0.1:{successor}")).await.unwrap();
    for event in &promises.kept {
        let key = format!("{{purgatory}}:entry:{}", event.id);
        let status: Option<String> = cmd("HGET")
            .arg(key)
            .arg("status")
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(status.as_deref(), Some("held"), "{}", event.id);
    }
    // Whoever listens hears of the new one too.
    tokio::time::timeout(PATIENCE, notifications.next()).await.unwrap();
    let epoch = purgatory.epoch().await.unwrap();
    assert!(epoch.is_unknown(), "nobody began one here: {epoch:?}");
}

/// What an author heard.
#[derive(Debug, Default)]
struct Promises {
    kept: Vec<Event>,
    refused: usize,
    kept_since_refusal: usize,
}

impl Promises {
    async fn ask_for_one(&mut self, purgatory: &Purgatory) {
        let event = state(&Keys::generate(), 1);
        match purgatory.hold(&hold(&event, LONG)).await {
            Ok(outcome) => {
                assert_eq!(outcome, HoldOutcome::Held);
                self.kept.push(event);
                self.kept_since_refusal += 1;
            }
            Err(error) => {
                let is_for_now = matches!(
                    error,
                    PurgatoryError::Unavailable { .. } | PurgatoryError::Unconfirmed { .. }
                );
                assert!(is_for_now, "{error:?}");
                self.refused += 1;
                self.kept_since_refusal = 0;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
