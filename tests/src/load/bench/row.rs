//! A line of the table: what is measured, beside what in the same run, and how good it has to be.

use serde_json::Value;
use serde_json::json;

/// Which part of the table a line belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Refs and pages.
    Read,
    /// Pushes and their events.
    Push,
    /// Clones.
    Clone,
    /// The gateway's memory.
    Memory,
    /// Readers while refs change.
    Steady,
    /// 5 GB in and out. Only where it is asked for.
    Large,
    /// How costs grow. Only where it is asked for.
    Growth,
    /// The plugin by itself: another program measures it (`scripts/plugin-rate`).
    Plugin,
}

impl Part {
    /// All of the table.
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::Push,
        Self::Clone,
        Self::Memory,
        Self::Steady,
        Self::Large,
        Self::Growth,
    ];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Push => "push",
            Self::Clone => "clone",
            Self::Memory => "memory",
            Self::Steady => "steady",
            Self::Large => "large",
            Self::Growth => "growth",
            Self::Plugin => "plugin",
        }
    }

    /// Whether it is measured without being asked for.
    pub fn is_usual(self) -> bool {
        !matches!(self, Self::Large | Self::Growth | Self::Plugin)
    }
}

/// What is measured.
#[derive(Debug, Clone)]
pub struct Row {
    /// In words.
    pub what: String,
    /// In which unit the figures are.
    pub unit: &'static str,
    /// What is measured beside it, and that it is divided by; `None`: the figure stands by itself.
    pub beside: Option<&'static str>,
    /// How good it has to be.
    pub bound: Bound,
}

/// How good a figure has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// No smaller.
    AtLeast(f64),
    /// No larger.
    AtMost(f64),
    /// It shows how a cost grows.
    None,
}

impl Row {
    /// A figure that stands by itself.
    pub fn alone(what: impl Into<String>, unit: &'static str, bound: Bound) -> Self {
        Self {
            what: what.into(),
            unit,
            beside: None,
            bound,
        }
    }

    /// A figure that is divided by another.
    pub fn beside(other: &'static str, what: impl Into<String>, unit: &'static str, bound: Bound) -> Self {
        Self {
            beside: Some(other),
            ..Self::alone(what, unit, bound)
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Of this server.
    pub ours: f64,
    /// Of what stands beside it.
    pub beside: Option<f64>,
}

impl Figure {
    /// Returns what is compared with the bound.
    fn value(&self) -> f64 {
        self.beside.map_or(self.ours, |beside| self.ours / beside)
    }
}

/// A line of the table.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where it belongs.
    pub part: Part,
    /// What was to be measured.
    pub row: Row,
    /// `None`: it could not be measured.
    pub figure: Option<Figure>,
}

impl Line {
    /// What stands above the columns.
    pub const HEADING: [&str; 7] = ["part", "what", "here", "beside it", "ratio", "bound", ""];

    /// A line about the plugin: its figure, and the one beside it, which counts only where the row names one.
    pub fn of_plugin(row: Row, [ours, beside]: [f64; 2]) -> Self {
        let beside = row.beside.map(|_| beside);
        Self {
            part: Part::Plugin,
            figure: Some(Figure { ours, beside }),
            row,
        }
    }

    /// Returns whether it is as good as it has to be, in a word.
    pub fn verdict(&self) -> &'static str {
        let Some(value) = self.figure.map(|figure| figure.value()) else {
            return "failed";
        };
        let holds = match self.row.bound {
            Bound::AtLeast(least) => value >= least,
            Bound::AtMost(most) => value <= most,
            Bound::None => return "",
        };
        if holds { "holds" } else { "over" }
    }

    /// Returns it as one sentence.
    pub fn sentence(&self) -> String {
        let [part, what, figures @ ..] = self.cells();
        let figures = figures.into_iter().filter(|cell| !cell.is_empty());
        format!("{part}: {what}: {}", figures.collect::<Vec<_>>().join("; "))
    }

    /// Returns what stands in the columns.
    pub fn cells(&self) -> [String; 7] {
        let Row {
            what,
            unit,
            beside,
            bound,
        } = &self.row;
        let with_unit = |figure: f64| format!("{} {unit}", number(figure)).trim_end().to_owned();
        let other = self.figure.and_then(|figure| figure.beside).zip(*beside);
        [
            self.part.name().to_owned(),
            what.clone(),
            self.figure.map(|figure| with_unit(figure.ours)).unwrap_or_default(),
            other
                .map(|(figure, what)| format!("{what}: {}", with_unit(figure)))
                .unwrap_or_default(),
            self.figure
                .filter(|_| beside.is_some())
                .map(|figure| number(figure.value()))
                .unwrap_or_default(),
            match (bound, beside) {
                (Bound::AtLeast(least), _) => format!("≥ {least}"),
                (Bound::AtMost(most), Some(_)) => format!("≤ {most}"),
                (Bound::AtMost(most), None) => format!("≤ {most} {unit}").trim_end().to_owned(),
                (Bound::None, _) => String::new(),
            },
            self.verdict().to_owned(),
        ]
    }

    /// Returns it for programs.
    pub fn to_json(&self) -> Value {
        let (at_least, at_most) = match self.row.bound {
            Bound::AtLeast(least) => (Some(least), None),
            Bound::AtMost(most) => (None, Some(most)),
            Bound::None => (None, None),
        };
        json!({
            "part": self.part.name(),
            "what": self.row.what,
            "unit": self.row.unit,
            "here": self.figure.map(|figure| figure.ours),
            "beside": self.row.beside,
            "beside_it": self.figure.and_then(|figure| figure.beside),
            "value": self.figure.map(|figure| figure.value()),
            "at_least": at_least,
            "at_most": at_most,
            "verdict": self.verdict(),
        })
    }
}

/// Returns a number with as many digits as mean something.
fn number(number: f64) -> String {
    match number {
        _ if number.fract() == 0.0 || number >= 100.0 => format!("{number:.0}"),
        _ if number >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}
