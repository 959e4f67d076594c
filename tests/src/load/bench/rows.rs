//! Which lines the table has, in which order, and how each is measured.

use crate::harness::options::Kind;
use crate::load::bench::measure::Measure;
use crate::load::bench::row::Bound;
use crate::load::bench::row::Bound::AtLeast;
use crate::load::bench::row::Bound::AtMost;
use crate::load::bench::row::Part;
use crate::load::bench::row::Row;
use crate::load::bench::sizes::Sizes;
use crate::load::read_rate::ReadRequest;

/// Lines that are measured together.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Where they belong.
    pub part: Part,
    /// What each of them has.
    pub rows: Vec<Row>,
    /// How they are measured: as many figures, in their order.
    pub(super) measure: Measure,
}

/// Returns everything that can be measured.
pub fn measurements(sizes: &Sizes) -> Vec<Measurement> {
    let mut all = vec![reads(sizes)];
    all.extend(WORLDS.map(|world| small_pushes(sizes, world)));
    all.extend(WORLDS.map(|world| many_refs(sizes, world)));
    all.push(clones(sizes));
    all.extend(WORLDS.map(|world| memory(Part::Memory, world, sizes.transfer_bytes, 1)));
    all.extend(WORLDS.map(|world| steady(sizes, world)));
    all.push(memory(Part::Large, WORLDS[1], sizes.large_bytes, LARGE_PUSHES));
    all.extend(sizes.grown_refs.iter().map(|refs| grown_refs(sizes, *refs)));
    all.extend(
        sizes
            .grown_repositories
            .iter()
            .map(|count| grown_repositories(sizes, *count)),
    );
    all.extend(sizes.grown_held.iter().map(|held| grown_held(sizes, *held)));
    all
}

fn reads(sizes: &Sizes) -> Measurement {
    let (many, all) = (format!("{} tags", sizes.tags), format!("{} refs", sizes.refs));
    let rates = [
        ("info/refs", ReadRequest::InfoRefs, 0, 0.5),
        ("info/refs of version 2", ReadRequest::InfoRefsV2, 0, 0.5),
        ("ls-refs", ReadRequest::LsRefs, 0, 0.5),
        ("info/refs", ReadRequest::InfoRefs, sizes.tags, 0.6),
        ("info/refs of version 2", ReadRequest::InfoRefsV2, sizes.tags, 0.6),
        ("ls-refs", ReadRequest::LsRefs, sizes.tags, 0.6),
        ("page", ReadRequest::Page, 0, 0.4),
    ];
    let rate = |(what, request, tags, least)| {
        let size = if tags == 0 { "one branch" } else { &many };
        let row = Row::beside(WARP, format!("{what}, {size}"), "/s", AtLeast(least));
        ((request, tags), row)
    };
    let (requests, mut rows): (Vec<_>, Vec<_>) = rates.map(rate).into_iter().unzip();
    rows.extend([
        Row::alone(format!("first info/refs after a push, {many}"), "ms", AtMost(2.0)),
        Row::beside(WARP, format!("info/refs, {all}"), "ms", AtMost(3.0)),
        Row::beside(WARP, format!("ls-refs, {all}"), "ms", AtMost(3.0)),
        Row::alone("git processes of `git fetch` with nothing new", "", AtMost(0.0)),
    ]);
    let measure = Measure::Reads {
        requests,
        time: sizes.rate_time,
        tags: sizes.tags,
        refs: sizes.refs,
        rounds: sizes.rounds,
    };
    Measurement {
        part: Part::Read,
        rows,
        measure,
    }
}

fn small_pushes(sizes: &Sizes, (kind, world): NamedWorld) -> Measurement {
    let most = match kind {
        Kind::Embedded => 1.3,
        Kind::Strfry => 1.6,
    };
    Measurement {
        part: Part::Push,
        rows: vec![
            Row::beside(FILE, format!("small push, {world}"), "ms", AtMost(most)),
            Row::beside(FILE, format!("the next small push, {world}"), "ms", AtMost(most)),
            Row::beside(FILE, format!("one that is refused, {world}"), "ms", Bound::None),
            Row::alone(format!("announcement and state, {world}"), "ms", AtMost(4.0)),
        ],
        measure: Measure::SmallPushes {
            kind,
            repositories: sizes.pushes,
        },
    }
}

fn many_refs(sizes: &Sizes, (kind, world): NamedWorld) -> Measurement {
    let refs = sizes.pushed_refs;
    let row = |push, most| Row::beside(FILE, format!("{push} {refs} refs, {world}"), "ms", most);
    let rows = ["creates", "moves"].map(|what| {
        let (push, refused) = (format!("push that {what}"), format!("refused push that {what}"));
        [row(push, AtMost(2.0)), row(refused, Bound::None)]
    });
    Measurement {
        part: Part::Push,
        rows: rows.into_iter().flatten().collect(),
        measure: Measure::ManyRefs {
            kind,
            refs,
            repositories: sizes.clones,
        },
    }
}

fn clones(sizes: &Sizes) -> Measurement {
    let full = |what| Row::beside("upload-pack with a bitmap", what, "ms", AtMost(1.15));
    Measurement {
        part: Part::Clone,
        rows: vec![
            Row::alone("bytes of a clone", "MB", Bound::None),
            full("full clone"),
            Row::beside("cat of the pack", "third identical clone", "ms", AtMost(3.0)),
            Row::alone("git processes of third identical clones", "", AtMost(0.0)),
            full("full clone after some small pushes"),
        ],
        measure: Measure::Clones {
            commits: sizes.commits,
            rounds: sizes.clones,
        },
    }
}

fn memory(part: Part, (kind, world): NamedWorld, bytes: usize, pushes: usize) -> Measurement {
    let size = format!("{} MB", bytes / 1_000_000);
    let pushed = match pushes {
        1 => format!("a push of {size}"),
        _ => format!("{pushes} pushes of {size} together"),
    };
    Measurement {
        part,
        rows: vec![
            Row::alone(format!("memory of an idle gateway, {world}"), "MB", AtMost(20.0)),
            Row::alone(format!("more in {pushed}, {world}"), "MB", AtMost(48.0)),
            Row::alone(format!("more in a clone of {size}, {world}"), "MB", AtMost(48.0)),
        ],
        measure: Measure::Memory { kind, bytes, pushes },
    }
}

fn steady(sizes: &Sizes, (kind, world): NamedWorld) -> Measurement {
    let updates = sizes.updates;
    let row = |of, what: &str| Row::beside(of, format!("{what} in {updates} updates, {world}"), "", AtMost(0.0));
    Measurement {
        part: Part::Steady,
        rows: vec![
            row("listings", "listings without a ref"),
            row("listings", "listings of half a push"),
            row("clones", "failed clones"),
        ],
        measure: Measure::Steady { kind, updates },
    }
}

fn grown_refs(sizes: &Sizes, refs: usize) -> Measurement {
    let many = format!("{refs} refs");
    Measurement {
        part: Part::Growth,
        rows: vec![
            Row::beside(WARP, format!("info/refs, {many}"), "ms", Bound::None),
            Row::alone(format!("small push, {many}"), "ms", Bound::None),
            Row::alone(format!("first info/refs after a push, {many}"), "ms", Bound::None),
        ],
        measure: Measure::GrownRefs {
            refs,
            rounds: sizes.rounds,
        },
    }
}

fn grown_repositories(sizes: &Sizes, count: usize) -> Measurement {
    let row = |what: &str, unit| {
        Row::beside(
            "1 repository",
            format!("{what}, {count} repositories"),
            unit,
            Bound::None,
        )
    };
    Measurement {
        part: Part::Growth,
        rows: vec![
            row("start until refs are answered", "ms"),
            row("small push after a start", "ms"),
            row("memory", "MB"),
        ],
        measure: Measure::GrownRepositories {
            count,
            pushes: sizes.grown_pushes,
            watch: sizes.watch,
        },
    }
}

fn grown_held(sizes: &Sizes, held: usize) -> Measurement {
    let row = |what: &str| Row::beside("none held", format!("{what}, {held} held"), "ms", Bound::None);
    Measurement {
        part: Part::Growth,
        rows: vec![
            row("an event"),
            row("small push"),
            row("a script in Redis"),
            Row::alone(format!("Redis for each event, {held} held"), "bytes", Bound::None),
        ],
        measure: Measure::GrownHeld {
            held,
            pushes: sizes.grown_pushes,
        },
    }
}

/// A world, and what the table calls it.
type NamedWorld = (Kind, &'static str);

const WORLDS: [NamedWorld; 2] = [(Kind::Embedded, "embedded"), (Kind::Strfry, "beside strfry")];
const WARP: &str = "warp, as many bytes";
const FILE: &str = "file://";
/// Each has less than one push may have.
const LARGE_PUSHES: usize = 10;
