//! Room on the disk. The database has a largest size, at which it takes nothing more, not even deletions: the last part
//! before it is left for events that this host submits, some of that for deletions. Each address has a share of a day,
//! because an event may take a hundred times its size: each tag of one letter is in three indexes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use nostr::event::Event;
use nostr::event::Kind;
use shared::address_group::address_group;
use tokio::time::Instant;

use crate::limits::RelayLimits;

/// What clients may have stored.
#[derive(Debug)]
pub(super) struct StoreRoom {
    /// The file of the database, which never shrinks: LMDB writes into it again where something was deleted.
    file: PathBuf,
    bytes_max: u64,
    per_day_max: u64,
    by_address: HashMap<IpAddr, StoredBytes>,
}

/// Why an event cannot be stored: the text for the client, with its NIP-01 prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoStoreRoom {
    #[error("error: the relay's database is full")]
    InAll,
    #[error("rate-limited: your address may have {0} bytes a day stored by this relay: try again later")]
    OfAddress(u64),
}

/// What an address had stored, less what has passed of its day since.
#[derive(Debug, Clone, Copy)]
struct StoredBytes {
    bytes: u64,
    at: Instant,
}

impl StoreRoom {
    /// Returns the room of the database in a directory.
    pub(super) fn new(directory: &Path, limits: &RelayLimits) -> Self {
        Self {
            file: directory.join("data.mdb"),
            bytes_max: limits.database_bytes_max as u64,
            per_day_max: limits.stored_bytes_per_day_max,
            by_address: HashMap::new(),
        }
    }

    /// Checks whether an event of a client may be stored; without an address it is this host's own, which always may.
    pub(super) fn has_for(&self, event: &Event, payer: Option<IpAddr>) -> Result<(), NoStoreRoom> {
        let Some(address) = payer else {
            return Ok(());
        };
        let is_deletion = matches!(event.kind, Kind::EventDeletion | Kind::RequestToVanish);
        let part = if is_deletion { RESERVED_PART * 2 } else { RESERVED_PART };
        let ends_at = self.bytes_max - self.bytes_max / part;
        // Without an answer of the system the database itself answers.
        if std::fs::metadata(&self.file).is_ok_and(|file| file.len() >= ends_at) {
            return Err(NoStoreRoom::InAll);
        }
        let stored = self.by_address.get(&address_group(address));
        let before = stored.map_or(0, |stored| self.remains(*stored, Instant::now()));
        match is_on_this_host(address) || before + bytes_on_disk(event) <= self.per_day_max {
            true => Ok(()),
            false => Err(NoStoreRoom::OfAddress(self.per_day_max)),
        }
    }

    /// Counts an event that is going to be stored.
    pub(super) fn take(&mut self, event: &Event, payer: Option<IpAddr>) {
        let Some(address) = payer.filter(|address| !is_on_this_host(*address)) else {
            return;
        };
        let at = Instant::now();
        if self.by_address.len() >= ADDRESSES_MAX {
            self.forget(at);
        }
        let stored = self.by_address.get(&address_group(address));
        let bytes = stored.map_or(0, |stored| self.remains(*stored, at)) + bytes_on_disk(event);
        self.by_address
            .insert(address_group(address), StoredBytes { bytes, at });
    }

    fn remains(&self, stored: StoredBytes, now: Instant) -> u64 {
        let passed = now.duration_since(stored.at).as_secs();
        let worth = u128::from(self.per_day_max) * u128::from(passed) / u128::from(DAY.as_secs());
        stored.bytes.saturating_sub(u64::try_from(worth).unwrap_or(u64::MAX))
    }

    /// Forgets half of the addresses, those of which least remains.
    fn forget(&mut self, now: Instant) {
        let all = self.by_address.iter();
        let mut remains: Vec<(u64, IpAddr)> = all
            .map(|(address, stored)| (self.remains(*stored, now), *address))
            .collect();
        remains.sort_unstable();
        for (_, address) in &remains[..remains.len() / 2] {
            self.by_address.remove(address);
        }
    }
}

/// Returns what an event takes on the disk, about, as measured: with its indexes, in half-empty pages.
fn bytes_on_disk(event: &Event) -> u64 {
    let indexed = event
        .tags
        .iter()
        .filter(|tag| tag.single_letter_tag().is_some())
        .count();
    let texts = event.tags.iter().flat_map(|tag| tag.as_slice()).map(String::len);
    (event.content.len() + texts.sum::<usize>() + indexed * INDEXED_TAG_BYTES + EVENT_BYTES) as u64
}

fn is_on_this_host(address: IpAddr) -> bool {
    [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&address)
}

/// The part of the database's limit that strangers cannot fill.
const RESERVED_PART: u64 = 16;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 20_000;
/// Of a tag with one letter, in three indexes.
const INDEXED_TAG_BYTES: usize = 1_500;
/// Of an event without tags, in four indexes.
const EVENT_BYTES: usize = 1_000;

#[cfg(test)]
mod tests {
    use nostr::event::EventBuilder;
    use nostr::event::FinalizeEvent;
    use nostr::event::Tag;
    use nostr::key::Keys;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_addresss_share_comes_back_in_a_day_and_what_is_remembered_has_a_bound() {
        let limits = RelayLimits {
            stored_bytes_per_day_max: 10_000,
            ..RelayLimits::default()
        };
        let mut room = StoreRoom::new(Path::new("there-is-none"), &limits);
        let tags = (0..5).map(|_| Tag::parse(["t", "x"]).unwrap());
        let event = EventBuilder::new(Kind::TextNote, "").tags(tags);
        let event = event.finalize(&Keys::generate()).unwrap();
        let one = Some(IpAddr::from([203, 0, 113, 7]));

        assert_eq!(room.has_for(&event, one), Ok(()));
        room.take(&event, one);
        assert_eq!(room.has_for(&event, one), Err(NoStoreRoom::OfAddress(10_000)));
        tokio::time::advance(DAY / 2).await;
        assert_eq!(room.has_for(&event, one), Err(NoStoreRoom::OfAddress(10_000)));
        tokio::time::advance(DAY / 2).await;
        assert_eq!(room.has_for(&event, one), Ok(()));

        room.take(&event, one);
        room.take(&event, one);
        for number in 0..2 * ADDRESSES_MAX as u32 {
            room.take(&event, Some(Ipv4Addr::from(0x0a00_0000 + number).into()));
            assert!(room.by_address.len() <= ADDRESSES_MAX);
        }
        assert_eq!(room.has_for(&event, one), Err(NoStoreRoom::OfAddress(10_000)));
        assert_eq!(room.has_for(&event, Some(Ipv4Addr::LOCALHOST.into())), Ok(()));
    }
}
