//! Room on the disk. The database has a largest size, at which it takes nothing more, not even deletions. Before it
//! strangers' events end first, then what this host submits, which strangers wrote too, then strangers' deletions: the
//! rest is left for this host's deletions, and for the small announcements and states that it releases. Each address
//! has a share of a day, because an event may take a hundred times its size: a tag of one letter is in three indexes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use nostr::event::Event;
use nostr::event::Kind;
use shared::address_group::address_group;
use shared::live::Live;
use shared::nip01::text_bytes;
use shared::nip34::ANNOUNCEMENT;
use shared::nip34::STATE;
use tokio::time::Instant;

use crate::limits::RelayLimits;

/// What clients may have stored.
#[derive(Debug)]
pub(super) struct StoreRoom {
    /// The files of the database and of its notes of deletions, which never shrink: LMDB writes into them again where
    /// something was deleted.
    files: [PathBuf; 2],
    bytes_max: u64,
    pub(super) per_day_max: Live<u64>,
    by_address: HashMap<IpAddr, StoredBytes>,
    /// What the events take that are going to be saved.
    unsaved: u64,
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
            files: ["data.mdb", "deletions/data.mdb"].map(|file| directory.join(file)),
            bytes_max: limits.database_bytes_max as u64,
            per_day_max: Live::new(limits.stored_bytes_per_day_max),
            by_address: HashMap::new(),
            unsaved: 0,
        }
    }

    /// Checks what can be said of an event before the policy is asked. Most announcements and states are only held
    /// then, and pushes wait for them: small ones have as much again. What else is held must find room when this host
    /// submits it. A deletion the policy carries out at once.
    pub(super) fn check(&self, event: &Event, payer: Option<IpAddr>) -> Result<(), NoStoreRoom> {
        match payer {
            Some(_) if is_small_of_repository(event) => self.check_share(event, payer, self.charged_max()),
            Some(_) if !is_deletion(event) => {
                self.check_parts(event, OWN_PARTS)?;
                self.check_share(event, payer, self.per_day_max.get())
            }
            _ => self.check_all(event, payer),
        }
    }

    /// Takes room for an event that is going to be stored with the next batch; without an address, its payer, it is
    /// this host's own.
    pub(super) fn take(&mut self, event: &Event, payer: Option<IpAddr>) -> Result<(), NoStoreRoom> {
        self.check_all(event, payer)?;
        self.unsaved += bytes_on_disk(event);
        self.charge(event, payer);
        Ok(())
    }

    /// Counts an event in the share of its payer: one that is held is submitted by this host later. A client that sends
    /// it again and again waits no longer than a day.
    pub(super) fn charge(&mut self, event: &Event, payer: Option<IpAddr>) {
        let Some(address) = payer.filter(|address| has_share(*address)) else {
            return;
        };
        let at = Instant::now();
        if self.by_address.len() >= ADDRESSES_MAX {
            self.forget(at);
        }
        let bytes = (self.stored_by(address, at) + bytes_on_disk(event)).min(self.charged_max());
        self.by_address
            .insert(address_group(address), StoredBytes { bytes, at });
    }

    /// Gives back what was taken for an event that was not stored.
    pub(super) fn give_back(&mut self, event: &Event, payer: Option<IpAddr>) {
        if let Some(stored) = payer.and_then(|address| self.by_address.get_mut(&address_group(address))) {
            stored.bytes = stored.bytes.saturating_sub(bytes_on_disk(event));
        }
    }

    /// What was taken has been saved, and is in the file.
    pub(super) fn saved(&mut self) {
        self.unsaved = 0;
    }

    fn check_all(&self, event: &Event, payer: Option<IpAddr>) -> Result<(), NoStoreRoom> {
        let parts = match (payer, is_deletion(event)) {
            // The database itself answers.
            (None, true) => return Ok(()),
            (None, false) if is_small_of_repository(event) => return Ok(()),
            (None, false) => OWN_PARTS,
            (Some(_), true) => DELETIONS_PARTS,
            (Some(_), false) => STRANGERS_PARTS,
        };
        self.check_parts(event, parts)?;
        self.check_share(event, payer, self.per_day_max.get())
    }

    fn check_parts(&self, event: &Event, parts: u64) -> Result<(), NoStoreRoom> {
        let takes = self.unsaved + bytes_on_disk(event);
        // The same without an answer of the system.
        let lengths = (self.files.iter()).filter_map(|file| Some(std::fs::metadata(file).ok()?.len()));
        match lengths.sum::<u64>() + takes > self.bytes_max / PARTS * parts {
            true => Err(NoStoreRoom::InAll),
            false => Ok(()),
        }
    }

    fn check_share(&self, event: &Event, payer: Option<IpAddr>, bytes_max: u64) -> Result<(), NoStoreRoom> {
        let has_room = |address| self.stored_by(address, Instant::now()) + bytes_on_disk(event) <= bytes_max;
        match payer.is_none_or(|address| !has_share(address) || has_room(address)) {
            true => Ok(()),
            false => Err(NoStoreRoom::OfAddress(self.per_day_max.get())),
        }
    }

    /// Returns how much an address can be charged: small announcements and states go beyond its share.
    fn charged_max(&self) -> u64 {
        self.per_day_max.get().saturating_mul(2)
    }

    fn stored_by(&self, address: IpAddr, now: Instant) -> u64 {
        let stored = self.by_address.get(&address_group(address));
        stored.map_or(0, |stored| self.remains(*stored, now))
    }

    fn remains(&self, stored: StoredBytes, now: Instant) -> u64 {
        let passed = now.duration_since(stored.at).as_secs();
        let worth = u128::from(self.per_day_max.get()) * u128::from(passed) / u128::from(DAY.as_secs());
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

/// Returns what an event takes on the disk, about, as measured: with its indexes, in half-empty pages. An ephemeral one
/// (NIP-01) takes nothing.
fn bytes_on_disk(event: &Event) -> u64 {
    if event.kind.is_ephemeral() {
        return 0;
    }
    let indexed = event
        .tags
        .iter()
        .filter(|tag| tag.single_letter_tag().is_some())
        .count();
    let once = (text_bytes(event) + indexed * INDEXED_TAG_BYTES + EVENT_BYTES) as u64;
    // What it names is noted besides, in a database of its own.
    if is_deletion(event) { 2 * once } else { once }
}

fn is_deletion(event: &Event) -> bool {
    matches!(event.kind, Kind::EventDeletion | Kind::RequestToVanish)
}

/// Whether it is an announcement or a state as pushes wait for, not one that is made large.
fn is_small_of_repository(event: &Event) -> bool {
    [ANNOUNCEMENT, STATE].contains(&event.kind.as_u16()) && bytes_on_disk(event) <= SMALL_BYTES_MAX
}

/// Clients of this host itself have no share.
fn has_share(address: IpAddr) -> bool {
    !address.to_canonical().is_loopback()
}

/// The parts of the database's limit.
const PARTS: u64 = 64;
/// Those that strangers can fill.
const STRANGERS_PARTS: u64 = 60;
/// Those that this host's own events can fill.
const OWN_PARTS: u64 = 61;
/// Those that strangers' deletions can fill.
const DELETIONS_PARTS: u64 = 62;
/// On the disk: a state of two thousand refs.
const SMALL_BYTES_MAX: u64 = 256 << 10;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 20_000;
/// Of a tag with one letter, in three indexes.
const INDEXED_TAG_BYTES: usize = 1_500;
/// Of an event without tags, in four indexes.
const EVENT_BYTES: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
        let event = event(Kind::TextNote, 5);
        let one = Some(IpAddr::from([203, 0, 113, 7]));

        assert_eq!(room.take(&event, one), Ok(()));
        assert_eq!(room.take(&event, one), Err(NoStoreRoom::OfAddress(10_000)));
        tokio::time::advance(DAY / 2).await;
        assert_eq!(room.take(&event, one), Err(NoStoreRoom::OfAddress(10_000)));
        tokio::time::advance(DAY / 2).await;
        assert_eq!(room.take(&event, one), Ok(()));
        // What was not stored is not charged.
        room.give_back(&event, one);
        assert_eq!(room.take(&event, one), Ok(()));

        // Small states have as much again, and a day is enough whatever was charged.
        let state = self::event(Kind::from_u16(STATE), 1);
        assert_eq!(room.check(&state, one), Ok(()));
        for _ in 0..9 {
            room.charge(&event, one);
        }
        assert_eq!(room.check(&state, one), Err(NoStoreRoom::OfAddress(10_000)));
        tokio::time::advance(DAY).await;
        assert_eq!(room.check(&state, one), Ok(()));
        room.charge(&event, one);
        for number in 0..2 * ADDRESSES_MAX as u32 {
            room.charge(&event, Some(Ipv4Addr::from(0x0a00_0000 + number).into()));
            assert!(room.by_address.len() <= ADDRESSES_MAX);
        }
        assert_eq!(room.take(&event, one), Err(NoStoreRoom::OfAddress(10_000)));
        for address in ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"] {
            let address = Some(address.parse().unwrap());
            assert_eq!([(); 3].map(|()| room.take(&event, address)), [Ok(()); 3]);
        }
    }

    fn event(kind: Kind, tags: usize) -> Event {
        let tags = (0..tags).map(|_| Tag::parse(["t", "x"]).unwrap());
        let event = EventBuilder::new(kind, "").tags(tags);
        event.finalize(&Keys::generate()).unwrap()
    }

    /// What strangers had this host submit filled the last part too, and then nothing could be stored, not even a
    /// deletion.
    #[test]
    fn the_end_of_the_database_is_left_for_what_this_host_must_store() {
        let directory = tempfile::tempdir().unwrap();
        let limits = RelayLimits {
            database_bytes_max: 64 << 20,
            ..RelayLimits::default()
        };
        let mut room = StoreRoom::new(directory.path(), &limits);
        let file = std::fs::File::create(directory.path().join("data.mdb")).unwrap();
        let stranger = Some(IpAddr::from([203, 0, 113, 7]));
        let [note, deletion, state] =
            [Kind::TextNote, Kind::EventDeletion, Kind::from_u16(STATE)].map(|kind| event(kind, 1));
        let large = event(Kind::from_u16(STATE), 200);
        let mut is_taken = |event: &Event, payer| {
            let taken = room.take(event, payer).is_ok();
            room.saved();
            taken
        };

        for (mib, expected) in [
            (59, [true, true, true, true, true, true, true]),
            (60, [false, false, true, true, true, true, true]),
            (61, [false, false, true, false, false, true, true]),
            (62, [false, false, false, false, false, true, true]),
            (64, [false, false, false, false, false, true, true]),
        ] {
            file.set_len(mib << 20).unwrap();
            let of_stranger = [&note, &state, &deletion].map(|event| is_taken(event, stranger));
            let own = [&note, &large, &state, &deletion].map(|event| is_taken(event, None));
            assert_eq!([&of_stranger[..], &own].concat(), expected, "{mib}");
        }
        // What is not in the file yet counts.
        file.set_len(59 << 20).unwrap();
        let huge = event(Kind::TextNote, 600);
        assert_eq!(room.take(&huge, stranger), Ok(()));
        assert_eq!(room.take(&huge, stranger), Err(NoStoreRoom::InAll));
    }
}
