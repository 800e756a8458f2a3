//! Exchanges the database's directories for the fetched ones, by renaming (I6).
//!
//! What was there before goes aside and stays until the database has started on what was restored.
//! What is about to be exchanged is journaled first, so that it can be rolled back after a crash
//! between any two renames.

use std::io;

use seawall_common::{
    Error, Result,
    repository::partial::{beside, directory, remove_directory, sync_parent},
};

use super::{Job, partial};
use crate::{
    engine::DataState,
    journal::{OperationState, Outcome, RootMove},
    tablet::Tablet,
};

/// Behind the name of a directory: what it was before.
const OLD: &str = ".seawall-old";

pub(super) async fn run(job: &Job) -> Result<Outcome> {
    let tablet = &job.tablet;
    let _database = tablet.lock_database().await;
    check_may_replace(job).await?;
    if tablet.engine.is_running().await? {
        job.progress.say("shutting the database down");
        tablet.live.lose_goal();
        tablet.engine.stop().await?;
    }
    let moves = moves(tablet).await?;
    let is_first_try = job
        .record()?
        .facts
        .restore
        .is_some_and(|restore| restore.installing.is_empty());
    if is_first_try {
        // Left by an earlier restore. Later on, what lies there is what this one has put aside.
        on_disk(moves.clone(), |root| {
            remove_directory(&beside(&root.path, OLD))
        })
        .await?;
    }
    let noted = moves.clone();
    job.note(move |facts| {
        if let Some(restore) = &mut facts.restore
            && restore.installing.is_empty()
        {
            restore.installing = noted;
        }
    })
    .await?;
    let roots = moves.iter().map(|root| root.path.clone());
    let _alone = partial::lock(roots.collect()).await?;
    job.progress
        .say("renaming the restored directories into place");
    let mut moves = moves.into_iter();
    if let Some(first) = moves.next() {
        on_disk(vec![first], exchange).await?;
    }
    job.reach("agent.install.middle").await?;
    on_disk(moves.collect(), exchange).await?;
    Ok(Outcome::default())
}

/// Nobody's data is replaced without having been asked for, and never a primary's.
async fn check_may_replace(job: &Job) -> Result<()> {
    let tablet = &job.tablet;
    if tablet.is_primary() {
        return Err(Error::refused(format!(
            "{} is primary in epoch {}: its data is not replaced",
            tablet.alias,
            tablet.shard.now().epoch
        )));
    }
    let is_own_wish =
        job.record()?.local || tablet.journal.read().asked_restore == Some(job.operation);
    if is_own_wish && tablet.engine.data_state().await? == DataState::UserData {
        return Err(Error::refused(format!(
            "the data directory of {} holds user data by now: it is not touched",
            tablet.alias
        )));
    }
    Ok(())
}

async fn moves(tablet: &Tablet) -> Result<Vec<RootMove>> {
    Ok(tablet
        .engine
        .roots()
        .await?
        .into_iter()
        .map(|(_, path)| RootMove {
            had_one: path.exists(),
            path,
        })
        .collect())
}

fn exchange(root: &RootMove) -> io::Result<()> {
    let (new, old) = (directory(&root.path), beside(&root.path, OLD));
    if !new.exists() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} is not there", new.display()),
        ));
    }
    if root.path.exists() {
        if old.exists() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!(
                    "{} and {} are both there",
                    root.path.display(),
                    old.display()
                ),
            ));
        }
        std::fs::rename(&root.path, &old)?;
    }
    std::fs::rename(&new, &root.path)?;
    sync_parent(&root.path)
}

/// What was there before an installation comes back. What was fetched stays for the next try, unless
/// somebody has called the restore off.
pub(super) async fn roll_back(job: &Job) -> Result<()> {
    let tablet = &job.tablet;
    // Without a note of what it fetches it has put nothing there: what lies there is another's.
    let operation = job.record()?;
    let Some(restore) = operation.facts.restore else {
        return Ok(());
    };
    let moves = restore.installing;
    if !moves.is_empty() {
        let _database = tablet.lock_database().await;
        if tablet.engine.is_running().await? {
            tablet.engine.stop().await?;
        }
        on_disk(moves, take_back).await?;
        job.note(|facts| {
            if let Some(restore) = &mut facts.restore {
                restore.installing.clear();
            }
        })
        .await?;
    }
    let is_called_off = matches!(
        operation.state,
        OperationState::GivingUp { discard: true, .. }
    );
    match is_called_off {
        true => partial::discard(tablet).await,
        false => Ok(()),
    }
}

fn take_back(root: &RootMove) -> io::Result<()> {
    let (new, old) = (directory(&root.path), beside(&root.path, OLD));
    let is_in_place = !new.exists() && root.path.exists();
    if is_in_place && (old.exists() || !root.had_one) {
        std::fs::rename(&root.path, &new)?;
    }
    if root.had_one && old.exists() && !root.path.exists() {
        std::fs::rename(&old, &root.path)?;
    }
    sync_parent(&root.path)
}

/// Deletes what was there before a restore that has started.
pub(super) async fn delete_old(job: &Job) -> Result<()> {
    let moves = moves(&job.tablet).await?;
    on_disk(moves, |root| remove_directory(&beside(&root.path, OLD))).await?;
    partial::discard(&job.tablet).await?;
    job.note(|facts| {
        if let Some(restore) = &mut facts.restore {
            restore.installing.clear();
        }
    })
    .await
}

async fn on_disk(moves: Vec<RootMove>, act: fn(&RootMove) -> io::Result<()>) -> Result<()> {
    tokio::task::spawn_blocking(move || {
        moves.iter().try_for_each(|root| {
            act(root).map_err(|e| Error::io("exchange the directory", &root.path, &e))
        })
    })
    .await
    .map_err(|e| Error::internal(format!("exchanging directories ended early: {e}")))?
}
