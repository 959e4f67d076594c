//! Turns for work that is done one at a time. Whoever has much to do has no more turns than others meanwhile: each
//! request of a payer comes behind the first of everybody who waits, its second behind their second, and so on. Every
//! other turn goes to the request that has waited longest, so that new payers delay nobody for ever.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;
use tokio::sync::oneshot;

#[derive(Debug)]
pub(crate) struct Turns<P>(Mutex<TurnTable<P>>);

/// The turn; dropping it gives it to the next one.
#[must_use = "a turn that is dropped is over"]
#[derive(Debug)]
pub(crate) struct WorkTurn<'t, P: Eq + Hash>(&'t Turns<P>);

#[derive(Debug)]
struct TurnTable<P> {
    is_taken: bool,
    /// By round, and in each by arrival.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<()>>,
    /// The round of whoever had the last turn that was not for the longest wait.
    round: u64,
    /// Whether the last turn was.
    was_by_age: bool,
    /// The round of the last request of each payer, unless that is over.
    last: HashMap<P, u64>,
    next_id: u64,
}

/// A place among those that wait, left when it is dropped; a turn that was granted meanwhile is passed on.
struct TurnPlace<'t, P: Eq + Hash> {
    turns: &'t Turns<P>,
    payer: P,
    id: (u64, u64),
    granted: oneshot::Receiver<()>,
    is_taken: bool,
}

impl<P: Eq + Hash + Clone> Turns<P> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(TurnTable {
            is_taken: false,
            waiting: BTreeMap::new(),
            round: 0,
            was_by_age: false,
            last: HashMap::new(),
            next_id: 0,
        }))
    }

    /// Waits for the turn of `payer`.
    pub(crate) async fn take(&self, payer: P) -> WorkTurn<'_, P> {
        let mut place = self.queue(payer);
        // An error cannot be: the sender stays in the table until it grants.
        drop((&mut place.granted).await);
        place.is_taken = true;
        WorkTurn(self)
    }

    fn queue(&self, payer: P) -> TurnPlace<'_, P> {
        let (sender, granted) = oneshot::channel();
        let mut table = self.0.lock();
        let begun = table.round;
        table.last.retain(|_, last| *last >= begun);
        let round = table.last.get(&payer).map_or(begun, |last| last + 1);
        table.last.insert(payer.clone(), round);
        let id = (round, table.next_id);
        table.next_id += 1;
        table.waiting.insert(id, sender);
        table.grant();
        TurnPlace {
            turns: self,
            payer,
            id,
            granted,
            is_taken: false,
        }
    }
}

impl<P: Eq + Hash> Turns<P> {
    fn give_back(&self) {
        let mut table = self.0.lock();
        table.is_taken = false;
        table.grant();
    }
}

impl<P: Eq + Hash> TurnTable<P> {
    fn grant(&mut self) {
        while !self.is_taken
            && let Some((round, sender)) = self.pop()
        {
            self.round = self.round.max(round);
            self.is_taken = sender.send(()).is_ok();
        }
    }

    fn pop(&mut self) -> Option<(u64, oneshot::Sender<()>)> {
        self.was_by_age = !self.was_by_age;
        if !self.was_by_age {
            let ((round, _), sender) = self.waiting.pop_first()?;
            return Some((round, sender));
        }
        let oldest = *self.waiting.keys().min_by_key(|(_, arrival)| *arrival)?;
        // Its round may be far ahead, which concerns nobody else.
        Some((self.round, self.waiting.remove(&oldest)?))
    }

    /// Forgets a request that has had no turn.
    fn withdraw(&mut self, payer: &P, round: u64) {
        if self.last.get(payer) != Some(&round) {
            return;
        }
        match round.checked_sub(1).filter(|before| *before >= self.round) {
            Some(before) => {
                if let Some(last) = self.last.get_mut(payer) {
                    *last = before;
                }
            }
            None => drop(self.last.remove(payer)),
        }
    }
}

impl<P: Eq + Hash> Drop for WorkTurn<'_, P> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl<P: Eq + Hash> Drop for TurnPlace<'_, P> {
    fn drop(&mut self) {
        if self.is_taken {
            return;
        }
        let mut table = self.turns.0.lock();
        let is_waiting = table.waiting.remove(&self.id).is_some();
        table.withdraw(&self.payer, self.id.0);
        drop(table);
        if !is_waiting {
            self.turns.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    type Waiting<'t> = std::pin::Pin<Box<dyn Future<Output = WorkTurn<'t, &'static str>> + 't>>;

    /// Lets each wait that is done end its turn, and returns who had one, in order.
    fn all_turns(mut waiting: Vec<(&'static str, Waiting<'_>)>) -> Vec<&'static str> {
        let mut had = Vec::new();
        while let Some((place, turn)) = waiting
            .iter_mut()
            .enumerate()
            .find_map(|(place, (_, wait))| Some((place, wait.as_mut().now_or_never()?)))
        {
            had.push(waiting.remove(place).0);
            drop(turn);
        }
        assert!(waiting.is_empty());
        had
    }

    fn wait<'t>(turns: &'t Turns<&'static str>, payer: &'static str) -> (&'static str, Waiting<'t>) {
        let mut wait: Waiting<'_> = Box::pin(turns.take(payer));
        assert!(wait.as_mut().now_or_never().is_none());
        (payer, wait)
    }

    #[test]
    fn who_has_much_to_do_has_no_more_turns_than_others() {
        let turns = Turns::new();
        let first = turns.take("many").now_or_never().unwrap();
        let mut waiting: Vec<_> = (0..5).map(|_| wait(&turns, "many")).collect();
        waiting.extend(["one", "two", "two"].map(|payer| wait(&turns, payer)));

        drop(first);

        let expected = ["one", "many", "two", "many", "two", "many", "many", "many"];
        assert_eq!(all_turns(waiting), expected);
        assert!(turns.take("many").now_or_never().is_some(), "it is free again");
    }

    #[test]
    fn who_comes_ever_again_takes_nobodys_turn() {
        let turns = Turns::new();
        let (mut first, (_, mut patient)) = (turns.take("again").now_or_never().unwrap(), wait(&turns, "patient"));

        let (_, mut again) = wait(&turns, "again");
        let (_, mut new) = wait(&turns, "new");
        drop(first);

        first = patient.as_mut().now_or_never().expect("it waits for longest");
        assert!(new.as_mut().now_or_never().is_none() && again.as_mut().now_or_never().is_none());
        drop(first);
    }

    #[test]
    fn new_payers_delay_nobody_for_ever() {
        let turns = Turns::new();
        let mut turn = turns.take(0).now_or_never();
        let mut second = Box::pin(turns.take(0));
        assert!(second.as_mut().now_or_never().is_none());
        let mut new: Vec<_> = (1..9).map(|payer| Box::pin(turns.take(payer))).collect();
        let mut before = 0;

        loop {
            for wait in &mut new {
                assert!(wait.as_mut().now_or_never().is_none());
            }
            drop(turn.take());
            if second.as_mut().now_or_never().is_some() {
                break;
            }
            let next = new.iter_mut().position(|wait| match wait.as_mut().now_or_never() {
                Some(granted) => turn.replace(granted).is_none(),
                None => false,
            });
            drop(new.remove(next.expect("it is somebody's turn")));
            new.push(Box::pin(turns.take(100 + before)));
            before += 1;
        }

        assert!(before <= 1, "{before}");
    }

    #[test]
    fn who_gives_up_waiting_has_not_had_a_turn() {
        let turns = Turns::new();
        let first = turns.take("one").now_or_never().unwrap();
        for _ in 0..3 {
            drop(wait(&turns, "gives up"));
        }
        let waiting = ["gives up", "other"].map(|payer| wait(&turns, payer));

        drop(first);

        assert_eq!(all_turns(Vec::from(waiting)), ["gives up", "other"]);
    }

    #[test]
    fn who_waits_no_longer_has_no_turn() {
        let turns = Turns::new();
        let first = turns.take("one").now_or_never().unwrap();
        let (_, gone) = wait(&turns, "gone");
        let (_, granted) = wait(&turns, "granted");
        let (_, mut last) = wait(&turns, "last");

        drop(gone);
        drop(first);
        drop(granted);

        assert!(last.as_mut().now_or_never().is_some());
    }
}
