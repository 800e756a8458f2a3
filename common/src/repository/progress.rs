//! How far a transfer has come: written by the pipeline, read by whoever reports it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::stages::Stages;

#[derive(Debug, Default)]
struct Counters {
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    files_done: AtomicU64,
    files_total: AtomicU64,
    stages: Stages,
}

/// Shared counters of one transfer; a clone counts the same transfer.
///
/// Bytes are those of the files as they lie in their directories, holes included.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

/// The counters at one moment. A total of 0 is not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressSnapshot {
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub files_done: u64,
    pub files_total: u64,
}

impl Progress {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn snapshot(&self) -> ProgressSnapshot {
        ProgressSnapshot {
            bytes_done: self.0.bytes_done.load(Ordering::Relaxed),
            bytes_total: self.0.bytes_total.load(Ordering::Relaxed),
            files_done: self.0.files_done.load(Ordering::Relaxed),
            files_total: self.0.files_total.load(Ordering::Relaxed),
        }
    }

    /// What the transfer's threads and requests spent on each stage so far, by the stage's name.
    pub fn spent(&self) -> Vec<(&'static str, Duration)> {
        self.0.stages.spent()
    }

    pub(super) fn stages(&self) -> &Stages {
        &self.0.stages
    }

    pub(super) fn begin(&self, bytes_total: u64, files_total: u64) {
        self.0.bytes_done.store(0, Ordering::Relaxed);
        self.0.files_done.store(0, Ordering::Relaxed);
        self.0.bytes_total.store(bytes_total, Ordering::Relaxed);
        self.0.files_total.store(files_total, Ordering::Relaxed);
    }

    pub(super) fn add_bytes(&self, bytes: u64) {
        self.0.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_file(&self) {
        self.0.files_done.fetch_add(1, Ordering::Relaxed);
    }
}
