//! One attacker fills what the purgatory may hold, in a real Redis: how long does Redis stand still for each step?
//! It is long because each operation of the purgatory has its row here.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use nostr::event::Event;
use nostr::event::EventBuilder;
use nostr::event::EventId;
use nostr::event::FinalizeEvent;
use nostr::event::Kind;
use nostr::event::Tag;
use nostr::key::Keys;
use nostr::key::PublicKey;
use nostr::types::Timestamp;
use redis::Value;
use redis::aio::MultiplexedConnection;
use shared::nip01::Deletion;
use shared::nip34::Coordinate;
use shared::nip34::Identifier;
use shared::purgatory::Behind;
use shared::purgatory::Expiry;
use shared::purgatory::Hold;
use shared::purgatory::HoldOutcome;
use shared::purgatory::Leased;
use shared::purgatory::Limits;
use shared::purgatory::Listing;
use shared::purgatory::NotedRefusal;
use shared::purgatory::PullRequestOutcome;
use shared::purgatory::Purgatory;
use shared::purgatory::PurgatoryError;
use shared::purgatory::RedisSettings;
use shared::purgatory::Release;
use shared::purgatory::Room;
use shared::purgatory::Settlement;
use tempfile::TempDir;

use crate::harness::redis::RedisServer;
use crate::harness::redis_connection::connect;

/// Longest time that Redis may stand still for one script, in microseconds.
pub const SCRIPT_MICROS_MAX: u64 = 5_000;

/// Later than any answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one operation cost.
#[derive(Debug)]
pub struct RedisCost {
    /// What was done, to what.
    pub what: String,
    /// How many scripts it took.
    pub scripts: usize,
    /// The longest of them, in microseconds. Of many the longest twentieth is left out: on a busy machine the kernel
    /// stops Redis now and then, and then it was not the script that took long.
    pub longest_micros: u64,
    /// All of them.
    pub all_micros: u64,
}

impl RedisCost {
    /// Fills the limits, does everything, and returns what each operation cost.
    ///
    /// # Errors
    /// The purgatory does not answer.
    pub async fn measure() -> Result<Vec<Self>, PurgatoryError> {
        let mut costs = Vec::new();
        for fill in [
            Fill::Small,
            Fill::Own,
            Fill::Large,
            Fill::Wide,
            Fill::Marks,
            Fill::Related,
            Fill::Listings,
            Fill::Overdue,
        ] {
            let bench = Bench::start(fill.name()).await?;
            costs.extend(bench.measure(fill).await?);
        }
        Ok(costs)
    }

    /// Whether no script took longer than it may.
    pub fn is_within(&self) -> bool {
        self.longest_micros <= SCRIPT_MICROS_MAX
    }
}

impl fmt::Display for RedisCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_within() { "" } else { "  TOO LONG" };
        let ms = |micros: u64| micros as f64 / 1000.0;
        write!(
            f,
            "{:<58} {:>5} scripts, longest {:>8.2} ms, all {:>9.2} ms{mark}",
            self.what,
            self.scripts,
            ms(self.longest_micros),
            ms(self.all_micros),
        )
    }
}

/// With what the limits are filled.
#[derive(Debug, Clone, Copy)]
enum Fill {
    /// Many small events of several keys for one repository.
    Small,
    /// An author's own, for a repository with a long and odd name.
    Own,
    /// Few large ones.
    Large,
    /// PRs to as many repositories with long and odd names as may be.
    Wide,
    /// Dirty marks and placeholders.
    Marks,
    /// Related events behind wide PRs.
    Related,
    /// Announcements of repositories with long and odd names that list as many maintainers as may be.
    Listings,
    /// Wide PRs and placeholders that are past their deadline.
    Overdue,
}

impl Fill {
    fn name(self) -> &'static str {
        match self {
            Self::Small => "small states",
            Self::Own => "own events",
            Self::Large => "large states",
            Self::Wide => "wide PRs",
            Self::Marks => "marks",
            Self::Related => "related events",
            Self::Listings => "listings",
            Self::Overdue => "overdue",
        }
    }
}

/// A Redis, and what watches it.
struct Bench {
    name: &'static str,
    purgatory: Purgatory,
    connection: MultiplexedConnection,
    _server: RedisServer,
    _folder: TempDir,
}

impl Bench {
    async fn start(name: &'static str) -> Result<Self, PurgatoryError> {
        let folder = TempDir::new().unwrap();
        let server = RedisServer::start(folder.path(), false).await;
        let mut connection = connect(&server.url()).await.unwrap();
        // A disk is no part of what a script costs.
        for (setting, value) in [
            ("appendfsync", "no"),
            ("slowlog-log-slower-than", "0"),
            ("slowlog-max-len", "100000"),
        ] {
            let mut set = redis::cmd("CONFIG");
            set.arg("SET").arg(setting).arg(value);
            let () = set.query_async(&mut connection).await.unwrap();
        }
        let settings = RedisSettings {
            slow: PATIENCE,
            call_timeout: PATIENCE,
            ..RedisSettings::at(&server.url())
        };
        Ok(Self {
            name,
            purgatory: Purgatory::connect(&settings, Limits::DEFAULT).await?,
            connection,
            _server: server,
            _folder: folder,
        })
    }

    async fn measure(mut self, fill: Fill) -> Result<Vec<RedisCost>, PurgatoryError> {
        match fill {
            Fill::Small => self.small().await,
            Fill::Own => self.own().await,
            Fill::Large => self.large().await,
            Fill::Wide => self.wide().await,
            Fill::Marks => self.marks().await,
            Fill::Related => self.related().await,
            Fill::Listings => self.listings().await,
            Fill::Overdue => self.overdue().await,
        }
    }

    /// Forgets what Redis has done so far.
    async fn begin(&mut self) {
        let mut reset = redis::cmd("SLOWLOG");
        reset.arg("RESET");
        let () = reset.query_async(&mut self.connection).await.unwrap();
    }

    /// Returns what the scripts since then cost.
    async fn end(&mut self, what: &str) -> RedisCost {
        let mut log = redis::cmd("SLOWLOG");
        log.arg("GET").arg("-1");
        let rows: Vec<Vec<Value>> = log.query_async(&mut self.connection).await.unwrap();
        let mut micros: Vec<u64> = rows.iter().filter_map(|row| script_micros(row)).collect();
        micros.sort_unstable();
        RedisCost {
            what: format!("{}: {what}", self.name),
            scripts: micros.len(),
            longest_micros: micros.iter().rev().nth(micros.len() / 20).copied().unwrap_or(0),
            all_micros: micros.iter().sum(),
        }
    }

    /// Holds events until all are tried, and returns those that are held.
    async fn fill(&mut self, holds: impl Iterator<Item = Hold>) -> Result<Vec<Hold>, PurgatoryError> {
        let mut held = Vec::new();
        for hold in holds {
            if self.purgatory.hold(&hold).await? == HoldOutcome::Held {
                held.push(hold);
            }
        }
        Ok(held)
    }

    async fn small(&mut self) -> Result<Vec<RedisCost>, PurgatoryError> {
        let keys: Vec<Keys> = (0..10).map(|_| Keys::generate()).collect();
        let mut costs = Vec::new();
        self.begin().await;
        let events = keys
            .iter()
            .flat_map(|key| (0..1000).map(move |at| state(key, "victim", at, 0)));
        let held = self
            .fill(events.map(|event| hold(event, &["victim".to_owned()])))
            .await?;
        costs.push(self.end(&format!("hold {} of them", held.len())).await);
        costs.extend(self.read_all(&["victim".to_owned()]).await?);
        costs.extend(self.change_all(&held).await?);

        self.begin().await;
        let author = &keys[0];
        let kinds = 30_000..30_100;
        self.delete(author, BTreeSet::new(), kinds.map(|kind| (kind, identifier("victim"))))
            .await?;
        costs.push(self.end("kind 5 with 100 addresses of one repository").await);
        costs.extend(self.release_all(&held[..held.len() / 2]).await?);
        costs.extend(self.vanish_all(&keys).await?);
        Ok(costs)
    }

    /// Announces, replaces and ends what lists many.
    async fn listings(&mut self) -> Result<Vec<RedisCost>, PurgatoryError> {
        let mut costs = Vec::new();
        let author = Keys::generate();
        let announce = |number: usize, created_at| {
            let listed = (0..200).map(|_| Keys::generate().public_key().to_hex());
            let maintainers: Vec<String> = ["maintainers".to_owned()].into_iter().chain(listed).collect();
            let name = odd_name(number);
            let event = EventBuilder::new(Kind::Custom(30_617), "")
                .tags([Tag::parse(["d", &name]).unwrap(), Tag::parse(maintainers).unwrap()])
                .custom_created_at(Timestamp::from_secs(created_at))
                .finalize(&author)
                .unwrap();
            let at = Coordinate {
                owner: author.public_key(),
                identifier: identifier(&name),
            };
            Hold {
                coordinates: [at].into(),
                room: Room::Always,
                hold_secs: 0,
                ..hold(event, &[])
            }
        };
        for (what, created_at) in [("hold", 1), ("replace", 2)] {
            let holds: Vec<Hold> = (0..100).map(|number| announce(number, created_at)).collect();
            self.begin().await;
            let held = self.fill(holds.into_iter()).await?;
            costs.push(self.end(&format!("{what} {} of them", held.len())).await);
        }
        let latest: Vec<Hold> = (0..100).map(|number| announce(number, 3)).collect();
        let held = self.fill(latest.into_iter()).await?;
        let coordinates: Vec<Coordinate> = held.iter().flat_map(|hold| hold.coordinates.clone()).collect();
        self.begin().await;
        self.purgatory.read(&coordinates.iter().cloned().collect()).await?;
        costs.push(self.end("read them").await);
        self.begin().await;
        for at in &coordinates {
            let keys = |_| Keys::generate().public_key();
            let [served, others] = [0..200, 0..200].map(|range| range.map(keys).collect());
            self.purgatory
                .note_listings(at, &Listing::new(&served, &others))
                .await?;
        }
        costs.push(self.end("note others").await);
        let newer: Vec<Hold> = (0..25).map(|number| announce(number, 4)).collect();
        self.begin().await;
        let newer = self.fill(newer.into_iter()).await?;
        costs.push(self.end("replace 25 of which others are noted").await);
        self.begin().await;
        for hold in &newer {
            self.purgatory.expire(&hold.event.id, Expiry::Gone).await?;
        }
        costs.push(self.end("expire 25").await);
        let id = |hold: &Hold| hold.event.id;
        self.begin().await;
        self.purgatory.end(&held[25..50].iter().map(id).collect()).await?;
        costs.push(self.end("end 25").await);
        self.begin().await;
        self.delete(&author, held[50..75].iter().map(id).collect(), [].into_iter())
            .await?;
        costs.push(self.end("kind 5 with 25 ids").await);
        costs.extend(self.vanish_all(std::slice::from_ref(&author)).await?);
        Ok(costs)
    }

    /// Fills what one author may have for one repository, which is in one index with all that is the author's.
    async fn own(&mut self) -> Result<Vec<RedisCost>, PurgatoryError> {
        let (author, name) = (Keys::generate(), odd_name(0));
        let repository = Coordinate {
            owner: author.public_key(),
            identifier: identifier(&name),
        };
        let hold_own = |kind, created_at| Hold {
            coordinates: [repository.clone()].into(),
            ..hold(event(&author, kind, &name, created_at, 0), &[])
        };
        let mut costs = Vec::new();
        let announcements: Vec<Release> = (0..99)
            .map(|at| Release {
                event: hold_own(30_617, at).event.into(),
                coordinates: [repository.clone()].into(),
                after: BTreeSet::new(),
            })
            .collect();
        self.begin().await;
        let marked = self.purgatory.mark_releasing(&announcements, 1000).await?;
        let count = marked.leased.len();
        costs.push(self.end(&format!("mark {count} announcements releasing")).await);
        self.begin().await;
        self.purgatory.hold(&hold_own(30_617, 99)).await?;
        costs.push(self.end("hold another").await);
        self.begin().await;
        let held = self.fill((0..200).map(|at| hold_own(30_618, at))).await?;
        costs.push(self.end(&format!("hold {} states", held.len())).await);
        self.begin().await;
        self.purgatory.read(&[repository.clone()].into()).await?;
        costs.push(self.end("read the repository").await);
        self.begin().await;
        let others = (1..=200).map(|number| Coordinate {
            owner: author.public_key(),
            identifier: identifier(&odd_name(number)),
        });
        self.purgatory.read(&others.collect()).await?;
        costs.push(self.end("read 200 of which there is nothing").await);
        self.begin().await;
        self.delete(
            &author,
            BTreeSet::new(),
            [(30_617, repository.identifier.clone())].into_iter(),
        )
        .await?;
        costs.push(self.end("delete the announcements").await);
        costs.extend(self.vanish_all(std::slice::from_ref(&author)).await?);
        Ok(costs)
    }

    async fn large(&mut self) -> Result<Vec<RedisCost>, PurgatoryError> {
        let keys: Vec<Keys> = (0..8).map(|_| Keys::generate()).collect();
        let mut costs = Vec::new();
        self.begin().await;
        let events = keys
            .iter()
            .flat_map(|key| (0..32).map(move |at| state(key, "victim", at, 500 << 10)));
        let held = self
            .fill(events.map(|event| hold(event, &["victim".to_owned()])))
            .await?;
        costs.push(self.end(&format!("hold {} of them", held.len())).await);
        costs.extend(self.read_all(&["victim".to_owned()]).await?);
        costs.extend(self.release_all(&held).await?);
        costs.extend(self.large_announcements().await?);
        costs.extend(self.delete_what_others_wait_for().await?);
        Ok(costs)
    }

    /// Fills the room that one repository has for announcements, of which the relay takes none: all are read at once.
    async fn large_announcements(&mut self) -> Result<Vec<RedisCost>, PurgatoryError> {
        let author = Keys::generate();
        let repository = Coordinate {
            owner: author.public_key(),
            identifier: identifier("victim"),
        };
        let bytes = Limits::DEFAULT.event_bytes_max as usize - 1_000;
        let announcements = (0..20).map(|at| Hold {
            coordinates: [repository.clone()].into(),
            ..hold(event(&author, 30_617, "victim", at, bytes), &[])
        });
        let (mut before, mut count) = (BTreeSet::new(), 0);
        self.begin().await;
        for hold in announcements {
            if self.purgatory.hold(&hold).await? != HoldOutcome::Held {
                break;
            }
            let release = Release {
                after: before.clone(),
                coordinates: hold.coordinates.clone(),
                event: hold.event.into(),
            };
            before.insert(release.event.id);
            let marked = self.purgatory.mark_releasing(&[release], 1000).await?;
            count += marked.leased.len() + marked.waiting.len();
        }
        let held = self
            .end(&format!("have {count} announcements of a repository released"))
            .await;
        self.begin().await;
        self.purgatory.read(&[repository].into()).await?;
        Ok(vec![held, self.end("read them").await])
    }

    /// Deletes events that the relay does not take, and that many others are ordered after.
    async fn delete_what_others_wait_for(&mut self) -> Result<Vec<RedisCost>, PurgatoryError> {
        let [author, other] = [Keys::generate(), Keys::generate()];
        let release = |event: Event, after: BTreeSet<EventId>| Release {
            event: event.into(),
            coordinates: [coordinate("victim")].into(),
            after,
        };
        let firsts: Vec<Event> = (0..32).map(|at| state(&author, "victim", at, 0)).collect();
        let ids: BTreeSet<EventId> = firsts.iter().map(|first| first.id).collect();
        let mut releases: Vec<Release> = Vec::new();
        for (number, first) in firsts.iter().enumerate() {
            let behind = (0..200).map(|at| state(&other, "victim", number as u64 * 200 + at, 0));
            releases.extend(behind.map(|event| release(event, [first.id].into())));
        }
        let firsts = firsts.into_iter().map(|first| release(first, BTreeSet::new()));
        drop(self.purgatory.mark_releasing(&firsts.collect::<Vec<_>>(), 1000).await?);
        let marked = self.purgatory.mark_releasing(&releases, 1000).await?;
        self.begin().await;
        self.delete(&author, ids, [].into_iter()).await?;
        let what = format!("kind 5 with 32 ids that {} are ordered after", marked.waiting.len());
        Ok(vec![self.end(&what).await])
    }

    async fn wide(&mut self) -> Result<Vec<RedisCost>, PurgatoryError> {
        let keys: Vec<Keys> = (0..10).map(|_| Keys::generate()).collect();
        let mut costs = Vec::new();
        self.begin().await;
        let mut holds = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            for at in 0..300 {
                let names: Vec<String> = (0..16)
                    .map(|place| odd_name((number * 300 + at) * 16 + place))
                    .collect();
                holds.push(hold(event(key, 1618, "", at as u64, 0), &names));
            }
        }
        let held = self.fill(holds.into_iter()).await?;
        costs.push(self.end(&format!("hold {} of them", held.len())).await);
        let names: Vec<String> = held[0].coordinates.iter().map(|at| at.identifier.to_string()).collect();
        costs.extend(self.read_all(&names).await?);
        costs.extend(self.change_all(&held).await?);
        self.begin().await;
        let ids = held.iter().take(100).map(|hold| hold.event.id);
        let addresses = (0..100).map(|number| (30_617, identifier(&odd_name(number))));
        self.delete(&keys[0], ids.collect(), addresses).await?;
        costs.push(self.end("kind 5 with 100 ids and 100 addresses").await);
        costs.extend(self.release_all(&held[100..held.len() / 2]).await?);
        costs.extend(self.vanish_all(&keys).await?);
        Ok(costs)
    }

    async fn marks(&mut self) -> Result<Vec<RedisCost>, PurgatoryError> {
        let mut costs = Vec::new();
        self.begin().await;
        let coordinates: BTreeSet<Coordinate> = (0..100_000)
            .map(|number| coordinate(&format!("repository-{number}")))
            .collect();
        self.purgatory.mark_dirty(&coordinates).await?;
        costs.push(self.end("mark 100,000 repositories dirty").await);
        self.begin().await;
        self.purgatory.dirty(10_000).await?;
        costs.push(self.end("list 10,000 dirty repositories").await);

        self.begin().await;
        for number in 0..3_100 {
            let refusal = NotedRefusal {
                request: number.to_string(),
                reason: "\u{1b}".repeat(1_000),
                ..NotedRefusal::default()
            };
            self.purgatory.note_refusal(&refusal).await?;
        }
        self.purgatory.refusals(usize::MAX).await?;
        costs.push(self.end("note 3,100 refusals and list them").await);

        self.begin().await;
        let oid = "a".repeat(40).parse().unwrap();
        for number in 0..Limits::DEFAULT.placeholders_per_repository_max {
            let id = EventId::from_hex(&format!("{number:064x}")).unwrap();
            let _ = self
                .purgatory
                .put_placeholder(&id, &coordinate("victim"), oid, 1000, None)
                .await?;
        }
        costs.push(self.end("record placeholders of one repository").await);
        self.begin().await;
        self.purgatory.read(&[coordinate("victim")].into()).await?;
        costs.push(self.end("read the repository").await);
        costs.extend(self.reconcile_many().await?);
        Ok(costs)
    }

    /// Fills the places behind some PRs with events that refer to as much as is read of them.
    async fn related(&mut self) -> Result<Vec<RedisCost>, PurgatoryError> {
        let mut costs = Vec::new();
        let names: Vec<String> = (0..16).map(odd_name).collect();
        let author = Keys::generate();
        let prs: Vec<Hold> = (0..3).map(|at| hold(event(&author, 1618, "", at, 0), &names)).collect();
        let others = (0..99_u64).map(|number| EventId::from_hex(&format!("{number:064x}")).unwrap());
        let others: BTreeSet<EventId> = others.collect();
        self.begin().await;
        for pr in &prs {
            self.purgatory.hold(pr).await?;
            for _ in 0..100 {
                let related = event(&Keys::generate(), 1111, "", 1, 0);
                let refers_to: BTreeSet<EventId> = others.iter().copied().chain([pr.event.id]).collect();
                self.hold_behind(related, refers_to).await?;
            }
        }
        costs.push(self.end("hold as many as may be behind each of 3 PRs").await);

        let first = Release {
            event: prs[0].event.clone().into(),
            coordinates: prs[0].coordinates.clone(),
            after: BTreeSet::new(),
        };
        self.begin().await;
        let marked = self.purgatory.mark_releasing(&[first], 1000).await?;
        for leased in marked.leased {
            self.purgatory
                .settle(&leased.event.id, leased.lease, &Settlement::Served)
                .await?;
        }
        costs.push(self.end("release a PR and what waits behind it").await);
        self.begin().await;
        self.purgatory.take_due(1000, 1000).await?;
        costs.push(self.end("take what waited").await);
        self.begin().await;
        self.purgatory
            .end(&prs[1..].iter().map(|pr| pr.event.id).collect())
            .await?;
        costs.push(self.end("end two PRs and what waits behind them").await);
        costs.extend(self.early(&names).await?);
        Ok(costs)
    }

    /// Has all that came before an event wait behind as many others as one may wait behind.
    async fn early(&mut self, names: &[String]) -> Result<Vec<RedisCost>, PurgatoryError> {
        let mut costs = Vec::new();
        let author = Keys::generate();
        let prs: Vec<Hold> = (0..4).map(|at| hold(event(&author, 1618, "", at, 0), names)).collect();
        let middle = event(&Keys::generate(), 1111, "", 1, 0);
        for _ in 0..32 {
            let early = event(&Keys::generate(), 1111, "", 1, 0);
            self.hold_behind(early, [middle.id].into()).await?;
        }
        for pr in &prs {
            self.purgatory.hold(pr).await?;
        }
        self.begin().await;
        self.hold_behind(middle, prs.iter().map(|pr| pr.event.id).collect())
            .await?;
        costs.push(self.end("hold what others wait behind").await);
        self.begin().await;
        self.purgatory.end(&prs.iter().map(|pr| pr.event.id).collect()).await?;
        costs.push(self.end("end all that they wait behind").await);
        Ok(costs)
    }

    async fn hold_behind(&self, related: Event, refers_to: BTreeSet<EventId>) -> Result<(), PurgatoryError> {
        let reading = self.purgatory.read_related(&related.id, &refers_to).await?;
        let behind = Behind {
            refers_to,
            last_lease: reading.last_lease,
            may_be_early: true,
        };
        let hold = Hold {
            behind: Some(behind),
            ..hold(related, &[])
        };
        self.purgatory.hold(&hold).await?;
        Ok(())
    }

    /// Has what is past its deadline reconciled, and the members taken out of which a crash has left nothing else.
    async fn overdue(&mut self) -> Result<Vec<RedisCost>, PurgatoryError> {
        let mut costs = Vec::new();
        let count = self.hold_overdue().await?;
        self.begin().await;
        while self.purgatory.mark_overdue(64, 1000).await? > 0 {}
        costs.push(self.end(&format!("mark {count} overdue")).await);

        // Anew: what was marked is looked at again much later.
        let () = redis::cmd("FLUSHALL").query_async(&mut self.connection).await.unwrap();
        let count = self.hold_overdue().await?;
        for left in ["{purgatory}:entry:*", "{purgatory}:placeholder:*"] {
            let list = redis::cmd("KEYS").arg(left).query_async(&mut self.connection).await;
            let keys: Vec<String> = list.unwrap();
            let () = redis::cmd("UNLINK")
                .arg(keys)
                .query_async(&mut self.connection)
                .await
                .unwrap();
        }
        self.begin().await;
        while self.has_any_waiting().await? {
            self.purgatory.mark_overdue(64, 1000).await?;
        }
        costs.push(self.end(&format!("take out {count} that have vanished")).await);
        Ok(costs)
    }

    async fn has_any_waiting(&self) -> Result<bool, PurgatoryError> {
        let counts = self.purgatory.counts().await?;
        Ok(counts.waiting + counts.placeholders > 0)
    }

    /// Holds wide PRs and records placeholders that are overdue at once, and returns how many.
    async fn hold_overdue(&mut self) -> Result<usize, PurgatoryError> {
        let oid = "a".repeat(40).parse().unwrap();
        let mut holds = Vec::new();
        for number in 0..200 {
            let names: Vec<String> = (0..16).map(|place| odd_name(number * 16 + place)).collect();
            let event = event(&Keys::generate(), 1618, "", 1, 0);
            let place = coordinate(&names[0]);
            let _ = self.purgatory.put_placeholder(&event.id, &place, oid, 0, None).await?;
            holds.push(Hold {
                hold_secs: 0,
                ..hold(event, &names)
            });
        }
        Ok(2 * self.fill(holds.into_iter()).await?.len())
    }

    /// Reconciles as many PRs as one repository may have waiting.
    async fn reconcile_many(&mut self) -> Result<Vec<RedisCost>, PurgatoryError> {
        let (mut costs, at) = (Vec::new(), coordinate("victim"));
        let ids = (0..Limits::DEFAULT.entries_per_repository_max).map(|number| format!("{number:064x}"));
        let ids: BTreeSet<EventId> = ids.map(|id| EventId::from_hex(&id).unwrap()).collect();
        self.begin().await;
        self.purgatory.mark_unreconciled(&at, &ids).await?;
        costs.push(self.end(&format!("have {} PRs reconciled", ids.len())).await);
        let staged = ids.iter().map(|id| (*id, PullRequestOutcome::Staged)).collect();
        self.begin().await;
        while self.reconcile_page(&at, &staged).await? {}
        costs.push(self.end("reconcile them").await);
        self.begin().await;
        self.purgatory.begin_rounds(&[at.clone()].into()).await?;
        while self.reconcile_page(&at, &staged).await? {}
        costs.push(self.end("reconcile all of them again").await);
        Ok(costs)
    }

    async fn reconcile_page(
        &self,
        at: &Coordinate,
        found: &BTreeMap<EventId, PullRequestOutcome>,
    ) -> Result<bool, PurgatoryError> {
        let unreconciled = self.purgatory.unreconciled_page(at).await?;
        self.purgatory.note_reconciled(at, &unreconciled, found).await
    }

    async fn read_all(&mut self, names: &[String]) -> Result<Vec<RedisCost>, PurgatoryError> {
        self.begin().await;
        let reading = self
            .purgatory
            .read(&names.iter().map(|name| coordinate(name)).collect())
            .await?;
        Ok(vec![self.end(&format!("read {} of them", reading.entries.len())).await])
    }

    /// What changes entries that stay.
    async fn change_all(&mut self, held: &[Hold]) -> Result<Vec<RedisCost>, PurgatoryError> {
        let mut costs = Vec::new();
        let first: BTreeSet<EventId> = held.iter().take(1000).map(|hold| hold.event.id).collect();
        self.begin().await;
        let notes: BTreeMap<EventId, String> = first.iter().map(|id| (*id, "x".repeat(1000))).collect();
        self.purgatory.note_waiting(&notes).await?;
        costs.push(self.end("note what 1,000 wait for").await);
        self.begin().await;
        self.purgatory.extend(&first, 5000).await?;
        costs.push(self.end("extend 1,000").await);
        self.begin().await;
        let one = Hold {
            extend: first.clone(),
            ..hold(event(&Keys::generate(), 30618, "victim", 1, 0), &["victim".to_owned()])
        };
        self.purgatory.hold(&one).await?;
        costs.push(self.end("hold one that extends 1,000").await);
        self.begin().await;
        self.purgatory.mark_held().await?;
        costs.push(self.end("mark everything held dirty").await);
        let late: BTreeSet<EventId> = held.iter().take(64).map(|hold| hold.event.id).collect();
        self.begin().await;
        for id in &late {
            self.purgatory.expire(id, Expiry::Gone).await?;
        }
        costs.push(self.end("expire 64").await);
        Ok(costs)
    }

    /// Releases and settles.
    async fn release_all(&mut self, held: &[Hold]) -> Result<Vec<RedisCost>, PurgatoryError> {
        let mut costs = Vec::new();
        let first: BTreeSet<EventId> = held.iter().take(1).map(|hold| hold.event.id).collect();
        let releases: Vec<Release> = held
            .iter()
            .take(2000)
            .map(|hold| Release {
                event: hold.event.clone().into(),
                coordinates: hold.coordinates.clone(),
                after: first.iter().filter(|id| **id != hold.event.id).copied().collect(),
            })
            .collect();
        self.begin().await;
        let marked = self.purgatory.mark_releasing(&releases, 0).await?;
        costs.push(self.end(&format!("mark {} releasing", releases.len())).await);
        drop(marked);
        self.begin().await;
        let due: Vec<Leased> = self.purgatory.take_due(64, 1000).await?;
        costs.push(self.end(&format!("take {} due", due.len())).await);
        self.begin().await;
        for leased in &due {
            self.purgatory
                .settle(&leased.event.id, leased.lease, &Settlement::Dropped)
                .await?;
        }
        costs.push(self.end("settle them").await);
        Ok(costs)
    }

    /// What ends entries, of one author after the other.
    async fn vanish_all(&mut self, keys: &[Keys]) -> Result<Vec<RedisCost>, PurgatoryError> {
        self.begin().await;
        for key in keys {
            self.purgatory.vanish(&key.public_key(), u64::from(u32::MAX)).await?;
        }
        Ok(vec![self.end("vanish, with everything").await])
    }

    async fn delete(
        &self,
        author: &Keys,
        event_ids: BTreeSet<EventId>,
        addresses: impl Iterator<Item = (u16, Identifier)>,
    ) -> Result<(), PurgatoryError> {
        let deletion = Deletion {
            author: author.public_key(),
            created_at: u64::from(u32::MAX),
            event_ids,
            addresses: addresses.collect(),
        };
        self.purgatory.delete(&deletion).await?;
        Ok(())
    }
}

/// Returns the time of a row of the slow log, if it is of a script.
fn script_micros(row: &[Value]) -> Option<u64> {
    let [_, _, Value::Int(micros), Value::Array(words), ..] = row else {
        return None;
    };
    let is_script = matches!(words.first(), Some(Value::BulkString(word)) if word.eq_ignore_ascii_case(b"EVALSHA"));
    is_script.then_some(micros.unsigned_abs())
}

/// The victim's repository with this name.
fn coordinate(name: &str) -> Coordinate {
    static VICTIM: LazyLock<PublicKey> = LazyLock::new(|| Keys::generate().public_key());
    Coordinate {
        owner: *VICTIM,
        identifier: identifier(name),
    }
}

fn identifier(name: &str) -> Identifier {
    name.parse().unwrap()
}

/// Returns as long a name as may be, most of whose bytes are written as three in a key.
fn odd_name(number: usize) -> String {
    format!("{number:07}{}", "🦀".repeat(62))
}

fn state(author: &Keys, name: &str, created_at: u64, bytes: usize) -> Event {
    event(author, 30618, name, created_at, bytes)
}

fn event(author: &Keys, kind: u16, name: &str, created_at: u64, bytes: usize) -> Event {
    EventBuilder::new(Kind::Custom(kind), "x".repeat(bytes))
        .tag(Tag::parse(["d", name]).unwrap())
        .custom_created_at(Timestamp::from_secs(created_at))
        .finalize(author)
        .unwrap()
}

fn hold(event: Event, names: &[String]) -> Hold {
    Hold {
        event,
        coordinates: names.iter().map(|name| coordinate(name)).collect(),
        source: "IP4 203.0.113.7".to_owned(),
        hold_secs: 1800,
        extend: BTreeSet::new(),
        room: Room::WithinLimits,
        is_new_repository: false,
        behind: None,
    }
}
