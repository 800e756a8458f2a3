//! Whether servers keep their logs long enough for the time between backups.
//!
//! A tablet that is restored needs the primary's log from the backup on. Whoever is primary by then:
//! so every tablet of the shard has to keep as much as may lie between two backups.

use std::collections::BTreeMap;

use seawall_common::ids::{Alias, ShardId};

use super::{Coordination, schedules::now_unix_ms, slots::Slots};
use crate::state::{
    State,
    locks::Scope,
    schedules::{self, Job, Schedule, shards_of},
};

/// How far is looked ahead, at least.
const AHEAD_MS: u64 = 62 * 24 * 3600 * 1000;
/// Steps of that look; each is about as long as the log is kept.
const STEPS_MAX: usize = 2_000;

/// A server that keeps its log for less time than lies between two backups of its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortLog {
    pub shard: ShardId,
    pub alias: Alias,
    pub kept_ms: u64,
    /// Between the two backups.
    pub gap_ms: u64,
}

/// What is known of the logs of the shards that a schedule backs up, and by what they are measured.
/// The measuring computes slots: not while the state is looked at.
pub struct Logs {
    now_unix_ms: u64,
    kept: Vec<Kept>,
    /// Expression and zone of each schedule that is named in there.
    schedules: BTreeMap<String, (String, String)>,
}

struct Kept {
    shard: ShardId,
    alias: Alias,
    kept_ms: u64,
    /// The schedules that back the shard up.
    by: Vec<String>,
}

impl Logs {
    /// Of what the agents have told this leader. The schedule may be one that is not set yet.
    pub fn of_schedule(
        context: &Coordination,
        state: &State,
        name: &str,
        schedule: &Schedule,
    ) -> Self {
        let mut logs = Self {
            now_unix_ms: now_unix_ms(context, state),
            kept: Vec::new(),
            schedules: BTreeMap::new(),
        };
        let others = state.schedules.iter();
        let others = others.filter(|(other, _)| *other != name);
        let others = others.map(|(other, schedule)| (other.as_str(), schedule));
        let all: Vec<_> = others.chain([(name, schedule)]).collect();
        for shard in shards_of(state, &schedule.spec) {
            let Some((kept_ms, alias)) = shortest_log(context, state, &shard) else {
                continue;
            };
            let by = logs.covering(&all, &shard);
            logs.kept.push(Kept {
                shard,
                alias,
                kept_ms,
                by,
            });
        }
        logs
    }

    /// The schedules that back a shard up, but for those that are paused without an end.
    fn covering(&mut self, all: &[(&str, &Schedule)], shard: &ShardId) -> Vec<String> {
        let shard = Scope::Shard(shard.clone());
        let covering = all.iter().filter(|(_, schedule)| {
            let is_ended = |pause: schedules::Pause| pause.until_unix_ms.is_some();
            let is_backed_up = matches!(schedule.spec.job, Job::Backup { .. });
            is_backed_up
                && schedule.spec.scope.overlaps(&shard)
                && schedule.pause.is_none_or(is_ended)
        });
        let mut names = Vec::new();
        for (name, schedule) in covering {
            names.push((*name).to_owned());
            if !self.schedules.contains_key(*name) {
                let times = (schedule.spec.cron.clone(), schedule.spec.zone.clone());
                self.schedules.insert((*name).to_owned(), times);
            }
        }
        names
    }

    pub fn short(&self) -> Vec<ShortLog> {
        let mut gaps = BTreeMap::new();
        let found = self.kept.iter().filter_map(|kept| {
            let known = gaps.entry((&kept.by, kept.kept_ms));
            let gap = known.or_insert_with(|| {
                gap_longer_than(kept.kept_ms, &self.slots_of(&kept.by), self.now_unix_ms)
            });
            gap.map(|gap_ms| ShortLog {
                shard: kept.shard.clone(),
                alias: kept.alias.clone(),
                kept_ms: kept.kept_ms,
                gap_ms,
            })
        });
        found.collect()
    }

    fn slots_of(&self, names: &[String]) -> Vec<Slots> {
        let times = names.iter().filter_map(|name| self.schedules.get(name));
        let slots = times.filter_map(|(cron, zone)| Slots::new(cron, zone).ok());
        slots.collect()
    }
}

/// Of the servers of a shard that let go of their logs by time: the one that does so first.
fn shortest_log(context: &Coordination, state: &State, shard: &ShardId) -> Option<(u64, Alias)> {
    let tablets = state.topology.tablets_of(shard);
    let kept = tablets.filter_map(|tablet| {
        let status = context.heartbeats.seen_status(&tablet.alias)?;
        let kept_ms = status.log_kept_ms.filter(|kept| *kept > 0)?;
        Some((kept_ms, tablet.alias.clone()))
    });
    kept.min()
}

/// The first time between two slots, whichever schedules they are of, that is longer.
fn gap_longer_than(kept_ms: u64, slots: &[Slots], now_unix_ms: u64) -> Option<u64> {
    let first_after = |unix_ms: u64| slots.iter().filter_map(|slots| slots.after(unix_ms)).min();
    let ahead_ms = AHEAD_MS.max(kept_ms.saturating_mul(2));
    let mut at_unix_ms = first_after(now_unix_ms)?;
    let end_unix_ms = at_unix_ms.saturating_add(ahead_ms);
    for _ in 0..STEPS_MAX {
        if at_unix_ms > end_unix_ms {
            return None;
        }
        let until_unix_ms = at_unix_ms.saturating_add(kept_ms);
        let within = slots.iter();
        let within = within.filter_map(|slots| slots.last_between(at_unix_ms, until_unix_ms));
        match within.max() {
            Some(later) => at_unix_ms = later,
            None => return first_after(at_unix_ms).map(|next| next - at_unix_ms),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600 * 1000;
    const DAY: u64 = 24 * HOUR;
    /// A Thursday.
    const NOW: u64 = 1_795_651_200_000;

    fn gap(kept_ms: u64, crons: &[&str]) -> Option<u64> {
        let slots = crons.iter().map(|cron| Slots::new(cron, "UTC").unwrap());
        gap_longer_than(kept_ms, &slots.collect::<Vec<_>>(), NOW)
    }

    #[test]
    fn a_gap_between_two_slots_is_found_wherever_it_lies() {
        assert_eq!(gap(DAY, &["0 3 * * *"]), None);
        assert_eq!(gap(DAY - 1, &["0 3 * * *"]), Some(DAY));
        assert_eq!(gap(2 * DAY, &["0 3 * * MON-FRI"]), Some(3 * DAY));
        assert_eq!(gap(3 * DAY, &["0 3 * * MON-FRI"]), None);
        assert_eq!(
            gap(10 * HOUR, &["*/5 9-17 * * *"]),
            Some(15 * HOUR + 5 * 60_000)
        );
        assert_eq!(gap(30 * DAY, &["0 3 1 1 *"]), Some(365 * DAY));
    }

    #[test]
    fn what_one_schedule_leaves_out_another_may_fill() {
        let both = ["0 3 * * MON-FRI", "0 4 * * SAT,SUN"];
        assert_eq!(gap(25 * HOUR, &both), None);
        assert_eq!(gap(25 * HOUR, &both[..1]), Some(3 * DAY));
        assert_eq!(gap(25 * HOUR - 1, &both), Some(25 * HOUR));
        assert_eq!(gap(DAY, &[]), None);
    }
}
