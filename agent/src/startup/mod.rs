//! What the agent does before it takes commands, and before it keeps the database as it should be.
//!
//! First the journal: what an earlier process was in the middle of is finished or undone. Then the
//! data: a tablet without user data is restored, made anew, or waits, as it is told. User data is
//! never touched here.

mod recover;
mod restore;

use std::{sync::Arc, time::Duration};

use seawall_common::{Error, Result};

pub use recover::recover;

use crate::{engine::DataState, execute::Executor, journal::Operation, tablet::Tablet};

const LOOK_AGAIN: Duration = Duration::from_millis(500);
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Returns once the database's data is what this tablet is to go on with.
pub async fn settle(tablet: &Tablet, executor: &Arc<Executor>) {
    let mut backoff = BACKOFF_MIN;
    loop {
        wait_until_free(tablet).await;
        match settle_once(tablet, executor).await {
            Ok(()) => {
                tablet.live.set_trouble("");
                return;
            }
            Err(error) => tablet.live.set_trouble(&error.to_string()),
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn settle_once(tablet: &Tablet, executor: &Arc<Executor>) -> Result<()> {
    let state = tablet.engine.data_state().await?;
    if tablet.settings.restore_from_backup && state != DataState::UserData && !tablet.is_primary() {
        restore::restore(tablet, executor).await?;
    }
    if tablet.settings.initialize && tablet.engine.data_state().await? == DataState::Empty {
        hear_of_shard(tablet).await;
        check_not_primary(tablet)?;
        tracing::info!("making a new, empty database");
        tablet.engine.initialize().await?;
    }
    Ok(())
}

/// Who is primary is asked before an empty database is made, for as long as coordinators may answer.
async fn hear_of_shard(tablet: &Tablet) {
    let mut shard = tablet.shard.subscribe();
    let heard = shard.wait_for(|shard| shard.confirmed);
    if tokio::time::timeout(tablet.settings.restore_alone_after, heard)
        .await
        .is_err()
    {
        tracing::warn!("no coordinator tells who is primary: going by what is remembered");
    }
}

/// A primary whose data is gone would open an empty database for writes, as if nothing had been.
fn check_not_primary(tablet: &Tablet) -> Result<()> {
    if !tablet.is_primary() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{} is primary in epoch {}, and its data is gone: no empty database is made in its place",
        tablet.alias,
        tablet.shard.now().epoch
    ))
    .hint("Mount its data directory again, or make another tablet the primary."))
}

/// An operation that an earlier process began has the database first. Not so a change of primary,
/// which is at nothing here: a server that has gone down must be started while it goes on.
async fn wait_until_free(tablet: &Tablet) {
    loop {
        let contents = tablet.journal.read();
        if contents.owner().is_none_or(Operation::has_demoted) {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
pub(crate) mod tests;
