//! What schedules do and have done, as numbers: one series for each schedule, and there are only so
//! many of those.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    operation::{Coordination, schedules::now_unix_ms, short_logs::Logs, slots::Slots},
    state::schedules::Schedule,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    schedule: String,
}

type Numbers = Family<Name, Gauge<u64, AtomicU64>>;
type Seconds = Family<Name, Gauge<f64, AtomicU64>>;

pub struct ScheduleNumbers {
    last_success: Numbers,
    failures: Numbers,
    running: Numbers,
    missed: Numbers,
    paused: Numbers,
    next: Seconds,
    due: Numbers,
    short_logs: Numbers,
}

impl ScheduleNumbers {
    pub fn new(registry: &mut Registry) -> Self {
        let mut numbers = |name: &str, help: &str| {
            let numbers = Numbers::default();
            registry.register(name, help, numbers.clone());
            numbers
        };
        let last_success = numbers(
            "last_success_timestamp_seconds",
            "When the last run ended that succeeded in every shard; 0: none has",
        );
        let failures = numbers(
            "consecutive_failures",
            "Runs in a row that did not succeed in every shard; the one at work counts from its first try that failed",
        );
        let running = numbers(
            "running",
            "Backups of shards that are at work, or 1 while the group's is taken",
        );
        let missed = numbers(
            "missed_slots",
            "Slots that were passed over since the schedule was made",
        );
        let paused = numbers("paused", "1 while it is paused");
        let short_logs = numbers(
            "short_logs",
            "Shards of which a server keeps its log for less time than lies between two backups; only on the leader",
        );
        let due = numbers(
            "due_timestamp_seconds",
            "Slot of the run that is at work, else the next slot; absent when none is to come, and while it is paused",
        );
        let next = Seconds::default();
        registry.register(
            "next_slot_seconds",
            "Seconds until its next slot; absent when none is to come",
            next.clone(),
        );
        Self {
            last_success,
            failures,
            running,
            missed,
            paused,
            next,
            due,
            short_logs,
        }
    }

    /// What the agents say of their logs, only the leader knows. It computes slots: on a thread where
    /// that holds nobody up.
    pub fn set(&self, context: &Coordination, is_leader: bool) {
        for numbers in [
            &self.last_success,
            &self.failures,
            &self.running,
            &self.missed,
            &self.paused,
            &self.due,
            &self.short_logs,
        ] {
            numbers.clear();
        }
        self.next.clear();
        // What is computed from the expressions is not computed while the state is looked at.
        let readings: Vec<Reading> = context.group.look(|state| {
            let all = state.schedules.iter();
            let readings = all.map(|(name, schedule)| Reading {
                logs: is_leader.then(|| Logs::of_schedule(context, state, name, schedule)),
                ..Reading::of(name, schedule, now_unix_ms(context, state))
            });
            readings.collect()
        });
        for reading in readings {
            self.set_one(&reading);
        }
    }

    fn set_one(&self, of: &Reading) {
        let labels = label(&of.name);
        let set = |numbers: &Numbers, value: u64| {
            numbers.get_or_create(&labels).set(value);
        };
        set(&self.last_success, of.last_success_unix_ms / 1000);
        set(&self.failures, of.failures.into());
        set(&self.running, of.running as u64);
        set(&self.missed, of.missed);
        set(&self.paused, of.is_paused.into());
        if let Some(logs) = &of.logs {
            set(&self.short_logs, logs.short().len() as u64);
        }
        let next_unix_ms = of.next_unix_ms();
        if let Some(next_unix_ms) = next_unix_ms {
            let seconds = next_unix_ms.saturating_sub(of.now_unix_ms) as f64 / 1000.0;
            self.next.get_or_create(&labels).set(seconds);
        }
        // One after the other: what is due is not done with before the run at work has ended.
        if let Some(due_unix_ms) = of.at_work_unix_ms.or(next_unix_ms) {
            set(&self.due, due_unix_ms / 1000);
        }
    }
}

/// What is read of one schedule.
struct Reading {
    name: String,
    cron: String,
    zone: String,
    now_unix_ms: u64,
    done_unix_ms: u64,
    last_success_unix_ms: u64,
    failures: u32,
    running: usize,
    missed: u64,
    /// The slot of the run that is at work.
    at_work_unix_ms: Option<u64>,
    is_paused: bool,
    logs: Option<Logs>,
}

impl Reading {
    fn of(name: &str, schedule: &Schedule, now_unix_ms: u64) -> Self {
        Self {
            name: name.to_owned(),
            cron: schedule.spec.cron.clone(),
            zone: schedule.spec.zone.clone(),
            now_unix_ms,
            done_unix_ms: schedule.done_until_unix_ms(now_unix_ms),
            last_success_unix_ms: schedule.last_success_unix_ms.unwrap_or(0),
            failures: schedule.failures_in_a_row(),
            running: schedule.running(),
            missed: schedule.missed,
            at_work_unix_ms: schedule.run.as_ref().map(|run| run.slot_unix_ms),
            is_paused: schedule.paused_at(now_unix_ms),
            logs: None,
        }
    }

    fn next_unix_ms(&self) -> Option<u64> {
        if self.is_paused {
            return None;
        }
        let slots = Slots::new(&self.cron, &self.zone).ok()?;
        slots.after(self.done_unix_ms)
    }
}

fn label(name: &str) -> Name {
    Name {
        schedule: name.to_owned(),
    }
}

#[cfg(test)]
#[path = "schedules_tests.rs"]
mod tests;
