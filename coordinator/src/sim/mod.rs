//! A member of the group in a simulation: the real coordinator over a simulated network, clock and
//! disk. Only the object store is none of the simulator's: it lies in the memory of the process.
//!
//! One simulation to a process, on one thread: then the same seed gives the same run.

pub(crate) mod disk;
pub(crate) mod files;
mod member;
pub(crate) mod network;
mod planted;

pub use member::{Controls, Member, PORT, leader, repository, run, states};
pub use network::{Accepted, connect, incoming};
pub use planted::{Bug, plant};
pub(crate) use planted::{is_planted, proved};

/// Here the scheduler may take the processor away for as long as it likes.
pub(crate) async fn moment() {
    const LONG_PER_MILLE: u32 = 3;
    const LONG_MS: u64 = 3000;
    let long = rand::random_range(0..1000) < LONG_PER_MILLE;
    if long {
        let pause = std::time::Duration::from_millis(rand::random_range(0..LONG_MS));
        tokio::time::sleep(pause).await;
    }
}
