//! What verifications and restore tests have found: on each backup its last results, for each
//! shard the packs that are damaged, and the marks that keep broken backups from being restored.
//!
//! What a verification marked is cleared by a later one that reads everything and finds it whole; what
//! a restore test marked, by a restore test that passes.
//! What an operator marked, only an operator takes back.

use std::collections::BTreeMap;

use seawall_common::{
    Error, Result,
    ids::{BackupName, ShardId},
};
use serde::{Deserialize, Serialize};

use super::{
    Response, State,
    catalogue::{Catalogue, Entry, Known},
};

/// Damaged packs of a shard that are remembered: the oldest are forgotten first.
pub(super) const DAMAGED_MAX: usize = 4096;

/// What came of a verification or a restore test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    pub at_unix_ms: u64,
    pub passed: bool,
    pub percent: u32,
    pub seed: u64,
    pub message: String,
    pub alias: String,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MarkedBy {
    Operator,
    /// A verification, a restore that failed: it may turn out to be whole again.
    Verification,
    /// A restore test: whole or not, it could not be used.
    Test,
    /// The database was damaged when it was copied: the backup is what it was.
    Copy,
}

/// Why a backup that can be read as a whole is not to be restored by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub by: MarkedBy,
    pub at_unix_ms: u64,
}

/// Packs that are damaged, by their ids (32 hexadecimal digits), and when that was last found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DamagedPacks(BTreeMap<ShardId, BTreeMap<String, u64>>);

impl DamagedPacks {
    pub fn of(&self, shard: &ShardId) -> impl Iterator<Item = &str> {
        let packs = self.0.get(shard).into_iter();
        packs.flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// Whether some are forgotten for it.
    pub(super) fn add(&mut self, shard: &ShardId, packs: &[String], at_unix_ms: u64) -> bool {
        if packs.is_empty() {
            return false;
        }
        let known = self.0.entry(shard.clone()).or_default();
        for pack in packs {
            let found = known.entry(pack.clone()).or_default();
            *found = at_unix_ms.max(*found);
        }
        let are_too_many = known.len() > DAMAGED_MAX;
        while known.len() > DAMAGED_MAX {
            let oldest = known.iter().min_by_key(|(_, at)| **at);
            let Some(oldest) = oldest.map(|(pack, _)| pack.clone()) else {
                break;
            };
            known.remove(&oldest);
        }
        are_too_many
    }

    fn remove(&mut self, shard: &ShardId, packs: &[String], found_until_unix_ms: u64) {
        if let Some(known) = self.0.get_mut(shard) {
            known.retain(|pack, at| *at > found_until_unix_ms || !packs.contains(pack));
            if known.is_empty() {
                self.0.remove(shard);
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// By an operator, or (undo) taken back by one, whoever made it.
    Mark {
        shard: ShardId,
        name: BackupName,
        reason: String,
        undo: bool,
        now_unix_ms: u64,
    },
    /// Packs are damaged; backups need them, or are damaged themselves.
    Damage {
        shard: ShardId,
        packs: Vec<String>,
        /// Each with what is wrong.
        broken: Vec<(BackupName, String)>,
        now_unix_ms: u64,
    },
    /// Packs that were taken for damaged were read and are whole, or are gone.
    Whole {
        shard: ShardId,
        packs: Vec<String>,
        /// When the reading began: what was found later still stands. None: whenever it was found.
        #[serde(default)]
        begun_unix_ms: Option<u64>,
    },
}

pub fn apply(state: &mut State, command: &Command) -> Result<Response> {
    let catalogue = &mut state.catalogue;
    match command {
        Command::Mark {
            shard,
            name,
            reason,
            undo: false,
            now_unix_ms,
        } => mark_by_operator(catalogue.entry_mut(shard, name)?, reason, *now_unix_ms)?,
        Command::Mark { shard, name, .. } => unmark(catalogue.entry_mut(shard, name)?)?,
        Command::Damage {
            shard,
            packs,
            broken,
            now_unix_ms,
        } => {
            catalogue.note_damage(shard, packs, false, *now_unix_ms);
            for (name, reason) in broken {
                if let Ok(entry) = catalogue.entry_mut(shard, name) {
                    entry.break_by(MarkedBy::Verification, reason, *now_unix_ms);
                }
            }
        }
        Command::Whole {
            shard,
            packs,
            begun_unix_ms,
        } => {
            let until = begun_unix_ms.unwrap_or(u64::MAX);
            catalogue.damaged.remove(shard, packs, until);
        }
    }
    Ok(Response::Done)
}

fn mark_by_operator(entry: &mut Entry, reason: &str, now_unix_ms: u64) -> Result<()> {
    match entry.known {
        Known::Complete | Known::Broken => {
            entry.known = Known::Broken;
            entry.mark = Some(Mark {
                by: MarkedBy::Operator,
                at_unix_ms: now_unix_ms,
            });
            reason.clone_into(&mut entry.note);
            Ok(())
        }
        Known::Running | Known::Incomplete | Known::Removed => Err(Error::refused(format!(
            "backup {} of {} is {}",
            entry.name,
            entry.shard,
            entry.described()
        ))
        .hint("Only a backup that is complete can be marked as broken.")),
    }
}

fn unmark(entry: &mut Entry) -> Result<()> {
    if entry.mark.is_none() || entry.known != Known::Broken {
        return Err(Error::refused(format!(
            "backup {} of {} is not marked: it is {}",
            entry.name,
            entry.shard,
            entry.described()
        ))
        .hint("Only a mark can be taken back, not what the repository itself shows."));
    }
    entry.heal();
    Ok(())
}

/// The end of a verification's step: its result stands on the entry, and what it means with it.
pub(super) fn record(
    catalogue: &mut Catalogue,
    shard: &ShardId,
    name: &BackupName,
    result: &Verification,
    is_test: bool,
) {
    let Ok(entry) = catalogue.entry_mut(shard, name) else {
        return;
    };
    let slot = match is_test {
        true => &mut entry.tested,
        false => &mut entry.verified,
    };
    // A part says less than the whole that has passed.
    let is_whole = |result: &Verification| result.passed && result.percent >= 100;
    if !result.passed || is_whole(result) || !slot.as_ref().is_some_and(is_whole) {
        *slot = Some(result.clone());
    }
    let by = match is_test {
        true => MarkedBy::Test,
        false => MarkedBy::Verification,
    };
    if !result.passed {
        entry.break_by(by, &result.message, result.at_unix_ms);
    } else if entry.is_marked_by(by) && (is_test || result.percent >= 100) {
        entry.heal();
        // That all of it can be read does not say that it can be used.
        if let Some(failed) = entry.tested.clone().filter(|tested| !tested.passed) {
            entry.break_by(MarkedBy::Test, &failed.message, failed.at_unix_ms);
        }
    }
}

impl Entry {
    fn is_marked_by(&self, by: MarkedBy) -> bool {
        self.known == Known::Broken && self.mark.as_ref().is_some_and(|mark| mark.by == by)
    }

    /// A mark that stands already is not weakened. What could not be read, a test cannot clear.
    pub(super) fn break_by(&mut self, by: MarkedBy, reason: &str, now_unix_ms: u64) {
        let is_more = by == MarkedBy::Verification && self.is_marked_by(MarkedBy::Test);
        if self.known == Known::Complete || self.is_marked_by(by) || is_more {
            self.known = Known::Broken;
            self.mark = Some(Mark {
                by,
                at_unix_ms: now_unix_ms,
            });
            reason.clone_into(&mut self.note);
        }
    }

    fn heal(&mut self) {
        self.known = Known::Complete;
        self.mark = None;
        self.note.clear();
    }
}

#[cfg(test)]
mod tests;
