//! One token bucket for all data that a process transfers: packs that are put, ranges that are got.
//!
//! A transfer takes its tokens before its request begins, so that waiting is in no request's time
//! limit. A request that is under way when the limit is lowered is called off and takes them anew: on
//! a slow line it could go on for minutes. Whoever waits longest is served first, however many bytes
//! others want. Nothing is saved up but the tokens of [`SAVED`]: neither an idle time nor a pause is
//! followed by a burst.

mod meter;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};

use self::meter::Meter;
use super::chunk::CHUNK_BYTES;
use crate::error::{Error, Result};

/// How long tokens are saved up for while nobody wants any: it covers the gap between two requests
/// of a transfer that has only one under way.
const SAVED: Duration = Duration::from_millis(250);

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToRepository,
    FromRepository,
}

/// Bytes that were transferred since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    pub to_repository: u64,
    pub from_repository: u64,
}

/// A clone is the same bucket.
#[derive(Clone, Debug)]
pub struct Throttle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// One at a time draws tokens; a semaphore lets them in as they came.
    turn: Semaphore,
    bucket: Mutex<Bucket>,
    meter: Mutex<Meter>,
    transferred: Mutex<Transferred>,
    limit_changed: Notify,
    /// [`Bucket::lowered`], for requests that are under way.
    lowered: watch::Sender<u64>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

impl Throttle {
    /// Without a limit.
    pub fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Shared {
            turn: Semaphore::new(1),
            bucket: Mutex::new(Bucket::new(now)),
            meter: Mutex::new(Meter::new(now)),
            transferred: Mutex::default(),
            limit_changed: Notify::new(),
            lowered: watch::Sender::new(0),
        }))
    }

    /// Bytes per second; `Some(0)`: paused; `None`: unlimited.
    pub fn limit(&self) -> Option<u64> {
        self.bucket().limit
    }

    /// In force at once, for whoever waits already and for requests under way.
    pub fn set_limit(&self, bytes_per_second: Option<u64>) {
        let mut bucket = self.bucket();
        bucket.set_limit(Instant::now(), bytes_per_second);
        // Under its lock: of two changes at once the later one is told last.
        self.0.lowered.send_replace(bucket.lowered);
        drop(bucket);
        self.0.limit_changed.notify_one();
    }

    /// Bytes per second over the last few seconds, of requests that were answered.
    pub fn rate(&self) -> u64 {
        self.meter().rate(Instant::now())
    }

    /// How many bytes one request should have now: about a second's worth, at least one chunk.
    pub fn burst_bytes(&self) -> u64 {
        self.limit()
            .map_or(u64::MAX, |rate| rate.max(CHUNK_BYTES as u64))
    }

    /// Makes a request that transfers `bytes`, when that may be. It must do no harm when it is called
    /// off and made again.
    pub(super) async fn run<T, F, Fut>(
        &self,
        direction: Direction,
        bytes: u64,
        request: F,
    ) -> Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut lowered = self.0.lowered.subscribe();
        loop {
            let taken = self.take(bytes).await?;
            tokio::select! {
                answer = request() => {
                    if answer.is_ok() {
                        self.count(direction, bytes);
                    }
                    return answer;
                }
                _ = lowered.wait_for(|lowered| *lowered > taken) => {}
            }
        }
    }

    /// Waits until `bytes` may be transferred, and says how often the limit had been lowered then.
    async fn take(&self, bytes: u64) -> Result<u64> {
        let closed = |_| Error::internal("the throttle was closed");
        let _turn = self.0.turn.acquire().await.map_err(closed)?;
        let mut wanted = bytes;
        loop {
            // A change of the limit from here on is not missed: it leaves a permit.
            let wait = {
                let mut bucket = self.bucket();
                match bucket.draw(Instant::now(), wanted) {
                    Drawn::Enough => return Ok(bucket.lowered),
                    Drawn::Part { missing, wait } => {
                        wanted = missing;
                        wait
                    }
                }
            };
            match wait {
                Some(wait) => {
                    // Either way the bucket is asked again.
                    let changed = self.0.limit_changed.notified();
                    let _ = tokio::time::timeout(wait, changed).await;
                }
                None => self.0.limit_changed.notified().await,
            }
        }
    }

    /// Counts bytes that have been transferred.
    fn count(&self, direction: Direction, bytes: u64) {
        self.meter().add(Instant::now(), bytes);
        let mut transferred = self.counters();
        match direction {
            Direction::ToRepository => transferred.to_repository += bytes,
            Direction::FromRepository => transferred.from_repository += bytes,
        }
    }

    pub fn transferred(&self) -> Transferred {
        *self.counters()
    }

    fn counters(&self) -> MutexGuard<'_, Transferred> {
        let counters = self.0.transferred.lock();
        counters.unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.0.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Bucket {
    limit: Option<u64>,
    /// How often the limit was lowered.
    lowered: u64,
    saved: u64,
    /// Up to here tokens have come in.
    filled: Instant,
}

enum Drawn {
    Enough,
    /// `wait`: how long what is missing takes at the present limit; `None`: paused.
    Part {
        missing: u64,
        wait: Option<Duration>,
    },
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self {
            limit: None,
            lowered: 0,
            saved: 0,
            filled: now,
        }
    }

    fn set_limit(&mut self, now: Instant, limit: Option<u64>) {
        let unlimited = u64::MAX;
        if limit.unwrap_or(unlimited) < self.limit.unwrap_or(unlimited) {
            self.lowered += 1;
        }
        self.limit = limit;
        self.saved = 0;
        self.filled = now;
    }

    fn draw(&mut self, now: Instant, wanted: u64) -> Drawn {
        let Some(rate) = self.limit else {
            return Drawn::Enough;
        };
        let there = self.saved.saturating_add(self.earn(now, rate));
        let taken = there.min(wanted);
        self.saved = (there - taken).min(bytes_in(SAVED, rate));
        match wanted - taken {
            0 => Drawn::Enough,
            missing => Drawn::Part {
                missing,
                wait: time_for(missing, rate),
            },
        }
    }

    /// Whole tokens that came in since the last time; the rest of a token stays to come.
    fn earn(&mut self, now: Instant, rate: u64) -> u64 {
        let earned = bytes_in(now.saturating_duration_since(self.filled), rate);
        let whole = Duration::from_nanos(nanos_for(earned, rate));
        self.filled = self.filled.checked_add(whole).unwrap_or(now).min(now);
        earned
    }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

fn bytes_in(time: Duration, rate: u64) -> u64 {
    let bytes = time.as_nanos().saturating_mul(u128::from(rate)) / NANOS_PER_SECOND;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Rounded up, so that the tokens are there when the time is over; 0 at a rate of 0.
fn nanos_for(bytes: u64, rate: u64) -> u64 {
    let nanos = (u128::from(bytes) * NANOS_PER_SECOND)
        .checked_div(u128::from(rate))
        .map_or(0, |nanos| nanos.saturating_add(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

fn time_for(bytes: u64, rate: u64) -> Option<Duration> {
    (rate > 0).then(|| Duration::from_nanos(nanos_for(bytes, rate)))
}
