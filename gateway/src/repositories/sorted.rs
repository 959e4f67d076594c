//! A sorted list of very many. One is added, removed or counted to in microseconds, wherever it stands: in one piece,
//! or by sorting, it would be tens of milliseconds with millions.

/// Each once, sorted.
#[derive(Debug)]
pub(super) struct SortedPieces<T> {
    /// SortedPieces in itself and among the others; none is empty.
    pieces: Vec<Vec<T>>,
    count: usize,
}

impl<T> Default for SortedPieces<T> {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            count: 0,
        }
    }
}

impl<T: Ord> SortedPieces<T> {
    /// Adds one; returns whether it was not there.
    pub(super) fn insert(&mut self, item: T) -> bool {
        if self.pieces.is_empty() {
            self.pieces.push(Vec::new());
        }
        let at = self.piece_of(|other| *other <= item);
        let piece = &mut self.pieces[at];
        let Err(place) = piece.binary_search(&item) else {
            return false;
        };
        piece.insert(place, item);
        if piece.len() == PIECE_MAX {
            let rest = piece.split_off(PIECE_MAX / 2);
            self.pieces.insert(at + 1, rest);
        }
        self.count += 1;
        true
    }

    /// Removes the one that equals `item`; returns whether it was there.
    pub(super) fn remove(&mut self, item: &T) -> bool {
        let at = self.piece_of(|other| other <= item);
        let Some(piece) = self.pieces.get_mut(at) else {
            return false;
        };
        let Ok(place) = piece.binary_search(item) else {
            return false;
        };
        piece.remove(place);
        if piece.is_empty() {
            self.pieces.remove(at);
        }
        self.count -= 1;
        true
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns how many of the first ones are `before`; none of the rest is.
    pub(super) fn partition_point(&self, before: impl Fn(&T) -> bool) -> usize {
        let at = self.piece_of(&before);
        let skipped: usize = self.pieces.iter().take(at).map(Vec::len).sum();
        skipped + self.pieces.get(at).map_or(0, |piece| piece.partition_point(before))
    }

    /// Returns those from this place on.
    pub(super) fn from(&self, place: usize) -> impl Iterator<Item = &T> {
        let mut left = place;
        self.pieces.iter().flat_map(move |piece| {
            let skipped = left.min(piece.len());
            left -= skipped;
            &piece[skipped..]
        })
    }

    /// Returns the last piece that begins with one that is `before`, or the first.
    fn piece_of(&self, before: impl Fn(&T) -> bool) -> usize {
        let begun = |piece: &Vec<T>| piece.first().is_some_and(&before);
        self.pieces.partition_point(begun).saturating_sub(1)
    }
}

/// Of these, two million make some thousands of pieces: as fast to go over as one of them is to move.
const PIECE_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_the_set_of_what_was_added_and_not_removed() {
        let (mut sorted, mut expected) = (SortedPieces::default(), BTreeSet::new());
        for step in 0..40_000_usize {
            let number = step * 7919 % 10_007;
            match step % 5 {
                0 | 1 => assert_eq!(sorted.remove(&number), expected.remove(&number)),
                _ => assert_eq!(sorted.insert(number), expected.insert(number)),
            }
        }

        assert!(sorted.pieces.len() > 3);
        assert_eq!(sorted.len(), expected.len());
        assert!(sorted.from(0).eq(&expected));
        for number in [0, 1, 5000, 10_006, 20_000] {
            let before = sorted.partition_point(|other| *other < number);
            assert_eq!(before, expected.range(..number).count());
            assert!(sorted.from(before).eq(expected.range(number..)));
        }
        for number in &expected {
            assert!(sorted.remove(number));
        }
        assert_eq!((sorted.len(), sorted.pieces.len()), (0, 0));
        assert!(!sorted.remove(&1));
    }
}
