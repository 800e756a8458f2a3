//! What schedules do and have done, as numbers: one series for each schedule, and there are only so
//! many of those.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    operation::{Coordination, schedules::now_unix_ms, short_logs, slots::Slots},
    state::{State, schedules::Schedule},
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
        let running = numbers("running", "Shards in which an operation of it is at work");
        let missed = numbers(
            "missed_slots",
            "Slots that were passed over since the schedule was made",
        );
        let paused = numbers("paused", "1 while it is paused");
        let short_logs = numbers(
            "short_logs",
            "Shards of which a server keeps its log for less time than lies between two backups; only on the leader",
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
            short_logs,
        }
    }

    /// What the agents say of their logs, only the leader knows.
    pub fn set(&self, context: &Coordination, is_leader: bool) {
        for numbers in [
            &self.last_success,
            &self.failures,
            &self.running,
            &self.missed,
            &self.paused,
            &self.short_logs,
        ] {
            numbers.clear();
        }
        self.next.clear();
        context.group.look(|state| {
            for (name, schedule) in state.schedules.iter() {
                self.set_one(context, state, (name, schedule));
                if is_leader {
                    let short = short_logs::of_schedule(context, state, &schedule.spec);
                    let labels = label(name);
                    let count = short.len() as u64;
                    self.short_logs.get_or_create(&labels).set(count);
                }
            }
        });
    }

    fn set_one(&self, context: &Coordination, state: &State, (name, of): (&str, &Schedule)) {
        let labels = label(name);
        let set = |numbers: &Numbers, value: u64| {
            numbers.get_or_create(&labels).set(value);
        };
        let now_unix_ms = now_unix_ms(context, state);
        let is_paused = of.paused_at(now_unix_ms);
        set(
            &self.last_success,
            of.last_success_unix_ms.unwrap_or(0) / 1000,
        );
        set(&self.failures, of.failures_in_a_row().into());
        set(&self.running, of.running() as u64);
        set(&self.missed, of.missed);
        set(&self.paused, is_paused.into());
        let Ok(slots) = Slots::new(&of.spec.cron, &of.spec.zone) else {
            return;
        };
        let done_unix_ms = of.done_until_unix_ms(now_unix_ms);
        let next = slots.after(done_unix_ms).filter(|_| !is_paused);
        if let Some(next) = next {
            let seconds = next.saturating_sub(now_unix_ms) as f64 / 1000.0;
            self.next.get_or_create(&labels).set(seconds);
        }
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
