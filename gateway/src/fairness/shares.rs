//! Shares of slots and bytes that all clients need. Each claim has a payer, the address of its client. When all are in
//! use, a new claim replaces one of the address with most. Bookkeeping only: no I/O.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::address_group::address_group;
use shared::live::Live;
use tokio_util::sync::CancellationToken;

use crate::meter::Meter;

/// How much there is of something that all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShareLimits {
    /// Most claims at the same time.
    pub(crate) claims_max: usize,
    /// Most bytes of all claims together.
    pub(crate) bytes_max: u64,
}

/// Something that all share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Shares {
    limits: Live<ShareLimits>,
    /// Of all bytes, the part that is left to other addresses; `None`: one may have all.
    others_part: Option<u64>,
    /// How often all claims, and all bytes, were in use when somebody needed more.
    hits: Meter<2>,
    table: Arc<Mutex<ClaimTable>>,
}

/// One claim of a payer, and the bytes that were added to it. Dropped, both are free again.
#[must_use = "a claim that is dropped counts no more"]
#[derive(Debug)]
pub(crate) struct Claim {
    shares: Shares,
    payer: IpAddr,
    id: u64,
    ended: CancellationToken,
}

/// All is in use, and no address has more of it than the one that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("everything is in use, and your address has as large a share as any other")]
pub(crate) struct AllInUse;

#[derive(Debug, Default)]
struct ClaimTable {
    claims: BTreeMap<u64, ClaimEntry>,
    payers: HashMap<IpAddr, Usage>,
    bytes: u64,
    next_id: u64,
}

#[derive(Debug)]
struct ClaimEntry {
    payer: IpAddr,
    bytes: u64,
    is_protected: bool,
    ended: CancellationToken,
}

#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    claims: usize,
    bytes: u64,
}

impl Shares {
    pub(crate) fn new(limits: ShareLimits) -> Self {
        Self {
            limits: Live::new(limits),
            others_part: None,
            hits: Meter::default(),
            table: Arc::default(),
        }
    }

    /// Changes how much there is. What is in use beyond it ends by itself.
    pub(crate) fn set_limits(&self, limits: ShareLimits) {
        self.limits.set(limits);
    }

    /// Leaves a quarter of the bytes to other addresses, so that what one of them keeps is never all.
    pub(crate) fn with_bytes_for_others(mut self) -> Self {
        self.others_part = Some(4);
        self
    }

    /// Makes a claim for a client at `address`. Where none is free, the youngest of the address with most ends, since
    /// the least work is lost with it.
    ///
    /// # Errors
    /// [`AllInUse`] if no other address has more than this one would have.
    pub(crate) fn enter(&self, address: IpAddr) -> Result<Claim, AllInUse> {
        let payer = address_group(address);
        let mut table = self.table.lock();
        let claims = table.usage(payer).claims + 1;
        if table.claims.len() >= self.limits.get().claims_max {
            self.hits.add(0, 1);
            let most = |(id, entry): &(u64, &ClaimEntry)| (table.usage(entry.payer).claims, *id);
            let victim = table.unprotected().max_by_key(most);
            let (id, _) = victim.filter(|victim| most(victim).0 > claims).ok_or(AllInUse)?;
            table.end(id);
        }
        let id = table.next_id;
        table.next_id += 1;
        let ended = CancellationToken::new();
        table.payers.entry(payer).or_default().claims += 1;
        table.claims.insert(
            id,
            ClaimEntry {
                payer,
                bytes: 0,
                is_protected: false,
                ended: ended.clone(),
            },
        );
        drop(table);
        Ok(Claim {
            shares: self.clone(),
            payer,
            id,
            ended,
        })
    }

    /// Returns how often the limits of claims and of bytes were reached.
    pub(crate) fn hits(&self) -> [u64; 2] {
        self.hits.counts()
    }

    /// Returns how many claims and bytes are in use.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> (usize, u64) {
        let table = self.table.lock();
        (table.claims.len(), table.bytes)
    }
}

impl Claim {
    /// Adds bytes. Where there is no room for them, the largest claim of the address with most ends.
    ///
    /// # Errors
    /// [`AllInUse`] if no other address has more than this one would have, this one would have more than one may, or
    /// this claim has ended.
    pub(crate) fn grow(&self, bytes: u64) -> Result<(), AllInUse> {
        let mut table = self.shares.table.lock();
        let wanted = table.usage(self.payer).bytes.saturating_add(bytes);
        let bytes_max = self.shares.limits.get().bytes_max;
        let of_others = self.shares.others_part.map_or(0, |part| bytes_max / part);
        if !table.claims.contains_key(&self.id) || wanted > bytes_max - of_others {
            return Err(AllInUse);
        }
        if table.bytes.saturating_add(bytes) > bytes_max {
            self.shares.hits.add(1, 1);
        }
        while table.bytes.saturating_add(bytes) > bytes_max {
            let most = |(_, entry): &(u64, &ClaimEntry)| (table.usage(entry.payer).bytes, entry.bytes);
            let victim = table
                .unprotected()
                .filter(|(_, entry)| entry.bytes > 0)
                .max_by_key(most);
            let (id, _) = victim.filter(|victim| most(victim).0 > wanted).ok_or(AllInUse)?;
            table.end(id);
        }
        table.bytes += bytes;
        if let Some(entry) = table.claims.get_mut(&self.id) {
            entry.bytes += bytes;
        }
        table.payers.entry(self.payer).or_default().bytes += bytes;
        Ok(())
    }

    /// Gives bytes back that were added.
    pub(crate) fn give_back(&self, bytes: u64) {
        let mut table = self.shares.table.lock();
        let Some(entry) = table.claims.get_mut(&self.id) else {
            return;
        };
        let bytes = bytes.min(entry.bytes);
        entry.bytes -= bytes;
        table.bytes -= bytes;
        if let Some(usage) = table.payers.get_mut(&self.payer) {
            usage.bytes -= bytes;
        }
    }

    /// Waits until it has been replaced: its work must then be dropped.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Protects it from being replaced, until [`Self::unprotect`].
    ///
    /// # Errors
    /// [`AllInUse`] if it has ended already.
    pub(crate) fn protect(&self) -> Result<(), AllInUse> {
        let mut table = self.shares.table.lock();
        table.claims.get_mut(&self.id).ok_or(AllInUse)?.is_protected = true;
        Ok(())
    }

    /// Lets it be replaced again.
    pub(crate) fn unprotect(&self) {
        if let Some(entry) = self.shares.table.lock().claims.get_mut(&self.id) {
            entry.is_protected = false;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shares.table.lock().remove(self.id);
    }
}

impl ClaimTable {
    fn usage(&self, payer: IpAddr) -> Usage {
        self.payers.get(&payer).copied().unwrap_or_default()
    }

    fn unprotected(&self) -> impl Iterator<Item = (u64, &ClaimEntry)> {
        self.claims
            .iter()
            .filter(|(_, entry)| !entry.is_protected)
            .map(|(id, entry)| (*id, entry))
    }

    fn end(&mut self, id: u64) {
        if let Some(entry) = self.remove(id) {
            entry.ended.cancel();
        }
    }

    fn remove(&mut self, id: u64) -> Option<ClaimEntry> {
        let entry = self.claims.remove(&id)?;
        self.bytes -= entry.bytes;
        if let Some(usage) = self.payers.get_mut(&entry.payer) {
            usage.claims -= 1;
            usage.bytes -= entry.bytes;
            if usage.claims == 0 {
                self.payers.remove(&entry.payer);
            }
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn shares(claims_max: usize, bytes_max: u64) -> Shares {
        Shares::new(ShareLimits { claims_max, bytes_max })
    }

    fn has_ended(claim: &Claim) -> bool {
        claim.ended.is_cancelled()
    }

    #[test]
    fn the_youngest_claim_of_whoever_has_most_gives_its_place_to_who_arrives() {
        let shares = shares(4, 0);
        let many: Vec<_> = (0..4).map(|_| shares.enter(address(1)).unwrap()).collect();
        assert_eq!(
            (shares.enter(address(1)).err(), shares.hits()),
            (Some(AllInUse), [1, 0])
        );

        let first = shares.enter(address(2)).unwrap();
        let second = shares.enter(address(2)).unwrap();

        assert_eq!(
            many.iter().map(has_ended).collect::<Vec<_>>(),
            [false, false, true, true]
        );
        // Both have as many: neither is replaced.
        assert_eq!(shares.enter(address(2)).err(), Some(AllInUse));
        let third = shares.enter(address(3)).err();
        assert_eq!((third, has_ended(&first), has_ended(&second)), (None, false, true));
        drop((many, first, second));
        assert_eq!(shares.in_use(), (0, 0));
        assert!(shares.table.lock().payers.is_empty());
    }

    #[test]
    fn the_largest_claim_of_whoever_has_most_gives_its_bytes_to_who_needs_them() {
        let shares = shares(10, 100);
        let [small, large, own] = [1, 1, 2].map(|last| shares.enter(address(last)).unwrap());
        small.grow(20).unwrap();
        large.grow(70).unwrap();
        assert_eq!(small.grow(20), Err(AllInUse), "it would have most itself");

        own.grow(30).unwrap();

        assert!(has_ended(&large) && !has_ended(&small));
        assert_eq!(large.grow(1), Err(AllInUse));
        assert_eq!(large.protect(), Err(AllInUse));
        assert_eq!(own.grow(60), Err(AllInUse));
        own.give_back(30);
        own.grow(80).unwrap();
        drop((small, own));
        assert_eq!(shares.in_use(), (0, 0));
    }

    #[test]
    fn what_is_kept_ends_for_nobody_until_it_is_released() {
        let shares = shares(2, 10);
        let kept = [(); 2].map(|()| shares.enter(address(1)).unwrap());
        for claim in &kept {
            claim.grow(5).unwrap();
            claim.protect().unwrap();
        }

        assert_eq!(shares.enter(address(2)).err(), Some(AllInUse));
        assert!(!kept.iter().any(has_ended));
        kept[0].unprotect();
        let entered = shares.enter(address(2)).unwrap();
        assert_eq!(kept.each_ref().map(has_ended), [true, false]);
        assert_eq!(kept[0].protect(), Err(AllInUse));
        drop(entered);
    }

    #[test]
    fn one_address_leaves_bytes_to_others_where_it_has_to() {
        let shares = shares(10, 100).with_bytes_for_others();
        let [one, other] = [1, 2].map(|last| shares.enter(address(last)).unwrap());
        one.grow(75).unwrap();
        one.protect().unwrap();

        assert_eq!(one.grow(1), Err(AllInUse));
        other.grow(25).unwrap();

        assert!(!has_ended(&one) && !has_ended(&other));
    }
}
