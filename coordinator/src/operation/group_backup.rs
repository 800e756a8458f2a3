//! The group's backup: its own state, into the repository. `BackupCoordinator` takes it, and a
//! schedule may.
//!
//! It is quick and changes nothing of the group, so it is no operation: one that is cut off is taken
//! again. What is put is checked by reading it back, and is safe from then on: what goes wrong
//! afterwards does not make it a backup that failed. The oldest beyond those that are kept go.

use std::time::Duration;

use seawall_common::{
    Error, ErrorKind, Result,
    repository::{GroupBackup, GroupBackups, is_group_backup_older},
};

use super::Coordination;
use crate::{
    platform::blocking,
    state::{self, Command, State},
};

pub const KEPT: usize = 7;
pub const KEPT_MAX: usize = 1000;
/// How many a listing reads.
const LISTED_MAX: usize = 200;
/// How long it may take until it is safe.
const PUT_LIMIT: Duration = Duration::from_secs(600);
/// How long the removal of older ones may take; the next backup goes on with it.
const TIDY_LIMIT: Duration = Duration::from_secs(300);
/// One that is unfinished for longer than this is not being put any more.
const UNFINISHED_MS_MAX: u64 = 24 * 3600 * 1000;

/// What was taken, and what went for it.
#[derive(Clone, Debug)]
pub struct Taken {
    pub backup: GroupBackup,
    pub removed: Vec<String>,
}

/// Takes a backup of the group's state as it is now and keeps the newest `keep` of all that are
/// complete in the repository. For the leader.
pub async fn take(context: &Coordination, keep: usize) -> Result<Taken> {
    if keep == 0 || keep > KEPT_MAX {
        return Err(Error::invalid(format!(
            "cannot keep {keep} of the group's backups: at least one and at most {KEPT_MAX}"
        )));
    }
    let backup = within(PUT_LIMIT, "the group's backup", put(context)).await?;
    tracing::info!(backup = backup.name, "took the group's backup");
    note(context, &backup).await;
    let removed = tidy(context, keep, &backup).await;
    Ok(Taken { backup, removed })
}

async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        Err(Error::timeout(format!("{what} took more than {limit}")))
    })
}

async fn put(context: &Coordination) -> Result<GroupBackup> {
    context.check_owner().await?;
    let group_id = context.group_id()?;
    let term = context.group.prove_leadership().await?;
    let member = context.group.leadership().borrow().leader;
    // Before the look: the state covers at least as much.
    let last_index = context.group.last_applied();
    let state = context.group.look(State::clone);
    let encoded = blocking(move || state.encoded()).await?;
    let backup = GroupBackup::new(&group_id, member.unwrap_or_default(), (term, last_index));
    context.store.put_group_state(backup, encoded).await
}

/// Only metrics go by it.
async fn note(context: &Coordination, backup: &GroupBackup) {
    let noted = Command::GroupBackedUp(state::GroupBackup {
        name: backup.name.clone(),
        taken_unix_ms: backup.taken_unix_ms,
    });
    if let Err(e) = context.group.propose(noted).await {
        tracing::warn!(
            backup = backup.name,
            "the group's backup is safe, but not noted in its state: {e}"
        );
    }
}

/// What has gone.
async fn tidy(context: &Coordination, keep: usize, taken: &GroupBackup) -> Vec<String> {
    let mut removed = Vec::new();
    let removal = remove_old(context, keep, taken, &mut removed);
    if let Err(e) = within(TIDY_LIMIT, "it", removal).await {
        tracing::warn!("older backups of the group stay until the next one is taken: {e}");
    }
    removed
}

async fn remove_old(
    context: &Coordination,
    keep: usize,
    taken: &GroupBackup,
    removed: &mut Vec<String>,
) -> Result<()> {
    let GroupBackups {
        complete,
        unfinished,
    } = context.store.group_backups().await?;
    for name in going(&complete, keep, &taken.name) {
        context.check_owner().await?;
        context.store.remove_group_backup(name).await?;
        removed.push(name.clone());
    }
    let since_unix_ms = taken.taken_unix_ms.saturating_sub(UNFINISHED_MS_MAX);
    for name in unfinished {
        if is_group_backup_older(&name, since_unix_ms) && is_unfinished(context, &name).await? {
            context.check_owner().await?;
            context.store.remove_group_backup(&name).await?;
            tracing::info!(backup = name, "removed what a backup of the group has left");
        }
    }
    Ok(())
}

/// The oldest, as names sort, beyond so many; never the one that was just taken, wherever it sorts:
/// a clock may have gone back since the others.
fn going<'a>(names: &'a [String], keep: usize, taken: &str) -> impl Iterator<Item = &'a String> {
    let excess = names.len().saturating_sub(keep);
    names.iter().filter(move |name| *name != taken).take(excess)
}

/// A listing may have missed its state.
async fn is_unfinished(context: &Coordination, name: &str) -> Result<bool> {
    match context.store.group_backup(name).await {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        Err(e) if e.is_retryable() => Err(e),
        _ => Ok(false),
    }
}

/// The newest last. Those that cannot be read are named with why.
pub async fn list(context: &Coordination) -> Result<(Vec<GroupBackup>, Vec<String>)> {
    let names = context.store.group_backups().await?.complete;
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    for name in &names[names.len().saturating_sub(LISTED_MAX)..] {
        match context.store.group_backup(name).await {
            Ok(backup) => found.push(backup),
            Err(e) if e.is_retryable() => return Err(e),
            Err(e) => unreadable.push(format!("{name}: {e}")),
        }
    }
    Ok((found, unreadable))
}

#[cfg(test)]
#[path = "group_backup_tests.rs"]
mod tests;
