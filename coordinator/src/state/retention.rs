//! Which backups go by themselves: policies of shards and keyspaces, and what follows from them.
//!
//! Count and age say what goes; minimum, tiers and pins say what stays all the same. Always there
//! stay the newest complete backup and as many complete ones as the minimum says: broken and
//! incomplete ones do not count. [`expired`] is a pure function; a removal by retention is admitted
//! only while it still follows.

mod tiers;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use seawall_common::{
    Error, Result,
    ids::{BackupName, ShardId},
};
use serde::{Deserialize, Serialize};

use super::{
    Response, State,
    catalogue::{Entry, Known},
    locks::Scope,
};

/// How long a backup that was only begun, by nobody's operation, may still be completed.
const INCOMPLETE_FOR_MS: u64 = 24 * 3600 * 1000;
/// Policies that may be set.
const POLICIES_MAX: usize = 10_000;

/// What is kept of a shard's backups. Without count and age nothing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Only so many of the newest complete ones stay.
    pub keep_count: Option<u32>,
    /// Only those stay that are not older.
    pub keep_age_ms: Option<u64>,
    /// So many of the newest complete ones stay, whatever count and age say; at least one does.
    pub minimum: u32,
    /// The newest complete one of each of so many days, weeks and months with backups stays, too.
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
}

impl Policy {
    /// Whether anything ever goes by it.
    pub fn removes(&self) -> bool {
        self.keep_count.is_some() || self.keep_age_ms.is_some()
    }
}

/// A backup as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub name: BackupName,
    pub standing: Standing,
    /// Greater is newer: along the line of epochs, as a restore chooses.
    pub order: (u64, u128, u64),
    /// When it ended, or at least began.
    pub at_unix_ms: u64,
    pub is_pinned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Complete,
    Broken,
    /// Begun, and no operation is at it.
    Incomplete,
}

/// The backups that go, oldest first, and by which rule.
///
/// More backups, or a later time, never bring one back; and what is left when all of them have gone
/// stays.
pub fn expired(
    policy: &Policy,
    backups: &[Candidate],
    now_unix_ms: u64,
) -> Vec<(BackupName, String)> {
    let mut newest_first: Vec<&Candidate> = backups.iter().collect();
    newest_first.sort_by(|a, b| (b.order, &b.name).cmp(&(a.order, &a.name)));
    let complete: Vec<&Candidate> = newest_first
        .iter()
        .copied()
        .filter(|backup| backup.standing == Standing::Complete)
        .collect();
    let in_tiers = tiers::kept(policy, &complete);
    let mut going = Vec::new();
    let mut newer_complete = 0;
    for backup in newest_first {
        let rule = if backup.standing == Standing::Incomplete {
            never_completed(backup, now_unix_ms)
        } else {
            let is_kept = backup.is_pinned
                || newer_complete < policy.minimum.max(1)
                || in_tiers.contains(&backup.name);
            outlived(policy, backup, newer_complete, now_unix_ms).filter(|_| !is_kept)
        };
        if let Some(rule) = rule {
            going.push((backup.name.clone(), rule));
        }
        newer_complete += u32::from(backup.standing == Standing::Complete);
    }
    going.reverse();
    going
}

fn never_completed(backup: &Candidate, now_unix_ms: u64) -> Option<String> {
    let age_ms = now_unix_ms.saturating_sub(backup.at_unix_ms);
    (age_ms > INCOMPLETE_FOR_MS).then(|| "begun more than a day ago and never completed".to_owned())
}

/// The limit that a backup is beyond.
fn outlived(
    policy: &Policy,
    backup: &Candidate,
    newer_complete: u32,
    now_unix_ms: u64,
) -> Option<String> {
    if let Some(count) = policy.keep_count
        && newer_complete >= count
    {
        return Some(match count {
            0 => "retention keeps none for their number".to_owned(),
            _ => format!("retention keeps {count}, and that many are newer"),
        });
    }
    let age_ms = policy.keep_age_ms?;
    (now_unix_ms.saturating_sub(backup.at_unix_ms) > age_ms).then(|| {
        let age = humantime::format_duration(Duration::from_millis(age_ms));
        format!("older than the {age} for which retention keeps it")
    })
}

/// The policies, and whether they may be applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    shards: BTreeMap<ShardId, Policy>,
    keyspaces: BTreeMap<String, Policy>,
    /// The latest time at which the rules were applied: never goes back.
    applied_unix_ms: u64,
    /// Why nothing is removed by itself, until an operator says that it may be.
    stopped: Option<String>,
    /// That is not for the clock, but because the group was made anew from a backup.
    #[serde(default)]
    is_restored: bool,
    /// How often an operator has said that the clock is right.
    #[serde(default)]
    resumes: u64,
}

/// Why nothing is done by the time of day, and what an operator has to do before it is again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standstill {
    pub why: String,
    pub way_on: &'static str,
}

impl Standstill {
    /// The clock cannot be believed.
    pub fn of_clock(why: String) -> Self {
        Self {
            why,
            way_on: "When the clock is right: SetRetention --resume.",
        }
    }

    fn of_restored_group(why: String) -> Self {
        Self {
            why,
            way_on: "When you have looked at ListBackups, ListTablets and GetRetention: \
                     SetRetention --resume.",
        }
    }

    /// For what cannot be done meanwhile: `retention stands still`.
    pub fn refusal(&self, what: &str) -> Error {
        Error::refused(format!("{what}: {}", self.why)).hint(self.way_on)
    }
}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.why, self.way_on.trim_end_matches('.'))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// None: what holds above it, or nothing, holds again.
    Set {
        scope: Scope,
        policy: Option<Policy>,
    },
    /// The rules are applied at this time.
    Apply {
        now_unix_ms: u64,
    },
    Stop {
        why: String,
    },
    Resume {
        now_unix_ms: u64,
    },
}

impl Retention {
    pub(super) fn apply(&mut self, command: &Command) -> Result<Response> {
        match command {
            Command::Set { scope, policy } => self.set(scope, policy.as_ref())?,
            Command::Apply { now_unix_ms } => {
                self.applied_unix_ms = self.applied_unix_ms.max(*now_unix_ms);
            }
            Command::Stop { why } => self.stop(why),
            Command::Resume { now_unix_ms } => {
                self.stopped = None;
                self.is_restored = false;
                self.resumes += 1;
                // The operator has looked at the clock: it is right now.
                self.applied_unix_ms = *now_unix_ms;
            }
        }
        Ok(Response::Done)
    }

    fn stop(&mut self, why: &str) {
        self.stopped.get_or_insert_with(|| why.to_owned());
    }

    /// The group was made anew from a backup: nobody has looked at what that is worth.
    pub(super) fn stop_for_restore(&mut self) {
        self.stopped = Some("the coordinator group was restored from a backup".to_owned());
        self.is_restored = true;
    }

    fn set(&mut self, scope: &Scope, policy: Option<&Policy>) -> Result<()> {
        if policy.is_some() && self.shards.len() + self.keyspaces.len() >= POLICIES_MAX {
            return Err(Error::exhausted(format!(
                "{POLICIES_MAX} retention policies are set already"
            )));
        }
        match (scope, policy) {
            (Scope::Cluster, _) => {
                return Err(Error::invalid(
                    "a retention policy is that of a keyspace or a shard",
                ));
            }
            (Scope::Keyspace(keyspace), Some(policy)) => {
                self.keyspaces.insert(keyspace.clone(), policy.clone());
            }
            (Scope::Keyspace(keyspace), None) => drop(self.keyspaces.remove(keyspace)),
            (Scope::Shard(shard), Some(policy)) => {
                self.shards.insert(shard.clone(), policy.clone());
            }
            (Scope::Shard(shard), None) => drop(self.shards.remove(shard)),
        }
        Ok(())
    }

    /// What holds for a shard, and whose policy that is: the shard's beats the keyspace's.
    pub fn in_force(&self, shard: &ShardId) -> Option<(Scope, &Policy)> {
        let own = self.shards.get(shard);
        own.map(|policy| (Scope::Shard(shard.clone()), policy))
            .or_else(|| {
                let keyspace = shard.keyspace();
                let policy = self.keyspaces.get(keyspace)?;
                Some((Scope::Keyspace(keyspace.to_owned()), policy))
            })
    }

    /// The shards that have a policy of their own.
    pub fn shards(&self) -> impl Iterator<Item = &ShardId> {
        self.shards.keys()
    }

    /// Whether a keyspace has a policy of its own.
    pub fn has(&self, keyspace: &str) -> bool {
        self.keyspaces.contains_key(keyspace)
    }

    pub fn stopped(&self) -> Option<Standstill> {
        let why = self.stopped.clone()?;
        Some(match self.is_restored {
            true => Standstill::of_restored_group(why),
            false => Standstill::of_clock(why),
        })
    }

    pub fn resumes(&self) -> u64 {
        self.resumes
    }

    pub fn applied_unix_ms(&self) -> u64 {
        self.applied_unix_ms
    }
}

/// What would go of a shard under a policy, and why. What is being removed counts as gone.
pub fn due_under(
    state: &State,
    shard: &ShardId,
    policy: &Policy,
    now_unix_ms: u64,
) -> Vec<(BackupName, String)> {
    let now_unix_ms = now_unix_ms.max(state.retention.applied_unix_ms);
    let going: BTreeSet<&BackupName> = state.operations.removals(shard);
    let candidates: Vec<Candidate> = state
        .catalogue
        .entries(shard)
        .filter(|entry| !going.contains(&entry.name))
        .filter_map(|entry| candidate(entry, now_unix_ms))
        .collect();
    expired(policy, &candidates, now_unix_ms)
}

/// What goes of a shard, under what is in force there; or would, when retention is stopped.
pub fn due(state: &State, shard: &ShardId, now_unix_ms: u64) -> Vec<(BackupName, String)> {
    let in_force = state.retention.in_force(shard);
    let policy = in_force.map(|(_, policy)| policy.clone());
    due_under(state, shard, &policy.unwrap_or_default(), now_unix_ms)
}

/// For the start of a removal that nobody asked for.
pub(super) fn check_due(
    state: &State,
    shard: &ShardId,
    backup: &BackupName,
    now_unix_ms: u64,
) -> Result<()> {
    if let Some(standstill) = state.retention.stopped() {
        return Err(standstill.refusal("retention stands still"));
    }
    let due = due(state, shard, now_unix_ms);
    if due.iter().any(|(name, _)| name == backup) {
        return Ok(());
    }
    Err(Error::refused(format!(
        "retention does not want {backup} of {shard} removed any more"
    )))
}

fn candidate(entry: &Entry, now_unix_ms: u64) -> Option<Candidate> {
    let standing = match entry.known {
        Known::Complete => Standing::Complete,
        Known::Broken => Standing::Broken,
        Known::Incomplete => Standing::Incomplete,
        Known::Running | Known::Removed => return None,
    };
    let facts = &entry.facts;
    let (epoch, position, started, _) = entry.order_key();
    let times = [facts.ended_unix_ms, facts.started_unix_ms];
    let known_time = times.into_iter().find(|at| *at > 0);
    // One of which nothing is known but its name is as old as its name says; or not old at all.
    let at_unix_ms = known_time.or_else(|| entry.name.given_unix_ms());
    Some(Candidate {
        name: entry.name.clone(),
        standing,
        order: (epoch, position, started),
        at_unix_ms: at_unix_ms.unwrap_or(now_unix_ms),
        is_pinned: entry.pin_at(now_unix_ms).is_some(),
    })
}

#[cfg(test)]
mod tests;
