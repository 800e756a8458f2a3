//! Where the bytes of a restore come from, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a restore took from where. Of the files, without their holes, but for what the repository
/// was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Left, and right, from a restore of the same backup that was cut off.
    pub resumed_bytes: u64,
    /// Copied from the directory that is being replaced.
    pub copied_bytes: u64,
    /// Neither: taken from the repository.
    pub missing_bytes: u64,
    /// What the repository was asked for: stored bytes, with the gaps that were fetched along.
    pub requested_bytes: u64,
    pub requests: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    resumed_bytes: AtomicU64,
    copied_bytes: AtomicU64,
    missing_bytes: AtomicU64,
    requested_bytes: AtomicU64,
    requests: AtomicU64,
}

impl Tally {
    pub fn add_resumed(&self, bytes: usize) {
        self.resumed_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub fn add_copied(&self, bytes: usize) {
        self.copied_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub fn add_missing(&self, bytes: u64) {
        self.missing_bytes.fetch_add(bytes, Relaxed);
    }

    pub fn add_request(&self, bytes: u64) {
        self.requests.fetch_add(1, Relaxed);
        self.requested_bytes.fetch_add(bytes, Relaxed);
    }

    pub fn sums(&self) -> Fetched {
        Fetched {
            resumed_bytes: self.resumed_bytes.load(Relaxed),
            copied_bytes: self.copied_bytes.load(Relaxed),
            missing_bytes: self.missing_bytes.load(Relaxed),
            requested_bytes: self.requested_bytes.load(Relaxed),
            requests: self.requests.load(Relaxed),
        }
    }
}
