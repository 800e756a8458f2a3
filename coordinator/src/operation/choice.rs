//! What is chosen: the backup that a restore takes, the tablet that a shard's backup is taken of.
//!
//! The newest fitting backup has the highest epoch, then the highest position, on the shard's
//! line of epochs; its name and its age do not matter.

use seawall_common::{
    Error, Result,
    ids::{Alias, BackupName, ShardId},
    repository::WAYS_TO_AN_IDENTITY,
    version,
};

use crate::{
    agents::heartbeats::Heartbeats,
    state::{
        State,
        catalogue::{Entry, Known},
        epochs::is_on_line,
        operations::Spec,
        topology::{Tablet, TabletType},
    },
};

/// Tablets that are named when none can do what is asked.
const REASONS_NAMED: usize = 10;

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
fn misfit(state: &State, entry: &Entry, target: Target<'_>, allow_broken: bool) -> Option<String> {
    let engine = target.engine;
    let line = state.topology.line(&entry.shard);
    let is_allowed = allow_broken && entry.known == Known::Broken;
    let is_going = state
        .operations
        .removals(&entry.shard)
        .contains(&entry.name);
    if is_going {
        Some(format!("{} is being removed", entry.name))
    } else if entry.known != Known::Complete && !is_allowed {
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
    allow_broken: bool,
) -> Result<Choice> {
    let tablet = state.topology.tablet(alias)?;
    let status = heartbeats.seen_status(alias).unwrap_or_default();
    let target = Target {
        engine: &tablet.engine,
        version: &status.engine_version,
    };
    match backup {
        Some(name) => Ok(Choice {
            chosen: Some(named_backup(
                state,
                &tablet.shard,
                name,
                target,
                allow_broken,
            )?),
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
        match misfit(state, entry, target, false) {
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
    allow_broken: bool,
) -> Result<Entry> {
    let entry = state.catalogue.entry(shard, name)?;
    match misfit(state, entry, target, allow_broken) {
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

/// The tablet whose agent verifies a backup, or tests its restore: the one that was asked for, or
/// one that can, of the backup's own shard before others, a primary last.
pub fn tablet_to_verify(
    state: &State,
    heartbeats: &Heartbeats,
    entry: &Entry,
    spec: &Spec,
) -> Result<Alias> {
    let asked = match spec {
        Spec::Verify { alias, .. } | Spec::TestRestore { alias, .. } => alias.as_ref(),
        _ => return Err(Error::internal("not a verification")),
    };
    let is_test = matches!(spec, Spec::TestRestore { .. });
    if let Some(alias) = asked {
        let tablet = state.topology.tablet(alias)?;
        return match unfit_to_verify(state, heartbeats, entry, tablet, is_test) {
            None => Ok(alias.clone()),
            Some(reason) => Err(Error::refused(format!("{alias} {reason}"))
                .hint("Leave --on out to have a tablet chosen that can.")),
        };
    }
    let mut reasons = Vec::new();
    let mut best: Option<((bool, bool), &Alias)> = None;
    for tablet in state.topology.tablets() {
        match unfit_to_verify(state, heartbeats, entry, tablet, is_test) {
            Some(reason) => reasons.push(format!("{} {reason}", tablet.alias)),
            None => {
                let is_primary = tablet.tablet_type == TabletType::Primary;
                let rank = (is_primary, tablet.shard != entry.shard);
                if best.as_ref().is_none_or(|(least, _)| rank < *least) {
                    best = Some((rank, &tablet.alias));
                }
            }
        }
    }
    if let Some((_, alias)) = best {
        return Ok(alias.clone());
    }
    if heartbeats.is_young() {
        return Err(Error::unavailable(
            "the leader has just changed: which agents are running is not known yet",
        )
        .hint("Try again in a few seconds."));
    }
    reasons.truncate(REASONS_NAMED);
    let what = match is_test {
        true => "restore it aside",
        false => "verify it",
    };
    Err(
        Error::refused(format!("no agent can {what}: {}", reasons.join(", "))).hint(
            match is_test {
                true => "Set scratch_dir in the configuration of an agent with the same engine."
                    .to_owned(),
                false => format!("To read encrypted backups an agent needs {WAYS_TO_AN_IDENTITY}."),
            },
        ),
    )
}

/// Why this tablet's agent cannot do it now.
fn unfit_to_verify(
    state: &State,
    heartbeats: &Heartbeats,
    entry: &Entry,
    tablet: &Tablet,
    is_test: bool,
) -> Option<String> {
    let Some(status) = heartbeats.seen_status(&tablet.alias) else {
        return Some("is not heard".to_owned());
    };
    if let Some(operation) = state.operations.open_on(&tablet.alias) {
        return Some(format!("is at work in operation {}", operation.id));
    }
    if entry.facts.encrypted && !status.can_read_repository {
        return Some("has no identity to read the backup with".to_owned());
    }
    if !is_test {
        return None;
    }
    if !status.can_test_restore {
        return Some("has no scratch_dir".to_owned());
    }
    if tablet.engine != entry.facts.engine {
        return Some(format!(
            "is of engine {}, not {}",
            tablet.engine, entry.facts.engine
        ));
    }
    (!version::opens_files_of(&status.engine_version, &entry.facts.engine_version)).then(|| {
        format!(
            "has a server of version {}, the backup is of {}",
            status.engine_version, entry.facts.engine_version
        )
    })
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
