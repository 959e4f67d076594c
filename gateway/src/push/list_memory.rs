//! The memory that the commands of a push take, and then its answer: a share of its address, until the answer is sent.

use std::net::IpAddr;

use crate::fairness::shares::AllInUse;
use crate::fairness::shares::Claim;
use crate::fairness::shares::ShareLimits;
use crate::fairness::shares::Shares;

/// The memory of one push.
#[must_use = "memory that is dropped counts no more"]
pub(super) struct ListMemory {
    shares: Shares,
    payer: IpAddr,
    /// `None`: it is so little that it does not count.
    claim: Option<Claim>,
    bytes: u64,
}

/// Returns the memory of all command lists.
pub(crate) fn of_all_lists() -> Shares {
    let limits = ShareLimits {
        claims_max: usize::MAX,
        bytes_max: LISTS_BYTES_MAX,
    };
    Shares::new(limits).with_bytes_for_others()
}

impl ListMemory {
    /// Takes none yet, of what the push of a client at `payer` may take of `shares`.
    pub(super) fn new(shares: &Shares, payer: IpAddr) -> Self {
        Self {
            shares: shares.clone(),
            payer,
            claim: None,
            bytes: 0,
        }
    }

    /// Takes as much as a list of commands needs of which so many bytes are here.
    ///
    /// # Errors
    /// [`AllInUse`], and the list must be dropped.
    pub(super) fn take_for(&mut self, list_bytes: usize) -> Result<(), AllInUse> {
        let bytes = (list_bytes as u64 * BYTES_PER_LIST_BYTE).saturating_sub(FREE_BYTES);
        if bytes > self.bytes {
            let claim = match &self.claim {
                Some(claim) => claim,
                None => self.claim.insert(self.shares.enter(self.payer)?),
            };
            claim.grow(bytes - self.bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Gives back all but what an answer of so many bytes needs, and protects that no more.
    pub(super) fn shrink_to(&mut self, answer_bytes: usize) {
        let bytes = (answer_bytes as u64).saturating_sub(FREE_BYTES).min(self.bytes);
        match &self.claim {
            Some(claim) if bytes > 0 => claim.give_back(self.bytes - bytes),
            Some(_) | None => self.claim = None,
        }
        self.bytes = bytes;
        self.unprotect();
    }

    /// Waits until it is another address's: what is in it must then be dropped.
    pub(super) async fn ended(&self) {
        match &self.claim {
            Some(claim) => claim.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Protects it from that.
    ///
    /// # Errors
    /// [`AllInUse`] if it has ended already.
    pub(super) fn protect(&self) -> Result<(), AllInUse> {
        self.claim.as_ref().map_or(Ok(()), Claim::protect)
    }

    /// Lets it be another address's again.
    pub(super) fn unprotect(&self) {
        if let Some(claim) = &self.claim {
            claim.unprotect();
        }
    }
}

/// What a pusher reads whose push gives way to another address's.
pub(super) const GAVE_WAY: &str =
    "too many pushes at the same time, and your address has most of them: push again later";

/// Of all lists that are larger than most, and of their answers: three of the largest list of one push.
const LISTS_BYTES_MAX: u64 = 64 << 20;

/// A command is in memory as it came, as a decision and as a line of the answer: some 4.5 times its bytes if its name
/// is short, and 4 times if it is long.
const BYTES_PER_LIST_BYTE: u64 = 5;

/// Of 40 commands or an answer to 100, which every connection may have.
const FREE_BYTES: u64 = 20 << 10;
