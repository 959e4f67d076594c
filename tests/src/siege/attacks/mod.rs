//! The attacks, by what they are made of.

mod events;
mod http;
mod packs;
mod pushes;
mod relay;
mod sockets;
mod strangers;

use crate::siege::attack::Attack;

/// Returns all of them, in the order in which they are done.
pub fn all() -> Vec<Attack> {
    [
        events::ATTACKS,
        strangers::ATTACKS,
        pushes::ATTACKS,
        packs::ATTACKS,
        http::ATTACKS,
        sockets::ATTACKS,
        relay::ATTACKS,
    ]
    .concat()
}
