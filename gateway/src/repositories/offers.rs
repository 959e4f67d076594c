//! The PRs whose refs a repository has: a small file beside HEAD, a line for each, with its author, the bytes that came
//! with it and where it came from. It determines whose shares a ref and its bytes count for; a ref whose line was lost
//! counts for nobody until a re-check has read its event again. Bytes count a while longer than their ref, because they
//! stay in the repository as unreachable objects.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use nostr::event::EventId;
use nostr::key::PublicKey;
use shared::rules::PullRequestOffer;
use shared::rules::SourceTag;

use crate::repositories::layout::FileError;
use crate::repositories::layout::failed;
use crate::repositories::layout::in_background;
use crate::repositories::repository::Repository;

/// An offer as it is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotedOffer {
    pub(crate) offer: PullRequestOffer,
    /// Until when its bytes count, unix seconds; `None`: as long as it has its ref.
    until: Option<u64>,
}

impl NotedOffer {
    pub(super) fn new(offer: PullRequestOffer) -> Self {
        Self { offer, until: None }
    }

    /// Returns it as that of a PR which has its ref or not; `None`: nothing of it counts. Unreachable objects stay for
    /// so long, and until they are looked for.
    pub(super) fn after(self, has_ref: bool, keep_unreachable: Duration) -> Option<Self> {
        let stays = (keep_unreachable * 4 / 3).as_secs();
        let until = || self.until.unwrap_or_else(|| now().saturating_add(stays));
        match has_ref {
            true => Some(Self { until: None, ..self }),
            false if self.offer.bytes == 0 => None,
            false => Some(Self {
                until: Some(until()),
                ..self
            }),
        }
    }

    fn parse(line: &str) -> Option<(EventId, Self)> {
        let mut words = line.split(' ');
        let event_id = EventId::from_hex(words.next()?).ok()?;
        let author = PublicKey::from_hex(words.next()?).ok()?;
        let bytes = words.next().map_or(Some(0), |bytes| bytes.parse().ok())?;
        let source = words.next().and_then(|tag| u16::from_str_radix(tag, 16).ok());
        let offer = PullRequestOffer {
            author,
            bytes,
            source: source.map(SourceTag),
        };
        let until = words.next().map_or(Some(None), |until| until.parse().ok().map(Some))?;
        Some((event_id, Self { offer, until }))
    }

    fn line(&self, event_id: &EventId) -> String {
        let PullRequestOffer { author, bytes, source } = self.offer;
        let source = source.map_or_else(|| UNKNOWN.to_owned(), |SourceTag(tag)| format!("{tag:04x}"));
        let until = self.until.map(|until| format!(" {until}")).unwrap_or_default();
        format!("{event_id} {author} {bytes} {source}{until}\n")
    }
}

/// Reads which offers the repository at `repository` notes, and that count yet. A line that nobody wrote whole is left
/// out. Blocks.
pub(super) fn read_offers(repository: &Path) -> Result<BTreeMap<EventId, NotedOffer>, FileError> {
    let path = repository.join(FILE);
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)) {
        Ok(_) => {}
        // A crash may leave half a character of nothing that is ours.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {}
        Err(error) => return Err(failed("read", &path)(error)),
    }
    let now = now();
    let mut offers = BTreeMap::<EventId, NotedOffer>::new();
    for (event_id, mut noted) in text.lines().filter_map(NotedOffer::parse) {
        // What came in at the first attempt has moved in when its ref is set at the second.
        let before = offers.get(&event_id).map_or(0, |before| before.offer.bytes);
        noted.offer.bytes = noted.offer.bytes.max(before);
        offers.insert(event_id, noted);
    }
    offers.retain(|_, noted| noted.until.is_none_or(|until| now < until));
    Ok(offers)
}

/// Returns the bytes that came with the PRs of non-maintainers of a repository. Blocks.
pub(super) fn bytes_offered(repository: &Path) -> Result<u64, FileError> {
    let offers = read_offers(repository)?;
    Ok(offers.values().map(|noted| noted.offer.bytes).sum())
}

impl Repository {
    /// Returns the PRs that it has refs of, as far as they are noted, and those whose bytes count yet.
    pub(crate) async fn offers(&self) -> Result<BTreeMap<EventId, NotedOffer>, FileError> {
        let path = self.path().to_owned();
        in_background(move || read_offers(&path)).await
    }

    /// Notes who pays for a PR whose ref is about to be set.
    pub(super) async fn note_offer(&self, event_id: &EventId, offer: PullRequestOffer) -> Result<(), FileError> {
        let (path, line) = (self.path().join(FILE), NotedOffer::new(offer).line(event_id));
        in_background(move || {
            let file = File::options().append(true).create(true).open(&path);
            let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
            written.map_err(failed("write", &path))
        })
        .await
    }

    pub(super) async fn write_offers(&self, offers: &BTreeMap<EventId, NotedOffer>) -> Result<(), FileError> {
        let path = self.path().join(FILE);
        let text: String = offers.iter().map(|(event_id, noted)| noted.line(event_id)).collect();
        in_background(move || {
            let fresh = path.with_extension("new");
            fs::write(&fresh, text).map_err(failed("write", &fresh))?;
            fs::rename(&fresh, &path).map_err(failed("replace", &path))
        })
        .await
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

const FILE: &str = "grasp-pull-requests";

/// In place of a tag.
const UNKNOWN: &str = "-";

/// 200,000 lines: more refs than any limit allows.
const BYTES_MAX: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repositories::testing::World;

    #[tokio::test]
    async fn what_is_noted_is_read_and_half_a_line_is_nobodys() {
        let world = World::new().await;
        let repository = world.repository("a");
        repository.create().await.unwrap();
        let read = || read_offers(repository.path()).unwrap();
        let event_id = |digit: &str| EventId::from_hex(&digit.repeat(64)).unwrap();
        let author = nostr::key::Keys::generate().public_key();
        let offer = |bytes, source: Option<u16>| PullRequestOffer {
            author,
            bytes,
            source: source.map(SourceTag),
        };
        assert!(read().is_empty());

        let [a, b] = [offer(7, Some(0xa)), offer(0, None)];
        repository.note_offer(&event_id("a"), a).await.unwrap();
        repository.note_offer(&event_id("b"), b).await.unwrap();
        let path = repository.path().join(FILE);
        // As an earlier version wrote it, and half a line.
        let earlier = format!("{} {author}\n", event_id("c"));
        let cut = fs::read_to_string(&path).unwrap() + &earlier + "dddd";
        fs::write(&path, cut).unwrap();
        let expected = [("a", a), ("b", b), ("c", offer(0, None))];
        assert_eq!(
            read(),
            expected
                .map(|(digit, offer)| (event_id(digit), NotedOffer::new(offer)))
                .into()
        );
        assert_eq!(bytes_offered(repository.path()).unwrap(), 7);
    }

    /// A PR whose event was deleted at once paid for nothing that it had brought.
    #[tokio::test]
    async fn bytes_count_as_long_as_unreachable_objects_stay() {
        let world = World::new().await;
        let repository = world.repository("a");
        repository.create().await.unwrap();
        let noted = |bytes| {
            NotedOffer::new(PullRequestOffer {
                author: nostr::key::Keys::generate().public_key(),
                bytes,
                source: None,
            })
        };
        let (ended, empty, has_ref) = (noted(5), noted(0), noted(6));
        let day = Duration::from_secs(86_400);

        assert_eq!(empty.after(false, day), None);
        let offers = [
            ended.after(false, day).unwrap(),
            noted(7).after(false, Duration::ZERO).unwrap(),
            has_ref.after(true, day).unwrap(),
        ];
        let event_id = |digit: u8| EventId::from_byte_array([digit; 32]);
        let offers: BTreeMap<_, _> = (1..).map(event_id).zip(offers).collect();
        repository.write_offers(&offers).await.unwrap();

        let read = read_offers(repository.path()).unwrap();
        assert_eq!(
            read.keys().copied().collect::<Vec<_>>(),
            [1, 3].map(event_id),
            "the second has lapsed"
        );
        assert_eq!(bytes_offered(repository.path()).unwrap(), 11);
        // Its event has come again.
        assert_eq!(read[&event_id(1)].after(true, day), Some(ended));
    }
}
