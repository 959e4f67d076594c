//! A strfry for tests where there is none: `--version` and `import`, as strfry 1.1.0 has them, on the database of its
//! stand-in. It looks at nothing but what is stored already.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot be had ends the process, as it does strfry's"
)]

use std::io::BufRead;
use std::io::Write;

use nostr::event::Event;
use nostr_database::NostrDatabase;
use nostr_database::RejectedReason;
use nostr_database::SaveEventStatus;
use nostr_lmdb::NostrLmdb;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--version"] {
        std::io::stdout().write_all(b"strfry 1.1.0\n").unwrap();
        return;
    }
    assert_eq!(arguments[1], "import");
    for option in ["--show-rejected", "--debounce-millis=0", "--write-batch=1"] {
        assert!(arguments.iter().any(|argument| argument == option), "{option}");
    }
    let config = std::fs::read_to_string(arguments[0].strip_prefix("--config=").unwrap()).unwrap();
    let setting = config.lines().find_map(|line| line.strip_prefix("db = ")).unwrap();
    let database = NostrLmdb::builder(setting.trim_matches('"'))
        .process_nip09(false)
        .process_nip62(false)
        .build()
        .await
        .unwrap();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        match Event::from_json(&line) {
            Ok(event) if event.verify().is_ok() => import(&database, &event).await,
            Ok(_) => say(&format!("Rejected event: {line} reason: bad signature")),
            Err(_) => say("Unable to parse JSON on line 1"),
        }
    }
    say("Writer: added: 0 dups: 0 replaced: 0 deleted: 0");
    say("Done.");
}

async fn import(database: &NostrLmdb, event: &Event) {
    let [added, dups, replaced] = match database.save_event(event).await.unwrap() {
        SaveEventStatus::Success => [1, 0, 0],
        SaveEventStatus::Rejected(RejectedReason::Duplicate) => [0, 1, 0],
        SaveEventStatus::Rejected(RejectedReason::Replaced) => [0, 0, 1],
        SaveEventStatus::Rejected(reason) => panic!("{reason:?}"),
    };
    say(&format!(
        "Writer: added: {added} dups: {dups} replaced: {replaced} deleted: 0"
    ));
}

fn say(text: &str) {
    let line = format!("2026-01-01 00:00:00.000 (   0.005s) [Writer          ]INFO| {text}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
