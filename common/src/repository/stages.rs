//! Where the time of a transfer goes: what its threads and requests spend on each kind of work, all
//! of them together. The largest of them is what bounds it: the processor, the disk, or the store.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading files of the database.
    Read,
    CheckPages,
    Hash,
    /// Looking a chunk up in what storage holds already.
    LookUp,
    Compress,
    Seal,
    /// A worker waits for a buffer, because the store has not taken the packs before.
    WaitForStore,
    /// Requests that put, from their beginning to their end.
    Put,
    /// Requests that get.
    Get,
    /// Authenticating and decrypting.
    Unseal,
    Decompress,
    /// Reading and hashing what lies at the target already.
    LookHere,
    Write,
    Sync,
}

const STAGES: [(Stage, &str); 14] = [
    (Stage::Read, "read"),
    (Stage::CheckPages, "check_pages"),
    (Stage::Hash, "hash"),
    (Stage::LookUp, "look_up"),
    (Stage::Compress, "compress"),
    (Stage::Seal, "seal"),
    (Stage::WaitForStore, "wait_for_store"),
    (Stage::Put, "put"),
    (Stage::Get, "get"),
    (Stage::Unseal, "unseal"),
    (Stage::Decompress, "decompress"),
    (Stage::LookHere, "look_here"),
    (Stage::Write, "write"),
    (Stage::Sync, "sync"),
];

/// Time spent on each stage since it was made.
#[derive(Debug, Default)]
pub(super) struct Stages([AtomicU64; STAGES.len()]);

impl Stages {
    pub fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.add(stage, began.elapsed());
        done
    }

    pub async fn time_request<T>(&self, stage: Stage, request: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = request.await;
        self.add(stage, began.elapsed());
        done
    }

    fn add(&self, stage: Stage, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0[stage as usize].fetch_add(nanos, Ordering::Relaxed);
    }

    /// The names of the stages that took time, and how much.
    pub fn spent(&self) -> Vec<(&'static str, Duration)> {
        STAGES
            .iter()
            .map(|(stage, name)| {
                let nanos = self.0[*stage as usize].load(Ordering::Relaxed);
                (*name, Duration::from_nanos(nanos))
            })
            .filter(|(_, time)| !time.is_zero())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_own_place_and_name() {
        for (place, (stage, _)) in STAGES.iter().enumerate() {
            assert_eq!(*stage as usize, place);
        }
        let stages = Stages::default();
        stages.add(Stage::Read, Duration::from_secs(2));
        stages.add(Stage::Sync, Duration::from_secs(1));
        stages.add(Stage::Read, Duration::from_secs(3));
        assert_eq!(
            stages.spent(),
            [
                ("read", Duration::from_secs(5)),
                ("sync", Duration::from_secs(1))
            ]
        );
        assert_eq!(stages.time(Stage::Hash, || 7), 7);
    }
}
