//! One line of what is printed: what was measured, beside what, and whether that is within its bound.

use std::fmt;

/// One measurement.
#[derive(Debug)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// What it took, and what it is compared with.
    pub text: String,
    /// What the bound is for.
    pub value: f64,
    /// What the value is: `times`, `ms`.
    pub unit: &'static str,
    /// `None`: there is none.
    pub bound: Option<Bound>,
}

/// What a value has to be.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
}

impl Row {
    /// Whether the value is within its bound.
    pub fn is_within(&self) -> bool {
        match self.bound {
            None => true,
            Some(Bound::AtMost(most)) => self.value <= most,
            Some(Bound::AtLeast(least)) => self.value >= least,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            text,
            value,
            unit,
            bound,
        } = self;
        write!(f, "{name}: {text}: {value:.2} {unit}")?;
        let verdict = if self.is_within() { "ok" } else { "OVER" };
        match bound {
            None => Ok(()),
            Some(Bound::AtMost(most)) => write!(f, " (at most {most}: {verdict})"),
            Some(Bound::AtLeast(least)) => write!(f, " (at least {least}: {verdict})"),
        }
    }
}
