//! How long work on a disk takes: moments, and now and then much longer.

use std::time::Duration;

use seawall_common::Result;

use super::member::here;

/// In a thousand works, so many take long.
const LONG_PER_MILLE: u32 = 5;
const LONG_MS: u64 = 400;

/// Does the work after the time that the disk of this member takes. A crash in that time is one
/// before the work.
pub async fn work<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    passes().await;
    work()
}

/// The time that the disk of this member takes passes.
pub async fn passes() {
    let slow_ms = here(|member| member.disk_slow_ms());
    let long = rand::random_range(0..1000) < LONG_PER_MILLE;
    let most_ms = 2 + slow_ms + if long { LONG_MS } else { 0 };
    tokio::time::sleep(Duration::from_micros(rand::random_range(0..most_ms * 1000))).await;
}
