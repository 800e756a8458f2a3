//! Tries a request to the store again while that makes sense: with backoff and jitter, each try
//! with its own time limit, all of them together within one bound.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};

use crate::error::{Error, Result};

const DELAY_FIRST: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    pub request_timeout: Duration,
    pub retry_limit: Duration,
}

impl Retry {
    /// Runs `request` until it succeeds, fails for good, or `retry_limit` is over.
    pub async fn run<T, F, Fut>(&self, what: &str, mut request: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let timeout = self.request_timeout;
        let last: Mutex<Option<Error>> = Mutex::new(None);
        let attempt = || {
            let request = request();
            async move {
                tokio::time::timeout(timeout, request)
                    .await
                    .unwrap_or_else(|_| {
                        Err(Error::timeout(format!(
                            "cannot {what}: no answer within {}",
                            humantime::format_duration(timeout)
                        )))
                    })
            }
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(DELAY_FIRST)
            .with_max_delay(DELAY_MAX)
            .with_jitter()
            .without_max_times();
        let tries =
            attempt
                .retry(backoff)
                .when(Error::is_retryable)
                .notify(|error: &Error, delay| {
                    tracing::debug!(%error, ?delay, "trying again");
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
                });
        let outcome = tokio::time::timeout(self.retry_limit, tries).await;
        let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.unwrap_or_else(|_| {
            let limit = humantime::format_duration(self.retry_limit);
            Err(match last {
                Some(error) => {
                    let hint = error.hint_text().map(str::to_owned);
                    let given_up = Error::new(
                        error.kind(),
                        format!("{} (given up after {limit})", error.message()),
                    );
                    match hint {
                        Some(hint) => given_up.hint(hint),
                        None => given_up,
                    }
                }
                None => Error::timeout(format!("cannot {what}: no answer within {limit}")),
            })
        })
    }
}
