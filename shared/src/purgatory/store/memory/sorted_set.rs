//! Members by score: what a sorted set is in Redis.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

/// A set of members, each with one score, in the order of score and then member. Scores are whole numbers: times, and
/// numbers that were drawn.
#[derive(Default)]
pub(super) struct SortedSet {
    scores: HashMap<Arc<str>, i64>,
    in_order: BTreeSet<(i64, Arc<str>)>,
}

impl SortedSet {
    /// Adds a member, or moves it, and returns whether it is new.
    pub(super) fn set(&mut self, member: &str, score: i64) -> bool {
        let is_new = !self.remove(member);
        let member: Arc<str> = member.into();
        self.in_order.insert((score, Arc::clone(&member)));
        self.scores.insert(member, score);
        is_new
    }

    /// Removes a member, and returns whether it was there.
    pub(super) fn remove(&mut self, member: &str) -> bool {
        match self.scores.remove_entry(member) {
            Some((member, score)) => self.in_order.remove(&(score, member)),
            None => false,
        }
    }

    /// Returns the score of a member.
    pub(super) fn score(&self, member: &str) -> Option<i64> {
        self.scores.get(member).copied()
    }

    /// Returns how many members there are.
    pub(super) fn len(&self) -> usize {
        self.scores.len()
    }

    /// Returns the members with a score of at least `score_min` and at most `score_max`, lowest first.
    pub(super) fn between(&self, score_min: i64, score_max: i64) -> impl Iterator<Item = &Arc<str>> {
        let in_order = self.in_order.range((score_min, Arc::from(""))..);
        in_order
            .take_while(move |(score, _)| *score <= score_max)
            .map(|(_, member)| member)
    }

    /// Returns the members with a score of 0 in a range of names, in order.
    pub(super) fn named<'s>(&'s self, min: Bound<&str>, max: Bound<&'s str>) -> impl Iterator<Item = &'s Arc<str>> {
        let owned = |name: &str| (0, Arc::from(name));
        let in_order = self.in_order.range((min.map(owned), Bound::Unbounded));
        in_order
            .take_while(move |(score, member)| {
                *score == 0
                    && match max {
                        Bound::Included(max) => **member <= *max,
                        Bound::Excluded(max) => **member < *max,
                        Bound::Unbounded => true,
                    }
            })
            .map(|(_, member)| member)
    }

    /// Returns the members with a score of at most `score_max`, lowest first.
    pub(super) fn until(&self, score_max: i64) -> impl Iterator<Item = &Arc<str>> {
        let in_order = self.in_order.iter();
        in_order
            .take_while(move |(score, _)| *score <= score_max)
            .map(|(_, member)| member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_in_the_order_of_their_last_score() {
        let mut set = SortedSet::default();
        for (member, score, is_new) in [("a", 1, true), ("b", 2, true), ("a", 3, false), ("c", 2, true)] {
            assert_eq!(set.set(member, score), is_new, "{member}");
        }

        let until =
            |set: &SortedSet, score_max| -> Vec<String> { set.until(score_max).map(ToString::to_string).collect() };
        assert_eq!(until(&set, 2), ["b", "c"]);
        assert_eq!(until(&set, 3), ["b", "c", "a"]);
        assert!(set.remove("b"));
        assert!(!set.remove("b"));
        assert_eq!(until(&set, 3), ["c", "a"]);
        assert_eq!((set.len(), set.score("a")), (2, Some(3)));
    }
}
