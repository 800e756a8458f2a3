//! Straight on a repository, with no coordinator in sight: what is in it, whether it is whole, and
//! a restore of it. Nothing here writes to a repository.

mod catalogue;
mod check;
mod list;
pub(super) mod options;
mod place;
mod restore;
mod start;

use seawall_common::{
    Error,
    ids::{BackupName, ShardId},
    repository::{ManifestHeader, Repository, StoredBackup, StoredState},
};

use crate::{
    cli::Global,
    exit::{Failure, Outcome},
};

/// Looks at a repository, checks it, restores from it: without a coordinator, and without writing to it
#[derive(Debug, clap::Subcommand)]
pub enum RepositoryCommand {
    List(list::List),
    Check(check::Check),
    Restore(restore::Restore),
}

impl RepositoryCommand {
    pub async fn run(self, global: &Global) -> Outcome {
        match self {
            RepositoryCommand::List(list) => list.run(global.output).await,
            RepositoryCommand::Check(check) => check.run(global).await,
            RepositoryCommand::Restore(restore) => restore.run(global.output).await,
        }
        .map_err(|failure| failure.of("repository"))
    }
}

/// What lies in the repository of one shard.
struct ShardContents {
    shard: ShardId,
    /// By epoch, position and time; those without a readable manifest stand last.
    backups: Vec<StoredBackup>,
}

/// Every backup that lies in the repository; of one shard, or of all.
async fn contents(repository: &Repository, shard: Option<&ShardId>) -> Outcome<Vec<ShardContents>> {
    let shards = match shard {
        Some(shard) => vec![shard.clone()],
        None => repository.shards().await.map_err(Failure::failed)?,
    };
    let mut contents = Vec::with_capacity(shards.len());
    for shard in shards {
        let mut backups = repository.scan(&shard).await.map_err(Failure::failed)?;
        backups.sort_by_cached_key(|backup| {
            let place = header(backup).map(rank);
            (place.is_none(), place, backup.name.clone())
        });
        contents.push(ShardContents { shard, backups });
    }
    Ok(contents)
}

fn header(backup: &StoredBackup) -> Option<&ManifestHeader> {
    match &backup.state {
        StoredState::Complete { header, .. } => Some(header),
        _ => None,
    }
}

/// Newer is greater: highest epoch, then position, then time; never the name.
fn rank(header: &ManifestHeader) -> (u64, u128, u64) {
    let position = header.position.order_key();
    (header.epoch, position, header.ended_unix_ms)
}

/// One without damage before one with it, then the newest.
fn preference(header: &ManifestHeader) -> (bool, (u64, u128, u64)) {
    (header.damaged_pages == 0, rank(header))
}

/// The one that is named, or the newest complete one of a writer that is trusted, if there is any
/// one in which no page was damaged; those that are passed over are told.
fn choose<'a>(
    repository: &Repository,
    of: &'a ShardContents,
    named: Option<&BackupName>,
) -> Outcome<(&'a ManifestHeader, &'a str)> {
    let shard = &of.shard;
    let mut fitting: Vec<(&ManifestHeader, &str)> = Vec::new();
    let mut passed_over = Vec::new();
    for backup in &of.backups {
        let name = &backup.name;
        if named.is_some_and(|named| named != name) {
            continue;
        }
        match &backup.state {
            StoredState::Complete {
                header,
                manifest_hash,
            } => match repository.check_writer(header) {
                Ok(()) => fitting.push((header, manifest_hash)),
                Err(forged) => passed_over.push(forged.message().to_owned()),
            },
            StoredState::Incomplete => passed_over.push(format!("{name} is incomplete")),
            StoredState::Broken { reason } => passed_over.push(format!("{name}: {reason}")),
            StoredState::Removed { reason } if named.is_some() => {
                passed_over.push(format!("{name} was removed: {reason}"));
            }
            StoredState::Removed { .. } => {}
        }
    }
    // Of equals the first.
    let best = fitting.iter().rev().max_by_key(|(of, _)| preference(of));
    if let Some(&(best, hash)) = best {
        let newer = fitting.iter().map(|(header, _)| header);
        let newer = newer.filter(|header| named.is_none() && rank(header) > rank(best));
        let damaged = newer.filter(|header| header.damaged_pages > best.damaged_pages);
        passed_over.extend(damaged.map(|header| {
            let (name, pages) = (&header.name, header.damaged_pages);
            format!(
                "{name}, which is newer, holds pages that were damaged in the database: {pages}"
            )
        }));
        for passed_over in &passed_over {
            eprintln!("seawallctl: passed over: {passed_over}");
        }
        return Ok((best, hash));
    }
    let error = match (named, passed_over.is_empty()) {
        (Some(name), true) => Error::not_found(format!("{shard} has no backup {name}")),
        (None, true) => Error::not_found(format!("{shard} has no backup")),
        (_, false) => Error::refused(format!(
            "{shard} has no backup that can be restored: {}",
            passed_over.join("; ")
        )),
    };
    Err(Failure::failed(error.hint(
        "\"seawallctl repository list\" shows what there is.",
    )))
}
