//! A stage with clocks of its own.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use seawall_common::clock::now_unix_ms;

use super::Stage;
use crate::state::{State, schedules::Schedule, testing::Cluster};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// A stage whose clocks go as the time of the test goes, from half past midnight (UTC) of tomorrow
/// on; what is stored by them is ahead of what the drivers note by the machine's own.
pub struct Clocked {
    pub stage: Stage,
    /// What is wrong with the time of day.
    pub off_ms: Arc<AtomicI64>,
}

impl Clocked {
    pub fn new(cluster: Cluster) -> Self {
        let off_ms = Arc::new(AtomicI64::new(0));
        let wrong = off_ms.clone();
        let begun = tokio::time::Instant::now();
        let start_unix_ms = (now_unix_ms() / DAY_MS + 1) * DAY_MS + 30 * 60_000;
        let wall = move || {
            let passed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap();
            let right_ms = start_unix_ms + passed_ms;
            right_ms.saturating_add_signed(wrong.load(Ordering::Relaxed))
        };
        let stage = Stage::with(cluster, |context| {
            context.wall_unix_ms = Box::new(wall);
            context.monotonic = Box::new(|| tokio::time::Instant::now().into_std());
        });
        Self { stage, off_ms }
    }

    pub fn wall_unix_ms(&self) -> u64 {
        (self.stage.context.wall_unix_ms)()
    }

    pub fn nightly(&self) -> Schedule {
        let get = |state: &State| state.schedules.get("nightly").unwrap().clone();
        self.stage.look(get)
    }
}
