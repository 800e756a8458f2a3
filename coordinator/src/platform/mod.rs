//! What the consensus takes from the machine: threads for blocking work, files, the medium of its
//! log, connections. Within a simulation (feature `sim`) each comes from the simulator. Outside of
//! here and of `sim/` only messages that are meddled with and planted defects know that there is one.

pub mod files;
#[cfg(test)]
pub mod held_medium;
mod journal;
mod medium;
mod threads;

use std::path::Path;

use journal::Journal;
pub use journal::Missing;
pub use medium::{Change, Medium, Order, Tree};
use seawall_common::{
    Error, Result,
    tls::{Dial, Dialer, ServerUrl, Whom},
};
pub use threads::{TaskThread, worker};
use tonic::transport::Channel;

/// Runs blocking work off the asynchronous threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    #[cfg(feature = "sim")]
    if turmoil::in_simulation() {
        return crate::sim::disk::work(work).await;
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("a task ended early: {e}")))?
}

/// Opens or creates what the log in `directory` lies on.
pub fn open_medium(directory: &Path, if_missing: Missing) -> Result<Box<dyn Medium>> {
    let medium = Journal::open(directory, if_missing)?;
    #[cfg(test)]
    let medium = held_medium::HeldMedium::new(directory, medium);
    Ok(Box::new(medium))
}

/// A channel that connects when it is first used.
pub fn connect(dialer: &Dialer, url: &ServerUrl, whom: Whom, dial: Dial) -> Result<Channel> {
    #[cfg(feature = "sim")]
    if turmoil::in_simulation() {
        return Ok(crate::sim::connect(&dialer.endpoint(url, dial)?));
    }
    dialer.channel(url, whom, dial)
}

/// Ends the process: what is on the disk is no longer known, and a retry could hide the loss.
pub fn die(what: &str, error: &dyn std::fmt::Display) -> ! {
    #[cfg(feature = "sim")]
    if turmoil::in_simulation() {
        panic!("a simulated member ends: {what}: {error}");
    }
    tracing::error!("{what}: {error}; ending, because nothing may be acknowledged after this");
    std::process::exit(1)
}
