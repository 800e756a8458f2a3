//! Tries a request to the store again while that makes sense: with backoff and jitter, each try
//! with its own time limit, all of them together within one bound.

use std::{future::Future, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::Instant;

use crate::error::{Error, Result};

const DELAY_FIRST: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// A request that carries data gets time for it as if it came at this rate at least.
const BYTES_PER_SECOND_MIN: u64 = 512 << 10;

#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    pub request_timeout: Duration,
    /// No try begins later than this after the first one.
    pub retry_limit: Duration,
}

impl Retry {
    /// The limits for a request that carries `bytes`.
    pub fn with_data(&self, bytes: u64) -> Self {
        let more = Duration::from_millis(bytes * 1000 / BYTES_PER_SECOND_MIN);
        Self {
            request_timeout: self.request_timeout + more,
            ..*self
        }
    }

    /// Runs `request` until it succeeds, fails for good, or `retry_limit` is over.
    pub async fn run<T, F, Fut>(&self, what: &str, mut request: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let began = Instant::now();
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(DELAY_FIRST)
            .with_max_delay(DELAY_MAX)
            .with_jitter()
            .without_max_times()
            .build();
        loop {
            let error = match tokio::time::timeout(self.request_timeout, request()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => self.no_answer(what),
            };
            if !error.is_retryable() {
                return Err(error);
            }
            let left = self.retry_limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(self.given_up(&error));
            }
            let delay = delays.next().unwrap_or(DELAY_MAX).min(left);
            tracing::debug!(%error, ?delay, "trying again");
            tokio::time::sleep(delay).await;
        }
    }

    fn no_answer(&self, what: &str) -> Error {
        let limit = humantime::format_duration(self.request_timeout);
        Error::timeout(format!("cannot {what}: no answer within {limit}"))
    }

    fn given_up(&self, error: &Error) -> Error {
        let limit = humantime::format_duration(self.retry_limit);
        let message = format!("{} (given up after {limit})", error.message());
        let given_up = Error::new(error.kind(), message);
        match error.hint_text() {
            Some(hint) => given_up.hint(hint),
            None => given_up,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const RETRY: Retry = Retry {
        request_timeout: Duration::from_secs(30),
        retry_limit: Duration::from_secs(120),
    };

    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_tried_again_and_what_fails_is_given_up_in_time() {
        let tries = Cell::new(0);
        let began = Instant::now();
        let hanging = || {
            tries.set(tries.get() + 1);
            std::future::pending::<Result<()>>()
        };
        let error = RETRY.run("put a", hanging).await.unwrap_err();
        assert!(
            error
                .message()
                .contains("cannot put a: no answer within 30s")
        );
        assert!(tries.get() >= 4, "{}", tries.get());
        assert!(began.elapsed() <= RETRY.retry_limit + RETRY.request_timeout);

        let began = Instant::now();
        let failing = || async { Err::<(), _>(Error::unavailable("503").hint("Wait.")) };
        let error = RETRY.run("put a", failing).await.unwrap_err();
        assert_eq!(error.to_string(), "503 (given up after 2m). Wait.");
        assert_eq!(began.elapsed(), RETRY.retry_limit);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_with_much_data_has_time_for_it() {
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(90)).await;
            Ok(7)
        };
        let retry = RETRY.with_data(34 << 20);
        assert_eq!(retry.run("put a", slow).await.unwrap(), 7);
        assert!(RETRY.run("put a", slow).await.is_err());
    }
}
