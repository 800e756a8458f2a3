//! What the consensus takes from the machine: threads for blocking work, files, the medium of its
//! log, connections. It is in one place so that a simulation can give its own.

pub mod files;
mod medium;
mod sled_medium;

use std::path::Path;

pub use medium::{Change, Medium, Order, Tree};
use seawall_common::{
    Error, Result,
    tls::{Dial, Dialer, ServerUrl, Whom},
};
use tonic::transport::Channel;

/// Runs blocking work off the asynchronous threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("a storage task ended early: {e}")))?
}

/// Opens or creates what the log in `directory` lies on.
pub fn open_medium(directory: &Path) -> Result<Box<dyn Medium>> {
    Ok(Box::new(sled_medium::SledMedium::open(directory)?))
}

/// A channel to another member that connects when it is first used.
pub fn connect(dialer: &Dialer, url: &ServerUrl, dial: Dial) -> Result<Channel> {
    dialer.channel(url, Whom::Coordinator, dial)
}

/// Ends the process: what is on the disk is no longer known, and a retry could hide the loss.
pub fn die(what: &str, error: &dyn std::fmt::Display) -> ! {
    tracing::error!("{what}: {error}; ending, because nothing may be acknowledged after this");
    std::process::exit(1)
}
