//! What stays true when clients, programs, disks or the machine fail.

mod clock_jumps;
mod crashes;
mod disk_faults;
#[cfg(feature = "mounts")]
mod disk_full;
mod hand_over;
mod hang_ups;
mod redis_failover;
mod redis_faults;
mod redis_losses;
mod relay_faults;
mod stopping;
mod stuck;
mod two_gateways;
