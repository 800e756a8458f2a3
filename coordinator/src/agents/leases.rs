//! Lets holds taken by hand run out: by a command in the log, from the leader.
//!
//! The time left is counted by this member's monotonic clock from when it sees a hold first: when
//! the wall clock jumps, no hold ends before its time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use seawall_common::clock::now_unix_ms;
use tokio::time::Instant;

use crate::{
    group::Group,
    state::{
        Command,
        locks::{self, Hold},
    },
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Holds that one command lets go of: its size is limited.
const EXPIRED_MAX: usize = 200;

/// Runs for as long as this member leads; the caller ends it with the office.
pub async fn watch(group: &dyn Group) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ends = Ends::default();
    // Of a hold that an earlier leader granted, part of the time is over.
    group.look(|state| ends.see(state.locks.holds(), |hold| left(hold, now_unix_ms())));
    loop {
        every.tick().await;
        group.look(|state| ends.see(state.locks.holds(), stated));
        let ids = ends.over();
        if ids.is_empty() {
            continue;
        }
        let expire = Command::Locks(locks::Command::Expire { ids });
        match group.propose(expire).await {
            Ok(_) => tracing::info!("a hold of the backup lock has run out"),
            Err(e) => tracing::warn!("cannot release a hold that has run out: {e}"),
        }
    }
}

/// When each hold by hand ends.
#[derive(Default)]
struct Ends(BTreeMap<String, Instant>);

impl Ends {
    /// Takes up the holds that are new, each with the time that it has left, and drops those that
    /// are gone.
    fn see<'a>(&mut self, holds: impl Iterator<Item = &'a Hold>, left: impl Fn(&Hold) -> Duration) {
        let mut gone: BTreeSet<String> = self.0.keys().cloned().collect();
        for hold in holds.filter(|hold| hold.expires_unix_ms.is_some()) {
            gone.remove(&hold.id);
            self.0
                .entry(hold.id.clone())
                .or_insert_with(|| Instant::now() + left(hold));
        }
        self.0.retain(|id, _| !gone.contains(id));
    }

    fn over(&self) -> Vec<String> {
        let now = Instant::now();
        let is_over = |(_, end): &(&String, &Instant)| **end <= now;
        let over = self.0.iter().filter(is_over);
        over.map(|(id, _)| id.clone()).take(EXPIRED_MAX).collect()
    }
}

/// The whole time for which a hold was taken.
fn stated(hold: &Hold) -> Duration {
    let end = hold.expires_unix_ms.unwrap_or(u64::MAX);
    Duration::from_millis(end.saturating_sub(hold.granted_unix_ms))
}

fn left(hold: &Hold, now_unix_ms: u64) -> Duration {
    let end = hold.expires_unix_ms.unwrap_or(u64::MAX);
    Duration::from_millis(end.saturating_sub(now_unix_ms)).min(stated(hold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::locks::{Scope, Side};

    fn hold(id: &str, granted_unix_ms: u64, seconds: Option<u64>) -> Hold {
        Hold {
            id: id.to_owned(),
            side: Side::Backup,
            scope: Scope::Cluster,
            owner: String::new(),
            reason: String::new(),
            token: 1,
            granted_unix_ms,
            expires_unix_ms: seconds.map(|seconds| granted_unix_ms + seconds * 1_000),
            operation: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn i5_a_hold_lasts_its_time_whatever_the_wall_clock_says() {
        let mut ends = Ends::default();
        // Granted by a clock that is years ahead, and by one that is years behind.
        let holds = [
            hold("ahead", u64::MAX / 2, Some(60)),
            hold("behind", 0, Some(60)),
            hold("an operation's", 0, None),
        ];
        ends.see(holds.iter(), stated);
        tokio::time::advance(Duration::from_secs(59)).await;
        ends.see(holds.iter(), stated);
        assert!(ends.over().is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(ends.over(), ["ahead", "behind"]);
        ends.see(holds[1..].iter(), stated);
        assert_eq!(ends.over(), ["behind"]);
    }

    #[test]
    fn of_an_earlier_leaders_hold_never_more_than_its_time_is_left() {
        let hold = hold("one", 100_000, Some(60));
        assert_eq!(left(&hold, 100_000), Duration::from_secs(60));
        assert_eq!(left(&hold, 150_000), Duration::from_secs(10));
        assert_eq!(left(&hold, 0), Duration::from_secs(60));
        assert_eq!(left(&hold, 200_000), Duration::ZERO);
    }
}
