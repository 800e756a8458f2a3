//! What is chosen: the backup that a restore takes, the tablet that a shard's backup is taken of.
//!
//! The newest fitting backup has the highest epoch, then the highest position, on the shard's
//! line of epochs; its name and its age do not matter.

use seawall_common::{
    Error, Result,
    ids::{Alias, BackupName, ShardId},
    version,
};

use crate::{
    agents::heartbeats::Heartbeats,
    state::{
        State,
        catalogue::{Entry, Known},
        epochs::is_on_line,
        topology::TabletType,
    },
};

/// The backup to restore, and what was passed over on the way to it.
#[derive(Debug)]
pub struct Choice {
    pub chosen: Option<Entry>,
    pub skipped: Vec<String>,
}

/// The database that a backup is restored on.
#[derive(Clone, Copy, Debug)]
struct Target<'a> {
    pub engine: &'a str,
    /// Empty: not known; the agent checks again with the manifest in its hands.
    pub version: &'a str,
}

/// Why a backup cannot be restored on this database.
fn misfit(state: &State, entry: &Entry, target: Target<'_>) -> Option<String> {
    let engine = target.engine;
    let line = state.topology.line(&entry.shard);
    if entry.known != Known::Complete {
        Some(format!("{} is {}", entry.name, entry.described()))
    } else if entry.facts.engine != engine {
        Some(format!(
            "{} is of engine {}, not {engine}",
            entry.name, entry.facts.engine
        ))
    } else if !version::opens_files_of(target.version, &entry.facts.engine_version) {
        Some(format!(
            "{} is of a server of version {}, the tablet's is {}",
            entry.name, entry.facts.engine_version, target.version
        ))
    } else if !is_on_line(line, entry.facts.epoch, &entry.facts.position) {
        Some(format!(
            "{} (epoch {}, {}) is not on the shard's line of epochs",
            entry.name, entry.facts.epoch, entry.facts.position
        ))
    } else {
        None
    }
}

/// What a restore of a tablet takes: the named backup, or the newest that fits.
pub fn for_tablet(
    state: &State,
    heartbeats: &Heartbeats,
    alias: &Alias,
    backup: Option<&BackupName>,
) -> Result<Choice> {
    let tablet = state.topology.tablet(alias)?;
    let status = heartbeats.seen_status(alias).unwrap_or_default();
    let target = Target {
        engine: &tablet.engine,
        version: &status.engine_version,
    };
    match backup {
        Some(name) => Ok(Choice {
            chosen: Some(named_backup(state, &tablet.shard, name, target)?),
            skipped: Vec::new(),
        }),
        None => backup_to_restore(state, &tablet.shard, target),
    }
}

/// What is said when the choice came to nothing.
pub fn no_backup(shard: &ShardId) -> Error {
    Error::not_found(format!("{shard} has no backup"))
        .hint("Run Backup on one of its tablets first.")
}

/// None chosen: the shard has no backup at all. Backups of which none fits are an error.
fn backup_to_restore(state: &State, shard: &ShardId, target: Target<'_>) -> Result<Choice> {
    let mut candidates: Vec<&Entry> = state
        .catalogue
        .entries(shard)
        .filter(|entry| entry.known != Known::Removed)
        .collect();
    candidates.sort_by(|a, b| b.order_key().cmp(&a.order_key()));
    let mut skipped = Vec::new();
    for entry in &candidates {
        match misfit(state, entry, target) {
            None => {
                return Ok(Choice {
                    chosen: Some((*entry).clone()),
                    skipped,
                });
            }
            Some(reason) => skipped.push(reason),
        }
    }
    if candidates.is_empty() {
        return Ok(Choice {
            chosen: None,
            skipped,
        });
    }
    Err(Error::refused(format!(
        "{shard} has backups, but none that can be restored: {}",
        skipped.join("; ")
    ))
    .hint("ListBackups shows them; remove those that are of no use to start empty."))
}

/// The backup that was asked for by name.
fn named_backup(
    state: &State,
    shard: &ShardId,
    name: &BackupName,
    target: Target<'_>,
) -> Result<Entry> {
    let entry = state.catalogue.entry(shard, name)?;
    match misfit(state, entry, target) {
        None => Ok(entry.clone()),
        Some(reason) => Err(Error::refused(format!("backup {reason}"))
            .hint("ListBackups shows those of this shard.")),
    }
}

/// The replica with the least known lag; the primary only when it is allowed and nobody else is.
pub fn tablet_to_back_up(
    state: &State,
    heartbeats: &Heartbeats,
    shard: &ShardId,
    allow_primary: bool,
) -> Result<Alias> {
    let mut best: Option<(u64, Alias)> = None;
    let mut primary = None;
    let mut reasons = Vec::new();
    for tablet in state.topology.tablets_of(shard) {
        let alias = &tablet.alias;
        let status = heartbeats.seen_status(alias);
        let reason = match (tablet.tablet_type, status) {
            (TabletType::Backup | TabletType::Restore | TabletType::Drained, _) => {
                format!("is of type {}", tablet.tablet_type)
            }
            (_, None) if heartbeats.is_young() && tablet.instance.is_some() => {
                return Err(Error::unavailable(format!(
                    "the leader has just changed: whether {alias} is running is not known yet"
                ))
                .hint("Try again in a few seconds."));
            }
            (_, None) => "is not heard".to_owned(),
            (_, Some(status)) if !status.database_running => "has its database down".to_owned(),
            (TabletType::Primary, Some(_)) if allow_primary => {
                primary = Some(alias.clone());
                continue;
            }
            (TabletType::Primary, Some(_)) => "is the primary".to_owned(),
            (_, Some(status)) => match status.lag_ms {
                None => "has no known lag".to_owned(),
                Some(lag) => {
                    if best.as_ref().is_none_or(|(least, _)| lag < *least) {
                        best = Some((lag, alias.clone()));
                    }
                    continue;
                }
            },
        };
        reasons.push(format!("{alias} {reason}"));
    }
    if let Some(alias) = best.map(|(_, alias)| alias).or(primary) {
        return Ok(alias);
    }
    if reasons.is_empty() {
        return Err(Error::not_found(format!("{shard} has no tablets"))
            .hint("ListTablets shows those that are known."));
    }
    Err(Error::refused(format!(
        "no tablet available for backup of {shard}: {}",
        reasons.join(", ")
    ))
    .hint("ListTablets shows their state; --allow-primary takes the primary."))
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
