//! The refs that an event declares.

use std::collections::BTreeMap;

use nostr::event::Event;
use shared::nip34;

/// Returns the refs that an event declares.
pub(super) fn declared(event: &Event) -> BTreeMap<String, String> {
    let mut declared = BTreeMap::new();
    for tag in event.tags.iter() {
        if let [name, oid, ..] = tag.as_slice() {
            if event.kind.as_u16() == nip34::STATE && name.starts_with("refs/") {
                declared.insert(name.clone(), oid.clone());
            } else if event.kind.as_u16() == nip34::PULL_REQUEST && name == "c" {
                declared.insert(format!("refs/nostr/{}", event.id.to_hex()), oid.clone());
            }
        }
    }
    declared
}
