//! Figures as they come: each is the next line of its measurement, and progress.

use crate::load::bench::row::Figure;
use crate::load::bench::row::Line;
use crate::load::bench::row::Part;
use crate::load::bench::row::Row;

/// How far it is.
#[derive(Debug)]
pub struct Measured<'p> {
    /// Lines that are done.
    pub done: usize,
    /// All lines.
    pub count: usize,
    /// The line that has just been done.
    pub ended: Option<&'p Line>,
    /// What is measured now; `None`: nothing of this measurement.
    pub now: Option<&'p str>,
}

/// Takes the figures of a measurement, in the order of its rows.
pub(super) struct Figures<'f> {
    part: Part,
    rows: std::slice::Iter<'f, Row>,
    lines: &'f mut Vec<Line>,
    count: usize,
    tell: &'f mut dyn FnMut(&Measured<'_>),
}

impl<'f> Figures<'f> {
    pub(super) fn begin(
        part: Part,
        rows: &'f [Row],
        (lines, count): (&'f mut Vec<Line>, usize),
        tell: &'f mut dyn FnMut(&Measured<'_>),
    ) -> Self {
        let mut figures = Self {
            part,
            rows: rows.iter(),
            lines,
            count,
            tell,
        };
        figures.tell(false);
        figures
    }

    /// Takes a figure that stands by itself.
    pub(super) fn alone(&mut self, ours: f64) {
        self.add(Some(Figure { ours, beside: None }));
    }

    /// Takes a figure, and what it is to be divided by.
    pub(super) fn beside(&mut self, [ours, beside]: [f64; 2]) {
        let beside = Some(beside);
        self.add(Some(Figure { ours, beside }));
    }

    /// Adds the rows that have no figures.
    pub(super) fn end(mut self) {
        while !self.rows.as_slice().is_empty() {
            self.add(None);
        }
    }

    fn add(&mut self, figure: Option<Figure>) {
        let row = self.rows.next().expect("a measurement has as many figures as rows");
        self.lines.push(Line {
            part: self.part,
            row: row.clone(),
            figure,
        });
        self.tell(true);
    }

    fn tell(&mut self, has_ended: bool) {
        (self.tell)(&Measured {
            done: self.lines.len(),
            count: self.count,
            ended: self.lines.last().filter(|_| has_ended),
            now: self.rows.as_slice().first().map(|row| row.what.as_str()),
        });
    }
}
