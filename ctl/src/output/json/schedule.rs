//! Schedules.

use seawall_proto::v1;
use serde::Serialize;

use super::{keyspace, known, shard, time, word};

#[derive(Debug, Serialize)]
struct Slot {
    at: Option<String>,
    local: String,
}

impl From<&v1::ScheduleSlot> for Slot {
    fn from(slot: &v1::ScheduleSlot) -> Self {
        Self {
            at: time(slot.at_unix_ms),
            local: slot.local.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Part {
    keyspace: Option<String>,
    shard: Option<String>,
    state: String,
    tries: u32,
    operation_id: Option<String>,
    error: Option<String>,
    not_before_at: Option<String>,
    waits_for: Option<String>,
}

impl From<&v1::SchedulePart> for Part {
    fn from(part: &v1::SchedulePart) -> Self {
        Self {
            keyspace: keyspace(part.shard.as_ref()),
            shard: shard(part.shard.as_ref()),
            state: word(part.state()),
            tries: part.tries,
            operation_id: known(&part.operation_id),
            error: known(&part.error),
            not_before_at: time(part.not_before_unix_ms),
            waits_for: known(&part.waits_for),
        }
    }
}

#[derive(Debug, Serialize)]
struct Run {
    number: u64,
    slot: Option<Slot>,
    begun_at: Option<String>,
    ended_at: Option<String>,
    outcome: Option<String>,
    shards: u32,
    succeeded: u32,
    errors: Vec<String>,
    parts: Vec<Part>,
}

impl From<&v1::ScheduleRun> for Run {
    fn from(run: &v1::ScheduleRun) -> Self {
        Self {
            number: run.number,
            slot: run.slot.as_ref().map(Slot::from),
            begun_at: time(run.begun_unix_ms),
            ended_at: time(run.ended_unix_ms),
            outcome: match run.outcome() {
                v1::ScheduleOutcome::Unspecified => None,
                outcome => Some(word(outcome)),
            },
            shards: run.shards,
            succeeded: run.succeeded,
            errors: run.errors.clone(),
            parts: run.parts.iter().map(Part::from).collect(),
        }
    }
}

/// What is done at each slot; one of them is not null.
#[derive(Debug, Serialize)]
struct Backup {
    concurrency: u32,
    no_wait: bool,
    allow_primary: bool,
    deadline_ms: u64,
}

#[derive(Debug, Serialize)]
struct GroupBackup {
    keep: u32,
}

#[derive(Debug, Serialize)]
struct ShortLog {
    keyspace: Option<String>,
    shard: Option<String>,
    alias: String,
    kept_ms: u64,
    gap_ms: u64,
}

impl From<&v1::ShortLog> for ShortLog {
    fn from(short: &v1::ShortLog) -> Self {
        Self {
            keyspace: keyspace(short.shard.as_ref()),
            shard: shard(short.shard.as_ref()),
            alias: short.alias.clone(),
            kept_ms: short.kept_ms,
            gap_ms: short.gap_ms,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Schedule {
    name: String,
    keyspace: Option<String>,
    shard: Option<String>,
    cron: String,
    zone: String,
    backup: Option<Backup>,
    group_backup: Option<GroupBackup>,
    at_once: u32,
    spread_ms: u64,
    tries: u32,
    retry_ms: u64,
    history_max: u32,
    state: String,
    message: Option<String>,
    next: Vec<Slot>,
    paused: bool,
    paused_until_at: Option<String>,
    run: Option<Run>,
    last: Option<Run>,
    history: Vec<Run>,
    missed_slots: u64,
    consecutive_failures: u32,
    last_success_at: Option<String>,
    set_at: Option<String>,
    short_logs: Vec<ShortLog>,
}

impl From<&v1::Schedule> for Schedule {
    fn from(schedule: &v1::Schedule) -> Self {
        let spec = schedule.spec.clone().unwrap_or_default();
        let (backup, group_backup) = match spec.job {
            Some(v1::schedule_spec::Job::Backup(backup)) => {
                let backup = Backup {
                    concurrency: backup.concurrency,
                    no_wait: backup.no_wait,
                    allow_primary: backup.allow_primary,
                    deadline_ms: backup.deadline_ms,
                };
                (Some(backup), None)
            }
            Some(v1::schedule_spec::Job::GroupBackup(backup)) => {
                let keep = backup.keep;
                (None, Some(GroupBackup { keep }))
            }
            None => (None, None),
        };
        Self {
            name: schedule.name.clone(),
            keyspace: known(&spec.keyspace),
            shard: known(&spec.shard),
            cron: spec.cron,
            zone: spec.zone,
            backup,
            group_backup,
            at_once: spec.at_once,
            spread_ms: spec.spread_ms,
            tries: spec.tries,
            retry_ms: spec.retry_ms,
            history_max: spec.history.unwrap_or(0),
            state: word(schedule.state()),
            message: known(&schedule.message),
            next: schedule.next.iter().map(Slot::from).collect(),
            paused: schedule.paused,
            paused_until_at: time(schedule.paused_until_unix_ms),
            run: schedule.run.as_ref().map(Run::from),
            last: schedule.last.as_ref().map(Run::from),
            history: schedule.history.iter().map(Run::from).collect(),
            missed_slots: schedule.missed,
            consecutive_failures: schedule.failures_in_a_row,
            last_success_at: time(schedule.last_success_unix_ms),
            set_at: time(schedule.set_unix_ms),
            short_logs: schedule.short_logs.iter().map(ShortLog::from).collect(),
        }
    }
}

/// What `ListSchedules` prints.
#[derive(Debug, Serialize)]
pub struct Schedules {
    schedules: Vec<Schedule>,
}

impl From<&[v1::Schedule]> for Schedules {
    fn from(schedules: &[v1::Schedule]) -> Self {
        Self {
            schedules: schedules.iter().map(Schedule::from).collect(),
        }
    }
}

/// What `SetSchedule` prints.
#[derive(Debug, Serialize)]
pub struct SetSchedule {
    dry_run: bool,
    replaced: bool,
    shards: Vec<ShardName>,
    schedule: Schedule,
}

#[derive(Debug, Serialize)]
struct ShardName {
    keyspace: String,
    shard: String,
}

impl SetSchedule {
    pub fn new(answer: &v1::SetScheduleResponse, schedule: &v1::Schedule, dry_run: bool) -> Self {
        let name = |shard: &v1::ShardRef| ShardName {
            keyspace: shard.keyspace.clone(),
            shard: shard.shard.clone(),
        };
        Self {
            dry_run,
            replaced: answer.replaced,
            shards: answer.shards.iter().map(name).collect(),
            schedule: Schedule::from(schedule),
        }
    }
}

/// What `RemoveSchedule` prints.
#[derive(Debug, Serialize)]
pub struct RemovedSchedule {
    pub removed: String,
    pub open_operations: Vec<String>,
}
