//! Waiting for a condition, with a limit and with something to read when it does not come.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Long enough for anything that a healthy cluster does on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `probe` until it answers `Some`. An error counts as "not yet" and is shown when time is
/// over: a server that is just starting refuses connections.
pub async fn wait_for<T, F, Fut>(what: &str, limit: Duration, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let began = Instant::now();
    let mut last = String::from("it was not so");
    loop {
        match probe().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = format!("{error:#}"),
        }
        if began.elapsed() > limit {
            bail!("waited {limit:?} in vain: {what} (last: {last})");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// [`wait_for`] a condition that has nothing to say.
pub async fn wait_until<F, Fut>(what: &str, limit: Duration, mut probe: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    wait_for(what, limit, || {
        let probed = probe();
        async move { Ok(probed.await?.then_some(())) }
    })
    .await
}
