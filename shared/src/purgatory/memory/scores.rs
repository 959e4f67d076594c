//! Members by score: what a sorted set is in Redis.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::Hash;

/// A set of members, each with one score, in the order of score and then member.
#[derive(Debug)]
pub(super) struct Scores<T> {
    by_member: HashMap<T, u64>,
    in_order: BTreeSet<(u64, T)>,
}

impl<T> Default for Scores<T> {
    fn default() -> Self {
        Self {
            by_member: HashMap::new(),
            in_order: BTreeSet::new(),
        }
    }
}

impl<T: Clone + Eq + Hash + Ord> Scores<T> {
    /// Adds a member, or moves it.
    pub(super) fn set(&mut self, member: T, score: u64) {
        self.remove(&member);
        self.in_order.insert((score, member.clone()));
        self.by_member.insert(member, score);
    }

    /// Removes a member, and returns whether it was there.
    pub(super) fn remove(&mut self, member: &T) -> bool {
        match self.by_member.remove_entry(member) {
            Some((member, score)) => self.in_order.remove(&(score, member)),
            None => false,
        }
    }

    /// Returns the score of a member.
    pub(super) fn score(&self, member: &T) -> Option<u64> {
        self.by_member.get(member).copied()
    }

    /// Returns how many members there are.
    pub(super) fn len(&self) -> usize {
        self.by_member.len()
    }

    /// Returns the members with their scores, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&T, u64)> {
        self.in_order.iter().map(|(score, member)| (member, *score))
    }

    /// Returns at most `count_max` members with a score of at most `score_max`, lowest first.
    pub(super) fn until(&self, score_max: u64, count_max: usize) -> Vec<T> {
        self.iter()
            .take_while(|(_, score)| *score <= score_max)
            .take(count_max)
            .map(|(member, _)| member.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_in_the_order_of_their_last_score() {
        let mut scores = Scores::default();
        scores.set("a", 1);
        scores.set("b", 2);
        scores.set("a", 3);
        scores.set("c", 2);

        assert_eq!(scores.until(2, 9), ["b", "c"]);
        assert_eq!(scores.until(3, 2), ["b", "c"]);
        assert_eq!(scores.until(3, 9), ["b", "c", "a"]);
        assert!(scores.remove(&"b"));
        assert!(!scores.remove(&"b"));
        assert_eq!((scores.len(), scores.score(&"a")), (2, Some(3)));
    }
}
