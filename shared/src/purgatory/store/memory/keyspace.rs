//! Keys and their values: of Redis what the scripts use, and no more. A command that is not here, or takes other
//! arguments, is an error, so that a script cannot do one thing in Redis and another in memory. What each does is
//! documented in the Redis manual.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use mlua::IntoLua;
use mlua::Lua;
use tokio::sync::watch;

use super::sorted_set::SortedSet;
use crate::purgatory::store::keys;

/// Where the store in memory reads the time, unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a command returns. Nothing is `false` in Lua, as in Redis.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    Nothing,
    Number(i64),
    Text(String),
    List(Vec<Self>),
}

/// A command that is not known here.
#[derive(Debug, thiserror::Error)]
#[error("the store in memory does not have {0:?}")]
pub(super) struct UnknownCommand(String);

/// All keys. One name has one type, as the table in docs/redis.md has it.
pub(super) struct Keyspace {
    clock: Clock,
    /// The time of the current step.
    now: i64,
    texts: HashMap<String, String>,
    hashes: HashMap<String, BTreeMap<Box<str>, Box<str>>>,
    sorted_sets: HashMap<String, SortedSet>,
    /// The keys that have a TTL, by the time at which they end.
    ends: SortedSet,
    /// A published message wakes its receivers.
    changes: watch::Sender<u64>,
}

impl Keyspace {
    /// Makes one that has its epoch: it never loses anything but itself.
    pub(super) fn new(clock: Clock, changes: watch::Sender<u64>) -> Self {
        Self {
            clock,
            now: 0,
            texts: HashMap::from([(keys::EPOCH.to_owned(), format!("{RUN_ID}:0"))]),
            hashes: HashMap::new(),
            sorted_sets: HashMap::new(),
            ends: SortedSet::default(),
            changes,
        }
    }

    /// Does what the words of a command ask for.
    pub(super) fn call(&mut self, words: &[&str]) -> Result<Reply, UnknownCommand> {
        let unknown = || UnknownCommand(words.join(" "));
        let number = |text: &str| text.parse::<i64>().map_err(|_| unknown());
        Ok(match *words {
            ["TIME"] => {
                self.begin();
                list([self.now, 0].iter())
            }
            ["INFO", "server"] => Reply::Text(format!("run_id:{RUN_ID}")),
            ["PUBLISH", keys::WAKE, ""] => {
                self.changes.send_modify(|count| *count = count.wrapping_add(1));
                self.changes.receiver_count().into()
            }
            ["EXISTS", ref keys @ ..] => keys.iter().filter(|key| self.exists(key)).count().into(),
            ["DEL", key] => self.remove(key).into(),
            ["PERSIST", key] => self.ends.remove(key).into(),
            ["EXPIREAT", key, time] => self.end_if(key, number(time)?, |_| true),
            ["EXPIREAT", key, time, "NX"] => self.end_if(key, number(time)?, |end| end.is_none()),
            ["EXPIREAT", key, time, "GT"] => {
                let time = number(time)?;
                self.end_if(key, time, |end| end.is_some_and(|end| end < time))
            }
            ["GET", key] => self.texts.get(key).into(),
            ["SET", key, text] => self.set(key, text, None),
            ["SET", key, text, "EX", secs] => self.set(key, text, Some(self.now + number(secs)?)),
            ["INCRBY", key, count] => self.add(key, number(count)?),
            ["DECRBY", key, count] => self.add(key, -number(count)?),
            ["HGET", key, field] => self.hashes.get(key).and_then(|hash| hash.get(field)).into(),
            ["HSTRLEN", key, field] => {
                let value = self.hashes.get(key).and_then(|hash| hash.get(field));
                value.map_or(0, |value| value.len()).into()
            }
            ["HDEL", key, ref fields @ ..] if !fields.is_empty() => {
                let hash = self.hashes.entry(key.to_owned()).or_default();
                let removed = fields.iter().filter(|field| hash.remove(**field).is_some()).count();
                // One without fields is none in Redis.
                if hash.is_empty() {
                    self.remove(key);
                }
                removed.into()
            }
            ["HGETALL", key] => {
                let fields = self.hashes.get(key).into_iter().flatten();
                list(fields.flat_map(|(field, value)| [field, value]))
            }
            ["HLEN", key] => self.hashes.get(key).map_or(0, BTreeMap::len).into(),
            ["HMGET", key, ref fields @ ..] => {
                let hash = self.hashes.get(key);
                let values = fields.iter().map(|field| hash.and_then(|hash| hash.get(*field)).into());
                Reply::List(values.collect())
            }
            ["HSET", key, ref pairs @ ..] if pairs.len().is_multiple_of(2) => {
                let hash = self.hashes.entry(key.to_owned()).or_default();
                let pairs = pairs.chunks_exact(2);
                let new = pairs.filter(|pair| hash.insert(pair[0].into(), pair[1].into()).is_none());
                new.count().into()
            }
            _ => return self.call_sorted(words),
        })
    }

    /// Does what a command for a sorted set asks for.
    fn call_sorted(&mut self, words: &[&str]) -> Result<Reply, UnknownCommand> {
        let unknown = || UnknownCommand(words.join(" "));
        let [_, key, ..] = *words else { return Err(unknown()) };
        let number = |text: &str| text.parse::<i64>().map_err(|_| unknown());
        let set = self.sorted_sets.entry(key.to_owned()).or_default();
        let reply = match *words {
            ["ZADD", _, "LT", score, member] => {
                let score = number(score)?;
                (set.score(member).is_none_or(|old| score < old) && set.set(member, score)).into()
            }
            ["ZADD", _, "NX", ref pairs @ ..] => {
                let new = scored(pairs).ok_or_else(unknown)?;
                let new = new.into_iter().filter(|(_, member)| set.score(member).is_none());
                add(new.collect(), set)
            }
            ["ZADD", _, ref pairs @ ..] => add(scored(pairs).ok_or_else(unknown)?, set),
            ["ZREM", _, ref members @ ..] => members.iter().filter(|member| set.remove(member)).count().into(),
            ["ZREMRANGEBYRANK", _, "0", last] => {
                let count = number(last)? + 1;
                let members: Vec<_> = set.until(i64::MAX).take(count as usize).cloned().collect();
                members.iter().filter(|member| set.remove(member)).count().into()
            }
            ["ZSCORE", _, member] => set.score(member).map(|score| score.to_string()).into(),
            ["ZMSCORE", _, ref members @ ..] => {
                let score = |member: &&str| set.score(member).map(|score| score.to_string()).into();
                Reply::List(members.iter().map(score).collect())
            }
            ["ZCARD", _] => set.len().into(),
            // Only few are left out, whereas many are counted.
            ["ZCOUNT", _, after, "+inf"] => {
                let left_out = number(after.strip_prefix('(').ok_or_else(unknown)?)?;
                (set.len() - set.until(left_out).count()).into()
            }
            ["ZCOUNT", _, after, until] => {
                let after = number(after.strip_prefix('(').ok_or_else(unknown)?)?;
                set.between(after + 1, number(until)?).count().into()
            }
            ["ZRANGE", _, min, max, "BYSCORE", "LIMIT", "0", count] => {
                let (min, max) = score_range(min, max).ok_or_else(unknown)?;
                list(set.between(min, max).take(number(count)? as usize))
            }
            // Of a set whose scores are all 0.
            ["ZRANGE", _, min, max, "BYLEX", "LIMIT", "0", count] => {
                let members = set.named(lexical(min).ok_or_else(unknown)?, lexical(max).ok_or_else(unknown)?);
                list(members.take(number(count)? as usize))
            }
            ["ZLEXCOUNT", _, min, max] => {
                let members = set.named(lexical(min).ok_or_else(unknown)?, lexical(max).ok_or_else(unknown)?);
                members.count().into()
            }
            ["ZRANGE", _, first, last] => {
                let (first, last) = (number(first)? as usize, number(last)? as usize);
                list(set.until(i64::MAX).skip(first).take((last + 1).saturating_sub(first)))
            }
            // All of it is one page, whatever changes between two.
            ["ZSCAN", _, "0", "COUNT", _] => {
                let members = set.until(i64::MAX).flat_map(|member| {
                    let score = set.score(member).map(|score| score.to_string());
                    [Reply::Text(member.to_string()), score.into()]
                });
                Reply::List(vec![Reply::Text("0".to_owned()), Reply::List(members.collect())])
            }
            _ => return Err(unknown()),
        };
        self.remove_if_empty(key);
        Ok(reply)
    }

    /// Begins an atomic step, as every script does by asking for the time (common.lua): the time does not change within
    /// it, and expired keys are gone.
    fn begin(&mut self) {
        self.now = (self.clock)().cast_signed();
        let ended: Vec<_> = self.ends.until(self.now).cloned().collect();
        for key in ended {
            self.remove(&key);
        }
    }

    fn exists(&self, key: &str) -> bool {
        self.texts.contains_key(key) || self.hashes.contains_key(key) || self.sorted_sets.contains_key(key)
    }

    fn remove(&mut self, key: &str) -> bool {
        self.ends.remove(key);
        self.texts.remove(key).is_some() || self.hashes.remove(key).is_some() || self.sorted_sets.remove(key).is_some()
    }

    /// Removes a set without members: Redis has none.
    fn remove_if_empty(&mut self, key: &str) {
        if self.sorted_sets.get(key).is_some_and(|set| set.len() == 0) {
            self.remove(key);
        }
    }

    /// Sets the time at which a key ends, if it is there and `condition` holds of the one that it has.
    fn end_if(&mut self, key: &str, time: i64, condition: impl FnOnce(Option<i64>) -> bool) -> Reply {
        let is_to_end = self.exists(key) && condition(self.ends.score(key));
        if is_to_end {
            self.ends.set(key, time);
        }
        is_to_end.into()
    }

    fn set(&mut self, key: &str, text: &str, end: Option<i64>) -> Reply {
        self.texts.insert(key.to_owned(), text.to_owned());
        match end {
            Some(time) => self.ends.set(key, time),
            None => self.ends.remove(key),
        };
        Reply::Text("OK".to_owned())
    }

    fn add(&mut self, key: &str, count: i64) -> Reply {
        // Only this writes sums.
        let old = self.texts.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
        let sum: i64 = old + count;
        self.texts.insert(key.to_owned(), sum.to_string());
        Reply::Number(sum)
    }
}

impl IntoLua for Reply {
    fn into_lua(self, lua: &Lua) -> mlua::Result<mlua::Value> {
        match self {
            Self::Nothing => false.into_lua(lua),
            Self::Number(number) => number.into_lua(lua),
            Self::Text(text) => text.into_lua(lua),
            Self::List(list) => list.into_lua(lua),
        }
    }
}

impl From<bool> for Reply {
    fn from(is_done: bool) -> Self {
        Self::Number(is_done.into())
    }
}

impl From<usize> for Reply {
    fn from(count: usize) -> Self {
        Self::Number(count as i64)
    }
}

impl<T: ToString> From<Option<T>> for Reply {
    fn from(text: Option<T>) -> Self {
        text.map_or(Self::Nothing, |text| Self::Text(text.to_string()))
    }
}

fn list<T: ToString>(texts: impl Iterator<Item = T>) -> Reply {
    Reply::List(texts.map(|text| Reply::Text(text.to_string())).collect())
}

/// Reads one end of a range of members.
/// Adds members to a set, or moves them, and returns how many are new.
fn add(members: Vec<(i64, &str)>, set: &mut SortedSet) -> Reply {
    let new = members.into_iter().filter(|(score, member)| set.set(member, *score));
    new.count().into()
}

/// Reads scores and members, one after the other.
fn scored<'w>(words: &[&'w str]) -> Option<Vec<(i64, &'w str)>> {
    let (pairs, []) = words.as_chunks() else { return None };
    let scored = pairs.iter().map(|[score, member]| Some((score.parse().ok()?, *member)));
    scored.collect()
}

/// Reads the ends of a range of scores, both within it.
fn score_range(min: &str, max: &str) -> Option<(i64, i64)> {
    let max = match max.strip_prefix('(') {
        Some(max) => max.parse::<i64>().ok()? - 1,
        None if max == "+inf" => i64::MAX,
        None => max.parse().ok()?,
    };
    let min = match min.strip_prefix('(') {
        Some(min) => min.parse::<i64>().ok()? + 1,
        None if min == "-inf" => i64::MIN,
        None => min.parse().ok()?,
    };
    Some((min, max))
}

fn lexical(text: &str) -> Option<Bound<&str>> {
    match text {
        "-" | "+" => Some(Bound::Unbounded),
        _ => text
            .strip_prefix('[')
            .map(Bound::Included)
            .or(text.strip_prefix('(').map(Bound::Excluded)),
    }
}

/// Which server this is, in hex digits as Redis has it.
const RUN_ID: &str = "0";

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;

    use super::*;

    fn keyspace() -> (Arc<AtomicU64>, Keyspace) {
        let time = Arc::new(AtomicU64::new(10));
        let clock = Arc::clone(&time);
        let clock = Arc::new(move || clock.load(Ordering::Relaxed));
        (time, Keyspace::new(clock, watch::Sender::new(0)))
    }

    /// Does commands, each written as one text.
    fn call_all(keyspace: &mut Keyspace, commands: &[&str]) -> Vec<Reply> {
        let calls = commands.iter().map(|command| {
            let words: Vec<_> = command.split(' ').collect();
            keyspace.call(&words).unwrap()
        });
        calls.collect()
    }

    #[test]
    fn what_has_ended_goes_without_being_read() {
        let (time, mut keyspace) = keyspace();
        let set_up = [
            "TIME",
            "SET text a EX 5",
            "HSET hash field b",
            "EXPIREAT hash 14",
            "EXPIREAT hash 13 GT",
            "EXPIREAT hash 15 GT",
            "EXPIREAT hash 99 NX",
            "ZADD kept 0 c",
            "EXPIREAT kept 15 GT",
            "ZADD persisted 1 d",
            "EXPIREAT persisted 15",
            "PERSIST persisted",
        ];
        call_all(&mut keyspace, &set_up);

        time.store(14, Ordering::Relaxed);
        call_all(&mut keyspace, &["TIME"]);
        assert_eq!((keyspace.texts.len(), keyspace.hashes.len()), (2, 1));

        time.store(15, Ordering::Relaxed);
        call_all(&mut keyspace, &["TIME"]);
        assert_eq!((keyspace.texts.len(), keyspace.hashes.len()), (1, 0), "but the epoch");
        assert_eq!(keyspace.sorted_sets.len(), 2);
        assert_eq!(keyspace.ends.len(), 0);
    }

    #[test]
    fn a_set_ends_with_its_last_member() {
        let (_, mut keyspace) = keyspace();
        let replies = call_all(
            &mut keyspace,
            &[
                "ZADD zset 1 a",
                "EXPIREAT zset 99",
                "ZREMRANGEBYRANK zset 0 0",
                "EXISTS zset",
            ],
        );

        assert_eq!(replies, [1, 1, 1, 0].map(Reply::Number));
        assert_eq!(keyspace.ends.len(), 0);
    }

    #[test]
    fn what_no_script_uses_is_an_error() {
        let (_, mut keyspace) = keyspace();
        for command in [
            "TYPE key",
            "SET key text NX",
            "EXPIREAT key 5 LT",
            "EXPIREAT key soon",
            "HSET key field",
            "ZADD key 1.5 member",
            "ZCOUNT key 1 +inf",
            "PUBLISH elsewhere ",
            "FLUSHALL",
        ] {
            let words: Vec<_> = command.split(' ').collect();
            let error = keyspace.call(&words).unwrap_err().to_string();
            assert!(error.contains(command), "{error}");
        }
    }
}
