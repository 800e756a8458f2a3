//! The course of a run: begun by a slot, one part for each shard, a few tries for each part.

use seawall_common::{
    Error, Result,
    ids::{Alias, OperationId, ShardId},
};

use super::{
    Job, Outcome, Part, PartState, PastRun, RETRY_MS_MAX, Run, Schedule, Schedules, Spec, Try,
    described,
};
use crate::state::{
    Response, State, admission,
    locks::{Exclusive, Scope, Side},
    operations::{self, Operation, OperationState, Start},
};

/// Bytes of an error that are remembered.
const ERROR_BYTES_MAX: usize = 300;
/// Shards of a run whose errors are remembered.
const ERRORS_MAX: usize = 5;

/// What a try that was begun came to.
pub(super) enum End<'a> {
    Succeeded,
    Failed(&'a str),
    Cancelled(&'a str),
}

/// A slot has come, and `missed` others before it: it begins a run, unless the one before is still at
/// work.
pub(super) fn slot(
    state: &mut State,
    name: &str,
    id: OperationId,
    (slot_unix_ms, missed): (u64, u64),
    now_unix_ms: u64,
) -> Result<()> {
    check_clock(state)?;
    let schedule = state.schedules.get(name)?;
    let at_unix_ms = state.schedules.seen_unix_ms.max(now_unix_ms);
    schedule.check_is(id, name)?;
    schedule.check_not_paused(name, at_unix_ms)?;
    if slot_unix_ms <= schedule.done_until_unix_ms(at_unix_ms) {
        return Err(Error::conflict(format!(
            "that slot of schedule {name} is done with"
        )));
    }
    if slot_unix_ms > at_unix_ms {
        return Err(Error::invalid(format!(
            "that slot of schedule {name} has not come"
        )));
    }
    let parts = match schedule.spec.job {
        Job::Backup { .. } => shards_of(state, &schedule.spec)
            .into_iter()
            .map(Some)
            .collect(),
        Job::GroupBackup { .. } => vec![None],
    };
    let now_unix_ms = state.schedules.now(now_unix_ms);
    let schedule = state.schedules.get_mut(name)?;
    schedule.end_pause(now_unix_ms);
    schedule.cursor_unix_ms = slot_unix_ms;
    schedule.missed = schedule.missed.saturating_add(missed);
    if schedule.run.as_ref().is_some_and(Run::is_at_work) {
        schedule.missed = schedule.missed.saturating_add(1);
        return Ok(());
    }
    // What is left of the run before would only be tried again: this slot takes its place.
    schedule.give_up(PartState::Failed, now_unix_ms);
    schedule.begin_run(slot_unix_ms, parts, now_unix_ms);
    Ok(())
}

/// The word of an operator that the clock is right is the same for all that goes by it.
pub(super) fn check_clock(state: &State) -> Result<()> {
    match state.retention.stopped() {
        None => Ok(()),
        Some(standstill) => Err(standstill.refusal("schedules stand still")),
    }
}

/// Every shard in a scope that has a tablet or had a primary.
pub fn shards_in(state: &State, scope: &Scope) -> Vec<ShardId> {
    let shards = state.topology.shards().into_iter();
    let is_in = |shard: &ShardId| scope.overlaps(&Scope::Shard(shard.clone()));
    shards.filter(is_in).collect()
}

/// The shards in which a schedule does something.
pub fn shards_of(state: &State, spec: &Spec) -> Vec<ShardId> {
    match spec.job {
        Job::Backup { .. } => shards_in(state, &spec.scope),
        Job::GroupBackup { .. } => Vec::new(),
    }
}

/// Why a backup of a shard has to wait for others that are at work there: that is no failure.
pub fn in_the_way(state: &State, shard: &ShardId) -> Option<String> {
    if let Some(other) = state.locks.exclusive_holder(Exclusive::Backup, shard) {
        return Some(format!("{shard} is being backed up by operation {other}"));
    }
    if let Some(other) = state.locks.exclusive_holder(Exclusive::Reparent, shard) {
        return Some(format!(
            "the primary of {shard} is being changed by operation {other}"
        ));
    }
    let scope = Scope::Shard(shard.clone());
    let mut holds = state.locks.holds();
    let deleting = holds.find(|hold| hold.side == Side::Delete && hold.scope.overlaps(&scope))?;
    Some(format!(
        "{} holds the delete side of {shard}",
        deleting.owner
    ))
}

/// Starts the operation of a try. When admission refuses it, nothing has changed.
pub(super) fn begin(state: &mut State, of: &Try, alias: &Alias) -> Result<Response> {
    check_clock(state)?;
    let at_unix_ms = state.schedules.seen_unix_ms.max(of.now_unix_ms);
    let schedule = state.schedules.get(&of.name)?;
    schedule.check_try(of, at_unix_ms)?;
    if schedule.running() >= schedule.spec.at_once as usize {
        return Err(Error::conflict(format!(
            "schedule {} has as many shards at work as it may",
            of.name
        )));
    }
    let tablet = state.topology.tablet(alias)?;
    if Some(&tablet.shard) != of.shard.as_ref() {
        return Err(Error::invalid(format!(
            "{alias} belongs to {}, not to {}",
            tablet.shard,
            of.described()
        )));
    }
    let id = schedule.operation_id(of);
    let start = schedule.start(id, alias, at_unix_ms)?;
    let answer = admission::start(state, &start)?;
    state.schedules.now(of.now_unix_ms);
    state.schedules.changes += 1;
    let part = state.schedules.get_mut(&of.name)?.part_mut(of)?;
    part.state = PartState::Running;
    part.tries = of.number;
    part.operation = Some(id);
    Ok(answer)
}

/// A try that could not begin counts as one that failed.
pub(super) fn fail(state: &mut State, of: &Try, error: &str) -> Result<()> {
    check_clock(state)?;
    let at_unix_ms = state.schedules.seen_unix_ms.max(of.now_unix_ms);
    let schedule = state.schedules.get(&of.name)?;
    schedule.check_try(of, at_unix_ms)?;
    if of.shard.is_none() {
        return Err(Error::invalid("the group's backup fails when it is taken"));
    }
    let now_unix_ms = state.schedules.now(of.now_unix_ms);
    let schedule = state.schedules.get_mut(&of.name)?;
    let spec = schedule.spec.clone();
    let part = schedule.part_mut(of)?;
    part.tries = of.number;
    part.try_failed(&spec, error, now_unix_ms);
    schedule.end_run_if_done(now_unix_ms);
    Ok(())
}

impl Try {
    /// What it is about, for people.
    pub fn described(&self) -> String {
        described(self.shard.as_ref())
    }
}

impl Schedules {
    /// An operation has ended: it may have been one of a run.
    pub(in crate::state) fn operation_ended(&mut self, operation: &Operation) {
        let at_unix_ms = operation.finished_unix_ms.unwrap_or(0);
        let now_unix_ms = self.seen_unix_ms.max(at_unix_ms);
        for schedule in self.all.values_mut() {
            if schedule.operation_ended(operation, now_unix_ms) {
                self.seen_unix_ms = now_unix_ms;
                self.changes += 1;
                return;
            }
        }
    }
}

impl Schedule {
    pub(super) fn check_is(&self, id: OperationId, name: &str) -> Result<()> {
        if self.id == id {
            return Ok(());
        }
        Err(Error::fenced(format!(
            "schedule {name} is another one by now"
        )))
    }

    fn check_not_paused(&self, name: &str, now_unix_ms: u64) -> Result<()> {
        if !self.paused_at(now_unix_ms) {
            return Ok(());
        }
        Err(Error::refused(format!("schedule {name} is paused")))
    }

    pub(super) fn check_try(&self, of: &Try, now_unix_ms: u64) -> Result<()> {
        self.check_is(of.id, &of.name)?;
        self.check_not_paused(&of.name, now_unix_ms)?;
        let run = self.run.as_ref().filter(|run| run.number == of.run);
        let part = run.and_then(|run| run.parts.iter().find(|part| part.shard == of.shard));
        let is_next = |part: &&Part| {
            part.state == PartState::Waiting
                && part.tries + 1 == of.number
                && part.not_before_unix_ms <= now_unix_ms
        };
        match part.filter(is_next) {
            Some(_) => Ok(()),
            None => Err(Error::conflict(format!(
                "try {} in {} is not what schedule {} is waiting for",
                of.number,
                of.described(),
                of.name
            ))),
        }
    }

    pub(super) fn part_mut(&mut self, of: &Try) -> Result<&mut Part> {
        let parts = self.run.iter_mut().flat_map(|run| &mut run.parts);
        let mut own = parts.filter(|part| part.shard == of.shard);
        own.next()
            .ok_or_else(|| Error::internal(format!("schedule {} has no such part", of.name)))
    }

    /// The same for whoever asks again: of this schedule, run, shard and try.
    fn operation_id(&self, of: &Try) -> OperationId {
        self.id
            .derived(&format!("{}/{}/{}", of.run, of.described(), of.number))
    }

    fn start(&self, id: OperationId, alias: &Alias, now_unix_ms: u64) -> Result<Start> {
        match self.spec.job {
            Job::Backup {
                concurrency,
                no_wait,
                allow_primary,
                deadline_ms,
            } => Ok(Start {
                id,
                spec: operations::Spec::Backup {
                    alias: alias.clone(),
                    concurrency,
                    no_wait,
                    allow_primary,
                },
                now_unix_ms,
                deadline_unix_ms: now_unix_ms.saturating_add(deadline_ms),
            }),
            Job::GroupBackup { .. } => Err(Error::invalid("the group's backup is no operation")),
        }
    }

    fn begin_run(&mut self, slot_unix_ms: u64, of: Vec<Option<ShardId>>, now_unix_ms: u64) {
        self.runs += 1;
        let spread_ms = self.spec.spread_ms;
        let part = |shard: Option<ShardId>| Part {
            state: PartState::Waiting,
            tries: 0,
            not_before_unix_ms: now_unix_ms.saturating_add(place_in(spread_ms, shard.as_ref())),
            operation: None,
            error: String::new(),
            shard,
        };
        self.run = Some(Run {
            number: self.runs,
            slot_unix_ms,
            begun_unix_ms: now_unix_ms,
            parts: of.into_iter().map(part).collect(),
        });
        // One without shards ends at once, and has failed.
        self.end_run_if_done(now_unix_ms);
    }

    fn operation_ended(&mut self, operation: &Operation, now_unix_ms: u64) -> bool {
        let error = operation.error.as_ref().map_or("", |error| &error.message);
        let end = match operation.state {
            OperationState::Succeeded => End::Succeeded,
            OperationState::Cancelled => End::Cancelled(error),
            _ => End::Failed(error),
        };
        let is_of = |part: &Part| part.operation == Some(operation.id);
        self.part_ended(is_of, end, now_unix_ms)
    }

    /// False: nothing of the kind was at work.
    pub(super) fn part_ended(
        &mut self,
        is_meant: impl Fn(&Part) -> bool,
        end: End,
        now_unix_ms: u64,
    ) -> bool {
        let parts = self.run.iter_mut().flat_map(|run| &mut run.parts);
        let mut meant = parts.filter(|part| part.state == PartState::Running && is_meant(part));
        let Some(part) = meant.next() else {
            return false;
        };
        match end {
            End::Succeeded => {
                part.state = PartState::Succeeded;
                part.error.clear();
            }
            End::Cancelled(error) => {
                part.state = PartState::Cancelled;
                part.error = cut(error);
            }
            End::Failed(error) => part.try_failed(&self.spec, error, now_unix_ms),
        }
        let is_of_another_job = !self.spec.job.is_for(part.shard.as_ref());
        if is_of_another_job || self.paused_at(now_unix_ms) {
            self.call_off_waiting(now_unix_ms);
        }
        self.end_run_if_done(now_unix_ms);
        true
    }

    /// Nothing more is begun in the run that is at work; what runs goes on.
    pub(super) fn call_off_waiting(&mut self, now_unix_ms: u64) {
        let parts = self.run.iter_mut().flat_map(|run| &mut run.parts);
        for part in parts.filter(|part| part.state == PartState::Waiting) {
            part.state = match part.tries {
                0 => PartState::Cancelled,
                _ => PartState::Failed,
            };
        }
        self.end_run_if_done(now_unix_ms);
    }

    /// The run that is at work ends, for nobody is at it any more. What came of the group's backup
    /// nobody knows: this state may be from that very one.
    pub(super) fn lose_run(&mut self, why: &str, now_unix_ms: u64) {
        let parts = self.run.iter_mut().flat_map(|run| &mut run.parts);
        let is_lost = |part: &&mut Part| part.state == PartState::Running && !part.is_being_taken();
        for part in parts.filter(is_lost) {
            part.state = PartState::Failed;
            part.error = cut(why);
        }
        self.call_off_all_but_operations(now_unix_ms);
    }

    /// Ends a run of which nothing is at work.
    fn give_up(&mut self, waiting_are: PartState, now_unix_ms: u64) {
        let parts = self.run.iter_mut().flat_map(|run| &mut run.parts);
        for part in parts.filter(|part| part.state == PartState::Waiting) {
            part.state = waiting_are;
        }
        self.end_run_if_done(now_unix_ms);
    }

    fn end_run_if_done(&mut self, now_unix_ms: u64) {
        let Some(run) = self.run.take_if(|run| run.is_done()) else {
            return;
        };
        let past = run.ended(now_unix_ms, &self.spec.scope);
        match past.outcome {
            Outcome::Succeeded => {
                self.failures = 0;
                self.last_success_unix_ms = Some(now_unix_ms);
            }
            Outcome::Failed => self.failures = self.failures.saturating_add(1),
            // An operator knows of it.
            Outcome::Cancelled => {}
        }
        self.history.push_back(past.clone());
        self.last = Some(past);
        self.forget_old();
    }
}

impl Part {
    fn try_failed(&mut self, spec: &Spec, error: &str, now_unix_ms: u64) {
        self.error = cut(error);
        if self.tries >= spec.tries {
            self.state = PartState::Failed;
            return;
        }
        self.state = PartState::Waiting;
        let pause_ms = pause_ms(spec.retry_ms, self.tries);
        self.not_before_unix_ms = now_unix_ms.saturating_add(pause_ms);
    }
}

impl Run {
    pub fn running(&self) -> usize {
        self.count(PartState::Running)
    }

    fn count(&self, state: PartState) -> usize {
        let parts = self.parts.iter();
        parts.filter(|part| part.state == state).count()
    }

    fn is_done(&self) -> bool {
        self.running() + self.count(PartState::Waiting) == 0
    }

    /// Something of it runs, or has not had its turn yet.
    pub(super) fn is_at_work(&self) -> bool {
        let is_at_work = |part: &Part| match part.state {
            PartState::Running => true,
            PartState::Waiting => part.tries == 0,
            _ => false,
        };
        self.parts.iter().any(is_at_work)
    }

    pub(super) fn is_failing(&self) -> bool {
        let is_failing = |part: &Part| match part.state {
            PartState::Failed => true,
            PartState::Waiting | PartState::Running => !part.error.is_empty(),
            PartState::Succeeded | PartState::Cancelled => false,
        };
        self.parts.iter().any(is_failing)
    }

    fn ended(self, now_unix_ms: u64, scope: &Scope) -> PastRun {
        let outcome = if self.parts.is_empty() || self.count(PartState::Failed) > 0 {
            Outcome::Failed
        } else if self.count(PartState::Cancelled) > 0 {
            Outcome::Cancelled
        } else {
            Outcome::Succeeded
        };
        let wrong = self.parts.iter().filter(|part| !part.error.is_empty());
        let mut errors: Vec<String> = wrong
            .take(ERRORS_MAX)
            .map(|part| format!("{}: {}", described(part.shard.as_ref()), part.error))
            .collect();
        if self.parts.is_empty() {
            errors.push(format!("there was no shard in {scope}"));
        }
        PastRun {
            number: self.number,
            slot_unix_ms: self.slot_unix_ms,
            begun_unix_ms: self.begun_unix_ms,
            ended_unix_ms: now_unix_ms,
            outcome,
            shards: number(self.parts.len()),
            succeeded: number(self.count(PartState::Succeeded)),
            errors,
        }
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// After so many tries that failed.
pub(super) fn pause_ms(first_ms: u64, tries: u32) -> u64 {
    let doublings = tries.saturating_sub(1).min(30);
    first_ms
        .saturating_mul(1 << doublings)
        .min(RETRY_MS_MAX.max(first_ms))
}

/// How long after the slot a shard's turn comes: by its name alone, so that it is always the same.
fn place_in(spread_ms: u64, shard: Option<&ShardId>) -> u64 {
    let hash = crc32c::crc32c(described(shard).as_bytes());
    let part = (u128::from(spread_ms) * u128::from(hash)) >> 32;
    u64::try_from(part).unwrap_or(spread_ms)
}

fn cut(error: &str) -> String {
    let mut end = error.len().min(ERROR_BYTES_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error[..end].to_owned()
}
