//! The memory that the messages of clients take, by connection, by address and in all. Where it has a bound that one
//! more byte would exceed, a connection of the address with most ends, so that a stranger ends its own: of those that
//! take much, the one of which nothing has moved for longest. Bookkeeping only: no I/O.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::address_group::address_group;
use tokio::sync::Notify;

/// The memory of all connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct MessageBytes {
    per_address_max: usize,
    in_all_max: usize,
    table: Arc<Mutex<BytesTable>>,
}

/// What one connection takes; `None`: it is not counted. Dropped with all [`HeldBytes`] of it, it counts no more.
#[derive(Debug, Clone)]
pub(super) struct ConnectionBytes(Option<Arc<CountedConnection>>);

/// Bytes that count until this is dropped.
#[derive(Debug)]
#[must_use = "bytes that are dropped count no more"]
pub(super) struct HeldBytes {
    connection: ConnectionBytes,
    bytes: usize,
}

#[derive(Debug)]
struct CountedConnection {
    all: MessageBytes,
    id: u64,
    ended: Arc<Notify>,
    /// For who waits for it to take less.
    taken: Arc<Notify>,
}

#[derive(Debug, Default)]
struct BytesTable {
    connections: HashMap<u64, BytesEntry>,
    by_address: HashMap<IpAddr, usize>,
    in_all: usize,
    next_id: u64,
    moves: u64,
}

#[derive(Debug)]
struct BytesEntry {
    address: IpAddr,
    bytes: usize,
    /// Which of all moves was its last: it began to take something, or took less, or a message goes on arriving.
    moved: u64,
    ended: Arc<Notify>,
    taken: Arc<Notify>,
}

impl MessageBytes {
    pub(super) fn new(per_address_max: usize, in_all_max: usize) -> Self {
        Self {
            per_address_max,
            in_all_max,
            table: Arc::default(),
        }
    }

    /// Returns the count of a new connection; one without an address, this host's own, is not counted.
    pub(super) fn of(&self, address: Option<IpAddr>) -> ConnectionBytes {
        ConnectionBytes(address.map(|address| {
            let [ended, taken] = [(); 2].map(|()| Arc::new(Notify::new()));
            let mut table = self.table.lock();
            let id = table.next_id;
            table.next_id += 1;
            let entry = BytesEntry {
                address: address_group(address),
                bytes: 0,
                moved: 0,
                ended: Arc::clone(&ended),
                taken: Arc::clone(&taken),
            };
            table.connections.insert(id, entry);
            Arc::new(CountedConnection {
                all: self.clone(),
                id,
                ended,
                taken,
            })
        }))
    }

    fn has_half_of_room(&self, id: u64, bytes: usize) -> bool {
        let table = self.table.lock();
        let Some(entry) = table.connections.get(&id) else {
            return true;
        };
        let of_address = table.of_address(entry.address) + bytes;
        let has_room = of_address <= self.per_address_max / 2 && table.in_all + bytes <= self.in_all_max / 2;
        has_room || entry.bytes == 0
    }
}

impl ConnectionBytes {
    /// Counts bytes until what is returned is dropped, and ends connections, maybe this one, until there is room.
    pub(super) fn hold(&self, bytes: usize) -> HeldBytes {
        self.add(bytes);
        HeldBytes {
            connection: self.clone(),
            bytes,
        }
    }

    /// Does so once there is room: half of each bound, or nothing of this connection left. So what a slow client has
    /// requested makes it wait, and each connection gets on however little room there is.
    pub(super) async fn hold_in_turn(&self, bytes: usize) -> HeldBytes {
        if let Some(counted) = &self.0 {
            while !counted.all.has_half_of_room(counted.id, bytes) {
                counted.taken.notified().await;
            }
        }
        self.hold(bytes)
    }

    /// Notes that what this connection takes is in use.
    pub(super) fn moves(&self) {
        if let Some(counted) = &self.0 {
            counted.all.table.lock().moves(counted.id);
        }
    }

    /// Counts bytes for as long as the connection is there.
    pub(super) fn add(&self, bytes: usize) {
        if let Some(counted) = &self.0 {
            let MessageBytes {
                per_address_max,
                in_all_max,
                ref table,
            } = counted.all;
            let mut table = table.lock();
            let Some(address) = table.add(counted.id, bytes) else {
                return;
            };
            while table.of_address(address) > per_address_max && table.end_one_of(address) {}
            while table.in_all > in_all_max
                && let Some(most) = table.address_with_most()
                && table.end_one_of(most)
            {}
        }
    }

    /// Waits until this connection has to end because others need the room.
    pub(super) async fn ended(&self) {
        match &self.0 {
            Some(counted) => counted.ended.notified().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        if let Some(counted) = &self.connection.0 {
            counted.all.table.lock().take(counted.id, self.bytes);
        }
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.all.table.lock().remove(self.id);
    }
}

impl BytesTable {
    /// Returns the address of the connection, unless it has ended.
    fn add(&mut self, id: u64, bytes: usize) -> Option<IpAddr> {
        if self.connections.get(&id)?.bytes == 0 {
            self.moves(id);
        }
        let entry = self.connections.get_mut(&id)?;
        entry.bytes += bytes;
        *self.by_address.entry(entry.address).or_default() += bytes;
        self.in_all += bytes;
        Some(entry.address)
    }

    fn take(&mut self, id: u64, bytes: usize) {
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.bytes -= bytes;
            entry.taken.notify_one();
            let address = entry.address;
            self.give_back(address, bytes);
            self.moves(id);
        }
    }

    fn moves(&mut self, id: u64) {
        self.moves += 1;
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.moved = self.moves;
        }
    }

    fn remove(&mut self, id: u64) -> Option<BytesEntry> {
        let entry = self.connections.remove(&id)?;
        self.give_back(entry.address, entry.bytes);
        Some(entry)
    }

    fn give_back(&mut self, address: IpAddr, bytes: usize) {
        self.in_all -= bytes;
        if let Some(of_address) = self.by_address.get_mut(&address) {
            *of_address -= bytes;
            if *of_address == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    fn of_address(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).copied().unwrap_or_default()
    }

    fn address_with_most(&self) -> Option<IpAddr> {
        let most = self.by_address.iter().max_by_key(|(_, bytes)| **bytes)?;
        Some(*most.0)
    }

    /// Ends the connection of an address of which nothing has moved for longest, of those that take at least half as
    /// much as the one with most: it is counted no more, since it gives its memory back at once. Returns whether there
    /// was one.
    fn end_one_of(&mut self, address: IpAddr) -> bool {
        let of_address = self.connections.iter().filter(|(_, entry)| entry.address == address);
        let most = of_address
            .clone()
            .map(|(_, entry)| entry.bytes)
            .max()
            .unwrap_or_default();
        let large = of_address.filter(|(_, entry)| entry.bytes > 0 && entry.bytes >= most / 2);
        let idle = large.min_by_key(|(_, entry)| entry.moved).map(|(id, _)| *id);
        let Some(entry) = idle.and_then(|id| self.remove(id)) else {
            return false;
        };
        entry.ended.notify_one();
        true
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn is_ended(connection: &ConnectionBytes) -> bool {
        connection.ended().now_or_never().is_some()
    }

    #[test]
    fn whoever_takes_much_and_is_idle_ends_where_there_is_no_room() {
        let all = MessageBytes::new(100, 150);
        let of = |last: u8| all.of(Some([203, 0, 113, last].into()));
        let [large, small, other] = [of(1), of(1), of(2)];
        let held = large.hold(60);
        small.add(40);
        assert!(![&large, &small].map(is_ended).contains(&true));

        // One byte too many of the address, by whichever of its connections.
        small.add(1);
        assert!(is_ended(&large) && !is_ended(&small));
        drop(held);
        assert_eq!(all.table.lock().in_all, 41);

        // In all it is the address with most, not the one that comes.
        other.add(90);
        let third = of(3);
        third.add(20);
        assert!(is_ended(&other) && !is_ended(&third) && !is_ended(&small));
        all.of(None).add(1000);
        assert_eq!(all.table.lock().in_all, 61);

        // Of those that take much, the one that has not moved for longest.
        let [first, second, little] = [of(4), of(4), of(4)];
        little.add(5);
        first.add(40);
        second.add(40);
        first.moves();
        first.add(20);
        assert!(is_ended(&second) && !is_ended(&first) && !is_ended(&little));
        drop((first, second, little));

        let held = third.hold(10);
        drop(third);
        assert_eq!(all.table.lock().in_all, 71);
        drop((held, small, large, other));
        let table = all.table.lock();
        assert_eq!(
            (table.in_all, table.by_address.len(), table.connections.len()),
            (0, 0, 0)
        );
    }
}
