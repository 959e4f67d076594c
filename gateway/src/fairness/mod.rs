//! What keeps one client from taking what all need: shares by address, slots, and a least rate.

pub(crate) mod least_rate;
pub(crate) mod shares;
pub(crate) mod slots;
