//! The leader's memory of when holds of the backup lock end: those by hand after their stated time,
//! those of programs when they are not kept alive. They end by a command in the log; keeping one
//! alive is none.
//!
//! Time is counted by this member's monotonic clock from when it sees a hold first: when the wall
//! clock jumps, no hold ends before its time. A new leader gives every lease its whole time again.
//! What was answered to a holder stays true (I5): a hold is never let go of within a lease after
//! the moment at which its holder asked to keep it, and was told that it has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    operation::{Coordination, clock},
    state::{
        Command,
        locks::{self, Hold},
    },
};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Holds that one command lets go of: its size is limited.
const EXPIRED_MAX: usize = 200;

/// When each hold ends that is no operation's.
#[derive(Default)]
pub struct Leases(Mutex<BTreeMap<String, End>>);

struct End {
    at: Instant,
    /// It is being let go of: too late to keep it.
    is_over: bool,
}

impl Leases {
    /// Runs for as long as this member leads; the caller ends it with the office.
    pub async fn watch(&self, context: &Coordination) {
        let group = context.group.as_ref();
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.ends().clear();
        // Of a hold that an earlier leader granted for a time, part of that time is over: how much,
        // only a clock that is believed can tell.
        let is_doubtful = clock::doubt(context).is_some();
        let now_unix_ms = (context.wall_unix_ms)();
        group.look(|state| {
            self.see(state.locks.holds(), |hold| match is_doubtful {
                true => stated(hold),
                false => left(hold, now_unix_ms),
            });
        });
        loop {
            every.tick().await;
            group.look(|state| self.see(state.locks.holds(), stated));
            let ids = self.take_over_ones();
            if ids.is_empty() {
                continue;
            }
            let expire = Command::Locks(locks::Command::Expire { ids: ids.clone() });
            match group.propose(expire).await {
                Ok(_) => tracing::info!("holds of the backup lock have run out: {ids:?}"),
                Err(e) => tracing::warn!("cannot release holds that have run out: {e}"),
            }
        }
    }

    /// Gives a hold its whole lease again, from now on; whether it was not too late for that. It
    /// counts only when it is proved afterwards that this member leads, and the hold still stands.
    pub fn keep(&self, hold: &Hold) -> bool {
        let at = Instant::now() + stated(hold);
        let mut ends = self.ends();
        let end = ends
            .entry(hold.id.clone())
            .or_insert(End { at, is_over: false });
        if !end.is_over {
            end.at = at;
        }
        !end.is_over
    }

    /// Takes up the holds that are new, each with the time that it has left, and drops those that
    /// are gone.
    fn see<'a>(&self, holds: impl Iterator<Item = &'a Hold>, left: impl Fn(&Hold) -> Duration) {
        let mut ends = self.ends();
        let mut gone: BTreeSet<String> = ends.keys().cloned().collect();
        for hold in holds.filter(|hold| hold.operation.is_none()) {
            gone.remove(&hold.id);
            ends.entry(hold.id.clone()).or_insert_with(|| End {
                at: Instant::now() + left(hold),
                is_over: false,
            });
        }
        ends.retain(|id, _| !gone.contains(id));
    }

    /// Those whose time is over: none of them can be kept any more.
    fn take_over_ones(&self) -> Vec<String> {
        let now = Instant::now();
        let mut ends = self.ends();
        let over = ends.iter_mut().filter(|(_, end)| end.at <= now);
        let over = over.take(EXPIRED_MAX).map(|(id, end)| {
            end.is_over = true;
            id.clone()
        });
        over.collect()
    }

    fn ends(&self) -> MutexGuard<'_, BTreeMap<String, End>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The whole time for which a hold was taken, or its lease.
fn stated(hold: &Hold) -> Duration {
    let end = hold.expires_unix_ms.unwrap_or(u64::MAX);
    let stated_ms = end.saturating_sub(hold.granted_unix_ms);
    Duration::from_millis(hold.lease_ms.unwrap_or(stated_ms))
}

fn left(hold: &Hold, now_unix_ms: u64) -> Duration {
    let Some(end) = hold.expires_unix_ms else {
        return stated(hold);
    };
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
            lease_ms: None,
            operation: None,
        }
    }

    fn leased(id: &str, seconds: u64) -> Hold {
        Hold {
            lease_ms: Some(seconds * 1_000),
            ..hold(id, 7, None)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn i5_a_hold_lasts_its_time_whatever_the_wall_clock_says() {
        let leases = Leases::default();
        // Granted by a clock that is years ahead, and by one that is years behind.
        let operations = Hold {
            operation: Some(seawall_common::ids::OperationId::generate()),
            ..hold("an operation's", 0, None)
        };
        let holds = [
            hold("ahead", u64::MAX / 2, Some(60)),
            hold("behind", 0, Some(60)),
            operations,
        ];
        leases.see(holds.iter(), stated);
        tokio::time::advance(Duration::from_secs(59)).await;
        leases.see(holds.iter(), stated);
        assert!(leases.take_over_ones().is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(leases.take_over_ones(), ["ahead", "behind"]);
        leases.see(holds[1..].iter(), stated);
        assert_eq!(leases.take_over_ones(), ["behind"]);
    }

    #[tokio::test(start_paused = true)]
    async fn i5_a_lease_that_is_kept_lasts_and_one_that_is_over_cannot_be_kept() {
        let leases = Leases::default();
        let (kept, left_alone) = (leased("kept", 5), leased("left alone", 5));
        leases.see([&kept, &left_alone].into_iter(), stated);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(leases.keep(&kept));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(leases.take_over_ones(), ["left alone"]);
        assert!(!leases.keep(&left_alone), "it is being let go of");
        assert_eq!(
            leases.take_over_ones(),
            ["left alone"],
            "and is not kept by asking"
        );
        assert!(leases.keep(&kept));
        // One that was granted a moment ago, before anybody looked.
        let new = leased("new", 5);
        assert!(leases.keep(&new));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(leases.take_over_ones().len(), 3);
    }

    #[test]
    fn of_an_earlier_leaders_hold_never_more_than_its_time_is_left() {
        let hold = hold("one", 100_000, Some(60));
        assert_eq!(left(&hold, 100_000), Duration::from_secs(60));
        assert_eq!(left(&hold, 150_000), Duration::from_secs(10));
        assert_eq!(left(&hold, 0), Duration::from_secs(60));
        assert_eq!(left(&hold, 200_000), Duration::ZERO);
        assert_eq!(left(&leased("one", 3), 200_000), Duration::from_secs(3));
    }
}
