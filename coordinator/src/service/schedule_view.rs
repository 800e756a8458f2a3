//! How a schedule is shown: when it runs next, what it does, what came of it, why it does not run.

use seawall_common::{Error, Result, ids::ShardId};
use seawall_proto::v1;

use super::convert;
use crate::{
    operation::{
        Coordination, clock,
        schedules::{now_unix_ms, waits_for},
        short_logs::{Logs, ShortLog},
        slots::Slots,
    },
    platform::blocking,
    state::{
        State,
        retention::Standstill,
        schedules::{
            Job, Outcome, Part, PartState, PastRun, Pause, Run, Schedule, Spec, described,
        },
    },
};

/// Slots that are shown.
const NEXT_SHOWN: usize = 5;
/// Errors of a run at work that are shown.
const ERRORS_SHOWN: usize = 5;

/// Looks at schedules at one moment.
pub struct Viewer<'a> {
    context: &'a Coordination,
    /// Why nothing is decided by the time of day, if it is not.
    standstill: Option<Standstill>,
}

/// What is shown of a schedule, but for what follows from its expression: to compute that takes a
/// while, in which nobody is to wait for the state.
pub struct Seen {
    name: String,
    schedule: Schedule,
    now_unix_ms: u64,
    standstill: Option<Standstill>,
    /// The parts of the run that is at work.
    parts: Vec<v1::SchedulePart>,
    logs: Logs,
}

impl<'a> Viewer<'a> {
    /// Not while the state is looked at.
    pub fn new(context: &'a Coordination) -> Self {
        Self {
            context,
            standstill: clock::doubt(context),
        }
    }

    /// The schedule may be one that is not set yet.
    pub fn look(&self, name: &str, schedule: &Schedule, state: &State) -> Seen {
        let now_unix_ms = now_unix_ms(self.context, state);
        let parts = schedule.run.iter().flat_map(|run| {
            let job = &schedule.spec.job;
            let room = (schedule.spec.at_once as usize).saturating_sub(run.running());
            let part = move |of: &Part| self.part(of, job, (now_unix_ms, room > 0), state);
            run.parts.iter().map(part)
        });
        Seen {
            name: name.to_owned(),
            parts: parts.collect(),
            schedule: schedule.clone(),
            now_unix_ms,
            standstill: self.standstill.clone(),
            logs: Logs::of_schedule(self.context, state, name, schedule),
        }
    }

    fn part(
        &self,
        part: &Part,
        job: &Job,
        (now_unix_ms, has_room): (u64, bool),
        state: &State,
    ) -> v1::SchedulePart {
        let is_ripe = part.state == PartState::Waiting && part.not_before_unix_ms <= now_unix_ms;
        let waits_for = match (is_ripe, has_room) {
            (false, _) => String::new(),
            (true, false) => "as many shards are at work as may be".to_owned(),
            (true, true) => waits_for(self.context, state, part.shard.as_ref(), job),
        };
        v1::SchedulePart {
            shard: part.shard.as_ref().map(ShardId::to_proto),
            state: part_state(part.state).into(),
            tries: part.tries,
            operation_id: part.operation.map_or_else(String::new, |id| id.to_string()),
            error: part.error.clone(),
            not_before_unix_ms: match part.state {
                PartState::Waiting => part.not_before_unix_ms,
                _ => 0,
            },
            waits_for,
        }
    }
}

/// As they are shown; computed where it holds nobody up.
pub async fn show(seen: Vec<Seen>) -> Result<Vec<v1::Schedule>> {
    blocking(move || Ok(seen.into_iter().map(Seen::view).collect())).await
}

/// As [`show`], of one.
pub async fn show_one(seen: Seen) -> Result<v1::Schedule> {
    blocking(move || Ok(seen.view())).await
}

impl Seen {
    fn view(self) -> v1::Schedule {
        let schedule = &self.schedule;
        let slots = Slots::new(&schedule.spec.cron, &schedule.spec.zone);
        let pause = schedule
            .pause
            .filter(|_| schedule.paused_at(self.now_unix_ms));
        let next = match (&slots, pause) {
            (Ok(slots), None) => next_slots(slots, schedule.done_until_unix_ms(self.now_unix_ms)),
            (Ok(slots), Some(pause)) => pause.until_unix_ms.map_or_else(Vec::new, |until| {
                let done_unix_ms = schedule.done_until_unix_ms(self.now_unix_ms);
                next_slots(slots, until.max(done_unix_ms))
            }),
            (Err(_), _) => Vec::new(),
        };
        let slot = |at_unix_ms: u64| v1::ScheduleSlot {
            at_unix_ms,
            local: slots
                .as_ref()
                .map_or_else(|_| String::new(), |s| s.local(at_unix_ms)),
        };
        let has_next = !next.is_empty() || pause.is_some();
        let stopped = stopped(&self.standstill, &slots, has_next);
        let past = |run: &PastRun| past_run(run, slot(run.slot_unix_ms));
        v1::Schedule {
            name: self.name,
            spec: Some(spec_to(&schedule.spec)),
            state: schedule_state(schedule, stopped.is_some(), pause.is_some()).into(),
            message: message(stopped, pause),
            next: next.into_iter().map(slot).collect(),
            paused: pause.is_some(),
            paused_until_unix_ms: pause.and_then(|pause| pause.until_unix_ms).unwrap_or(0),
            run: schedule
                .run
                .as_ref()
                .map(|run| present_run(run, slot(run.slot_unix_ms), self.parts)),
            last: schedule.last.as_ref().map(past),
            history: schedule.history.iter().map(past).collect(),
            missed: schedule.missed,
            failures_in_a_row: schedule.failures_in_a_row(),
            last_success_unix_ms: schedule.last_success_unix_ms.unwrap_or(0),
            set_unix_ms: schedule.set_unix_ms,
            short_logs: self.logs.short().into_iter().map(short_log).collect(),
        }
    }
}

/// Why it does not run: all that has to be done before it does.
fn message(stopped: Option<String>, pause: Option<Pause>) -> String {
    let paused = pause.map(|pause| match pause.until_unix_ms {
        Some(until) => format!("paused until {}", written(until)),
        None => "paused until ResumeSchedule".to_owned(),
    });
    let all: Vec<String> = stopped.into_iter().chain(paused).collect();
    all.join("; ")
}

fn short_log(short: ShortLog) -> v1::ShortLog {
    v1::ShortLog {
        shard: Some(short.shard.to_proto()),
        alias: short.alias.to_string(),
        kept_ms: short.kept_ms,
        gap_ms: short.gap_ms,
    }
}

/// Why nothing of it begins any more until somebody does something.
fn stopped(
    standstill: &Option<Standstill>,
    slots: &Result<Slots, Error>,
    has_next: bool,
) -> Option<String> {
    if let Some(standstill) = standstill {
        return Some(standstill.to_string());
    }
    match slots {
        Err(e) => Some(e.message().to_owned()),
        Ok(_) if !has_next => Some("it has no slot within ten years".to_owned()),
        Ok(_) => None,
    }
}

fn written(unix_ms: u64) -> String {
    seawall_common::clock::written(unix_ms).unwrap_or_else(|| unix_ms.to_string())
}

fn next_slots(slots: &Slots, after_unix_ms: u64) -> Vec<u64> {
    slots.following(after_unix_ms).take(NEXT_SHOWN).collect()
}

fn spec_to(spec: &Spec) -> v1::ScheduleSpec {
    let v1::LockScope { keyspace, shard } = convert::scope(&spec.scope);
    let job = match spec.job {
        Job::Backup {
            concurrency,
            no_wait,
            allow_primary,
            deadline_ms,
        } => v1::schedule_spec::Job::Backup(v1::ScheduledBackup {
            concurrency,
            no_wait,
            allow_primary,
            deadline_ms,
        }),
        Job::GroupBackup { keep } => {
            v1::schedule_spec::Job::GroupBackup(v1::ScheduledGroupBackup { keep })
        }
    };
    v1::ScheduleSpec {
        keyspace,
        shard,
        cron: spec.cron.clone(),
        zone: spec.zone.clone(),
        job: Some(job),
        at_once: spec.at_once,
        spread_ms: spec.spread_ms,
        tries: spec.tries,
        retry_ms: spec.retry_ms,
        history: Some(spec.history),
    }
}

fn schedule_state(schedule: &Schedule, is_stopped: bool, is_paused: bool) -> v1::ScheduleState {
    match &schedule.run {
        Some(run) if run.running() > 0 => v1::ScheduleState::Running,
        _ if is_stopped => v1::ScheduleState::Stopped,
        _ if is_paused => v1::ScheduleState::Paused,
        Some(_) => v1::ScheduleState::Waiting,
        None => v1::ScheduleState::Idle,
    }
}

fn part_state(state: PartState) -> v1::SchedulePartState {
    match state {
        PartState::Waiting => v1::SchedulePartState::Waiting,
        PartState::Running => v1::SchedulePartState::Running,
        PartState::Succeeded => v1::SchedulePartState::Succeeded,
        PartState::Failed => v1::SchedulePartState::Failed,
        PartState::Cancelled => v1::SchedulePartState::Cancelled,
    }
}

fn present_run(run: &Run, slot: v1::ScheduleSlot, parts: Vec<v1::SchedulePart>) -> v1::ScheduleRun {
    let succeeded = run.parts.iter();
    let succeeded = succeeded.filter(|part| part.state == PartState::Succeeded);
    let errors = run.parts.iter().filter(|part| !part.error.is_empty());
    v1::ScheduleRun {
        number: run.number,
        slot: Some(slot),
        begun_unix_ms: run.begun_unix_ms,
        ended_unix_ms: 0,
        outcome: v1::ScheduleOutcome::Unspecified.into(),
        shards: u32::try_from(run.parts.len()).unwrap_or(u32::MAX),
        succeeded: u32::try_from(succeeded.count()).unwrap_or(u32::MAX),
        errors: errors
            .take(ERRORS_SHOWN)
            .map(|part| format!("{}: {}", described(part.shard.as_ref()), part.error))
            .collect(),
        parts,
    }
}

fn past_run(run: &PastRun, slot: v1::ScheduleSlot) -> v1::ScheduleRun {
    let outcome = match run.outcome {
        Outcome::Succeeded => v1::ScheduleOutcome::Succeeded,
        Outcome::Failed => v1::ScheduleOutcome::Failed,
        Outcome::Cancelled => v1::ScheduleOutcome::Cancelled,
    };
    v1::ScheduleRun {
        number: run.number,
        slot: Some(slot),
        begun_unix_ms: run.begun_unix_ms,
        ended_unix_ms: run.ended_unix_ms,
        outcome: outcome.into(),
        shards: run.shards,
        succeeded: run.succeeded,
        errors: run.errors.clone(),
        parts: Vec::new(),
    }
}
