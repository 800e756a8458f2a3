//! What is begun by itself, at which times, and what came of it.
//!
//! A *slot* is a time at which a schedule wants to run. Slots are computed by the leader, for they
//! depend on the rules of time zones, and enter the log as values; here it is only decided what
//! becomes of one. The *cursor* is the last slot that is done with: begun, or passed over. It stands
//! apart from history, and only ever goes forward, so that no slot starts twice. A run of a schedule
//! never overlaps the one before. Times of commands never go back: what a clock shows that is behind
//! is taken for the latest time that was seen.

mod course;
mod taking;

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

pub use course::{in_the_way, shards_in, shards_of};
use seawall_common::{
    Error, Result,
    ids::{Alias, OperationId, ShardId, check_schedule},
};
use serde::{Deserialize, Serialize};

use super::{Response, State, locks::Scope};

/// Schedules that may be set; it also bounds the metrics.
pub const SCHEDULES_MAX: usize = 1_000;
/// Runs that a schedule may remember.
pub const HISTORY_MAX: u32 = 100;
/// Pauses between tries grow up to this.
const RETRY_MS_MAX: u64 = 3600 * 1000;
/// A cursor that is further ahead than this of a clock that is right was set by one that was not.
const AHEAD_MS_MAX: u64 = 600 * 1000;

/// What is done at each slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// Each shard of the scope is backed up, of the tablet that `BackupShard` would take.
    Backup {
        concurrency: u32,
        no_wait: bool,
        allow_primary: bool,
        /// How long one backup may take.
        deadline_ms: u64,
    },
    /// The group's backup is taken, as `BackupCoordinator` does it.
    GroupBackup {
        /// How many stay there.
        keep: u32,
    },
}

/// What an operator has asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub scope: Scope,
    pub cron: String,
    pub zone: String,
    pub job: Job,
    /// Shards that are at work at the same time.
    pub at_once: u32,
    /// The starts of the shards are spread over this time, each shard always at the same place.
    pub spread_ms: u64,
    /// Tries of each shard in one slot.
    pub tries: u32,
    /// Pause after the first try that failed; each later one is twice as long.
    pub retry_ms: u64,
    /// Runs that are remembered.
    pub history: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// None: until it is resumed.
    pub until_unix_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartState {
    /// Its time has not come, or its turn.
    Waiting,
    /// Its operation is open, or the group's backup is being taken.
    Running,
    Succeeded,
    /// All tries have failed, or there was no time for more.
    Failed,
    /// Called off: the operation by an operator, what had not begun by a pause, either that or the
    /// group's backup by another job.
    Cancelled,
}

/// What a run does in one shard, or with the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// None: the group itself.
    pub shard: Option<ShardId>,
    pub state: PartState,
    /// Tries that were begun.
    pub tries: u32,
    pub not_before_unix_ms: u64,
    /// Of the last try that became an operation.
    pub operation: Option<OperationId>,
    /// What the last try failed of.
    pub error: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// One more than the run before: never used again.
    pub number: u64,
    pub slot_unix_ms: u64,
    pub begun_unix_ms: u64,
    pub parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRun {
    pub number: u64,
    pub slot_unix_ms: u64,
    pub begun_unix_ms: u64,
    pub ended_unix_ms: u64,
    pub outcome: Outcome,
    pub shards: u32,
    pub succeeded: u32,
    /// What the first shards failed of; not more than a few.
    pub errors: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Chosen when it was made; the ids of its operations are derived from it.
    pub id: OperationId,
    pub spec: Spec,
    pub set_unix_ms: u64,
    cursor_unix_ms: u64,
    pub pause: Option<Pause>,
    pub run: Option<Run>,
    /// How the last run ended, whatever is remembered of others.
    pub last: Option<PastRun>,
    /// Oldest first.
    pub history: VecDeque<PastRun>,
    runs: u64,
    /// Slots that were passed over, ever.
    pub missed: u64,
    /// Runs in a row, up to the last that has ended, that did not succeed in every shard.
    failures: u32,
    /// When the last run ended that succeeded in every shard.
    pub last_success_unix_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedules {
    all: BTreeMap<String, Schedule>,
    /// The latest time of a command.
    seen_unix_ms: u64,
    /// Grows with every change: whoever computes what is due looks again then.
    changes: u64,
}

/// One try in one shard, or with the group; stale ones are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    pub name: String,
    pub id: OperationId,
    pub run: u64,
    pub shard: Option<ShardId>,
    /// 1 is the first.
    pub number: u32,
    pub now_unix_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    Set {
        name: String,
        /// For a schedule that there is not yet.
        id: OperationId,
        spec: Spec,
        now_unix_ms: u64,
    },
    Remove {
        name: String,
        now_unix_ms: u64,
    },
    Pause {
        name: String,
        until_unix_ms: Option<u64>,
        now_unix_ms: u64,
    },
    Resume {
        name: String,
        now_unix_ms: u64,
    },
    /// A slot has come.
    Slot {
        name: String,
        id: OperationId,
        slot_unix_ms: u64,
        /// Earlier slots that came while nobody looked: they are passed over.
        missed: u64,
        now_unix_ms: u64,
    },
    /// Starts the operation of one try.
    Begin {
        of: Try,
        alias: Alias,
    },
    /// A try of a shard could not even begin.
    Fail {
        of: Try,
        error: String,
    },
    /// The group's backup is being taken from now on, by whoever leads.
    Take {
        of: Try,
    },
    /// What that came to.
    Taken {
        of: Try,
        error: Option<String>,
    },
}

pub fn apply(state: &mut State, command: &Command) -> Result<Response> {
    match command {
        Command::Set {
            name,
            id,
            spec,
            now_unix_ms,
        } => state.schedules.set(name, *id, spec, *now_unix_ms)?,
        Command::Remove { name, now_unix_ms } => {
            state.schedules.get(name)?;
            state.schedules.now(*now_unix_ms);
            state.schedules.all.remove(name);
        }
        Command::Pause {
            name,
            until_unix_ms,
            now_unix_ms,
        } => state.schedules.pause(name, *until_unix_ms, *now_unix_ms)?,
        Command::Resume { name, now_unix_ms } => {
            state.schedules.get(name)?;
            let now_unix_ms = state.schedules.now(*now_unix_ms);
            state.schedules.get_mut(name)?.resume(now_unix_ms);
        }
        Command::Slot {
            name,
            id,
            slot_unix_ms,
            missed,
            now_unix_ms,
        } => course::slot(state, name, *id, (*slot_unix_ms, *missed), *now_unix_ms)?,
        Command::Begin { of, alias } => return course::begin(state, of, alias),
        Command::Fail { of, error } => course::fail(state, of, error)?,
        Command::Take { of } => taking::take(state, of)?,
        Command::Taken { of, error } => taking::taken(state, of, error.as_deref())?,
    }
    state.schedules.changes += 1;
    Ok(Response::Done)
}

impl Schedules {
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Schedule)> {
        self.all.iter()
    }

    pub fn get(&self, name: &str) -> Result<&Schedule> {
        self.all.get(name).ok_or_else(|| unknown(name))
    }

    fn get_mut(&mut self, name: &str) -> Result<&mut Schedule> {
        self.all.get_mut(name).ok_or_else(|| unknown(name))
    }

    pub fn seen_unix_ms(&self) -> u64 {
        self.seen_unix_ms
    }

    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The time of a command: never earlier than that of one before it.
    fn now(&mut self, now_unix_ms: u64) -> u64 {
        self.seen_unix_ms = self.seen_unix_ms.max(now_unix_ms);
        self.seen_unix_ms
    }

    fn set(&mut self, name: &str, id: OperationId, spec: &Spec, now_unix_ms: u64) -> Result<()> {
        let schedule = self.would_be(name, id, spec, now_unix_ms)?;
        self.now(now_unix_ms);
        self.all.insert(name.to_owned(), schedule);
        Ok(())
    }

    /// The schedule as it would be if it were set now, or why it would be refused.
    pub fn would_be(
        &self,
        name: &str,
        id: OperationId,
        spec: &Spec,
        now_unix_ms: u64,
    ) -> Result<Schedule> {
        check_schedule(name)?;
        if spec.at_once == 0 || spec.tries == 0 || spec.history > HISTORY_MAX {
            return Err(Error::invalid(format!(
                "schedule {name} has a bound that makes no sense"
            )));
        }
        if self.all.len() >= SCHEDULES_MAX && !self.all.contains_key(name) {
            return Err(
                Error::exhausted(format!("{SCHEDULES_MAX} schedules are set already")).hint(
                    "RemoveSchedule one, or set one for a keyspace instead of one for each shard.",
                ),
            );
        }
        let now_unix_ms = self.seen_unix_ms.max(now_unix_ms);
        let Some(known) = self.all.get(name) else {
            return Ok(Schedule::new(id, spec.clone(), now_unix_ms));
        };
        let mut schedule = known.clone();
        schedule.change(spec, now_unix_ms);
        Ok(schedule)
    }

    fn pause(&mut self, name: &str, until_unix_ms: Option<u64>, now_unix_ms: u64) -> Result<()> {
        self.get(name)?;
        let at_unix_ms = self.seen_unix_ms.max(now_unix_ms);
        if until_unix_ms.is_some_and(|until| until <= at_unix_ms) {
            return Err(Error::invalid("the end of the pause is not in the future"));
        }
        let now_unix_ms = self.now(now_unix_ms);
        let schedule = self.get_mut(name)?;
        // What the pause before it has covered is not caught up.
        schedule.end_pause(now_unix_ms);
        schedule.pause = Some(Pause { until_unix_ms });
        schedule.call_off_waiting(now_unix_ms);
        Ok(())
    }

    /// For a group that was restored: what was at work is lost, and nothing begins before an operator
    /// resumes it. How many schedules there are.
    pub(super) fn stand_still(&mut self, why: &str, now_unix_ms: u64) -> usize {
        let now_unix_ms = self.now(now_unix_ms);
        for schedule in self.all.values_mut() {
            schedule.lose_run(why, now_unix_ms);
            schedule.pause = Some(Pause {
                until_unix_ms: None,
            });
        }
        self.all.len()
    }

    /// An operator has said that the clock shows the right time now. What a wrong one has put off
    /// into a future far away comes back.
    pub(super) fn clock_is_right(&mut self, now_unix_ms: u64) {
        self.seen_unix_ms = now_unix_ms;
        self.changes += 1;
        for schedule in self.all.values_mut() {
            schedule.come_back_to(now_unix_ms);
        }
    }
}

impl Job {
    /// Whether it is done in a shard, or with the group (None).
    fn is_for(&self, shard: Option<&ShardId>) -> bool {
        matches!(self, Job::Backup { .. }) == shard.is_some()
    }
}

impl Schedule {
    fn new(id: OperationId, spec: Spec, now_unix_ms: u64) -> Self {
        Self {
            id,
            spec,
            set_unix_ms: now_unix_ms,
            cursor_unix_ms: now_unix_ms,
            pause: None,
            run: None,
            last: None,
            history: VecDeque::new(),
            runs: 0,
            missed: 0,
            failures: 0,
            last_success_unix_ms: None,
        }
    }

    /// Other times hold from now on. A run that is at work goes on; with another job only the
    /// operations do that it has begun.
    fn change(&mut self, spec: &Spec, now_unix_ms: u64) {
        if mem::discriminant(&self.spec.job) != mem::discriminant(&spec.job) {
            self.call_off_all_but_operations(now_unix_ms);
        }
        if (&self.spec.cron, &self.spec.zone) != (&spec.cron, &spec.zone) {
            self.cursor_unix_ms = self.cursor_unix_ms.max(now_unix_ms);
        }
        self.spec = spec.clone();
        self.set_unix_ms = now_unix_ms;
        self.forget_old();
    }

    fn resume(&mut self, now_unix_ms: u64) {
        if self.paused_at(now_unix_ms) {
            self.cursor_unix_ms = self.cursor_unix_ms.max(now_unix_ms);
            self.pause = None;
        }
        self.end_pause(now_unix_ms);
    }

    /// A pause that is over counts no more; but the slots in it are done with.
    fn end_pause(&mut self, now_unix_ms: u64) {
        self.cursor_unix_ms = self.done_until_unix_ms(now_unix_ms);
        if !self.paused_at(now_unix_ms) {
            self.pause = None;
        }
    }

    fn come_back_to(&mut self, now_unix_ms: u64) {
        if self.cursor_unix_ms > now_unix_ms.saturating_add(AHEAD_MS_MAX) {
            self.cursor_unix_ms = now_unix_ms;
        }
        let latest_unix_ms = now_unix_ms.saturating_add(RETRY_MS_MAX.max(self.spec.spread_ms));
        let parts = self.run.iter_mut().flat_map(|run| &mut run.parts);
        for part in parts {
            part.not_before_unix_ms = part.not_before_unix_ms.min(latest_unix_ms);
        }
    }

    pub fn paused_at(&self, now_unix_ms: u64) -> bool {
        let is_on = |pause: Pause| pause.until_unix_ms.is_none_or(|until| now_unix_ms < until);
        self.pause.is_some_and(is_on)
    }

    /// Slots up to this time are not begun any more: the next one is the first after it.
    pub fn done_until_unix_ms(&self, now_unix_ms: u64) -> u64 {
        let pause_ended = self.pause.and_then(|pause| pause.until_unix_ms);
        let pause_ended = pause_ended.filter(|until| *until <= now_unix_ms);
        self.cursor_unix_ms.max(pause_ended.unwrap_or(0))
    }

    /// Runs in a row that did not succeed in every shard; the one at work counts from its first try
    /// that failed until that has been made good.
    pub fn failures_in_a_row(&self) -> u32 {
        let is_failing = self.run.as_ref().is_some_and(Run::is_failing);
        self.failures.saturating_add(u32::from(is_failing))
    }

    pub fn running(&self) -> usize {
        self.run.as_ref().map_or(0, Run::running)
    }

    /// A try of a part of the run that is at work.
    pub fn try_of(
        &self,
        name: &str,
        (run, part): (&Run, &Part),
        number: u32,
        now_unix_ms: u64,
    ) -> Try {
        Try {
            name: name.to_owned(),
            id: self.id,
            run: run.number,
            shard: part.shard.clone(),
            number,
            now_unix_ms,
        }
    }

    fn forget_old(&mut self) {
        while self.history.len() > self.spec.history as usize {
            self.history.pop_front();
        }
    }
}

/// What a part of a run is about, for people.
pub fn described(shard: Option<&ShardId>) -> String {
    shard.map_or_else(|| "the coordinator group".to_owned(), ToString::to_string)
}

fn unknown(name: &str) -> Error {
    Error::not_found(format!("no schedule {name}")).hint("ListSchedules shows them.")
}

#[cfg(test)]
mod edges;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub use taking::tests as group_tests;
#[cfg(test)]
pub mod tests;
