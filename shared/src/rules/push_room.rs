//! What becomes of the PR commits of a push that find no room in the repository (`reconcile/ref_room.rs`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use nostr::event::EventId;

use super::PushDecision;
use super::Staged;
use super::verdict::Verdict;
use super::verdict::refuse;
use crate::nip34::Coordinate;

impl PushDecision {
    /// Refuses PR commits that find no room in the repository and are not kept, because their events are served; adds a
    /// note about those that wait for it.
    pub fn judge_room(
        &mut self,
        coordinate: &Coordinate,
        lacking: &BTreeMap<(Coordinate, EventId), String>,
        staged: &BTreeSet<Staged>,
    ) {
        for own in self.to_stage(coordinate) {
            let Some(lack) = lacking.get(&(coordinate.clone(), own.event_id)) else {
                continue;
            };
            if staged.contains(&own) {
                self.notes.push(format!(
                    "PR commit {} is kept, and waits for {lack}",
                    own.commit_oid.short()
                ));
                continue;
            }
            let event_id = own.event_id;
            let is_its = |verdict: &Verdict| matches!(verdict, Verdict::Stage { event_id: id, .. } if *id == event_id);
            for commanded in self.commands.iter_mut().filter(|commanded| is_its(&commanded.verdict)) {
                commanded.verdict = refuse(format!("there is no {lack}"));
            }
        }
    }
}
