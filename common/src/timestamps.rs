//! Timestamps for a program that needs many: callers that ask at the same moment share one request.
//!
//! What each is given is greater than every timestamp that anybody was given before it asked (I1):
//! a request leaves after all those that it serves have asked, and the group answers it with numbers
//! that it takes after the request has come in.

use std::{collections::VecDeque, ops::RangeInclusive, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt as _};
use seawall_proto::v1::{FetchTimestampRequest, timestamps_client::TimestampsClient};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use crate::{
    coordinators::Coordinators,
    error::{Error, Result},
    tls::Dialer,
};

/// The longest range that one request may take; the group refuses a longer one.
pub const RANGE_MAX: u32 = 1_000_000;
/// Callers that wait for their request to leave; more are held up.
const WAITING_MAX: usize = 64 * 1024;
/// A second request need not wait for the answer to the first. With more the batches only get
/// smaller.
const UNDER_WAY_MAX: usize = 2;
const PAUSE: Duration = Duration::from_millis(50);

/// Who gives ranges of timestamps.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The first of `count` contiguous timestamps, greater than all that were given before.
    async fn fetch(&self, count: u32) -> Result<u64>;
}

/// Cheap to clone; clones share their requests.
#[derive(Clone)]
pub struct Timestamps {
    asks: mpsc::Sender<Ask>,
}

struct Ask {
    count: u32,
    answer: oneshot::Sender<Result<u64>>,
}

impl Timestamps {
    /// From the coordinators at these addresses (`https://host:port`), which are connected to when
    /// the first timestamp is asked for. While none of them can answer, an election for example,
    /// they are asked again for as long as `patience`.
    pub fn of_coordinators(
        addresses: &[String],
        dialer: &Dialer,
        patience: Duration,
    ) -> Result<Self> {
        let coordinators = Coordinators::new(addresses, dialer)?;
        Ok(Self::from_source(Arc::new(Group {
            coordinators,
            patience,
        })))
    }

    pub fn from_source(source: Arc<dyn Source>) -> Self {
        let (asks, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(merge(source, waiting));
        Self { asks }
    }

    /// A timestamp that is greater than every one that was given before this call.
    pub async fn fetch(&self) -> Result<u64> {
        self.fetch_range(1).await.map(|range| *range.start())
    }

    /// So many of them, without a gap.
    pub async fn fetch_range(&self, count: u32) -> Result<RangeInclusive<u64>> {
        if count == 0 || count > RANGE_MAX {
            return Err(Error::invalid(format!(
                "cannot give {count} timestamps at once, between 1 and {RANGE_MAX}"
            )));
        }
        let (answer, answered) = oneshot::channel();
        let over =
            || Error::unavailable("nobody fetches timestamps any more: its runtime has ended");
        let ask = Ask { count, answer };
        self.asks.send(ask).await.map_err(|_| over())?;
        let first = answered.await.map_err(|_| over())??;
        Ok(first..=first + u64::from(count) - 1)
    }
}

/// Sends one request for all that wait, and the next while it is under way.
async fn merge(source: Arc<dyn Source>, mut asks: mpsc::Receiver<Ask>) {
    let mut waiting = VecDeque::new();
    let mut under_way = FuturesUnordered::new();
    let mut is_open = true;
    while is_open || !waiting.is_empty() || !under_way.is_empty() {
        if under_way.len() < UNDER_WAY_MAX {
            // Whoever has asked by now shares the next request.
            while waiting.len() < WAITING_MAX
                && let Ok(ask) = asks.try_recv()
            {
                waiting.push_back(ask);
            }
            if let Some(batch) = next_batch(&mut waiting) {
                under_way.push(serve(&*source, batch));
                continue;
            }
        }
        tokio::select! {
            ask = asks.recv(), if is_open && under_way.len() < UNDER_WAY_MAX => {
                is_open = ask.is_some();
                waiting.extend(ask);
            }
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
        }
    }
}

/// Those that wait, as many as one request can serve. Whoever has gone away is left out.
fn next_batch(waiting: &mut VecDeque<Ask>) -> Option<Vec<Ask>> {
    let mut batch = Vec::new();
    let mut count = 0;
    while let Some(ask) = waiting.front() {
        if !ask.answer.is_closed() {
            count += ask.count;
            if count > RANGE_MAX {
                break;
            }
            batch.extend(waiting.pop_front());
        } else {
            waiting.pop_front();
        }
    }
    (!batch.is_empty()).then_some(batch)
}

async fn serve(source: &dyn Source, batch: Vec<Ask>) {
    let count = batch.iter().map(|ask| ask.count).sum();
    match source.fetch(count).await {
        Ok(mut first) => {
            for ask in batch {
                // Whoever has gone away leaves a gap, which is nobody's.
                let _ = ask.answer.send(Ok(first));
                first += u64::from(ask.count);
            }
        }
        Err(error) => {
            for ask in batch {
                let _ = ask.answer.send(Err(error.clone()));
            }
        }
    }
}

struct Group {
    coordinators: Coordinators,
    patience: Duration,
}

#[async_trait]
impl Source for Group {
    /// Asking again does no harm: numbers whose answer was lost are given to nobody.
    async fn fetch(&self, count: u32) -> Result<u64> {
        let until = Instant::now() + self.patience;
        loop {
            let request = FetchTimestampRequest { count };
            let asked = self
                .coordinators
                .ask(|channel| async move { TimestampsClient::new(channel).fetch(request).await });
            match asked.await {
                Ok(given) if given.count == count => return Ok(given.first),
                Ok(given) => {
                    return Err(Error::internal(format!(
                        "{count} timestamps were asked for, and {} were given",
                        given.count
                    )));
                }
                Err(e) if e.is_retryable() && Instant::now() + PAUSE < until => sleep(PAUSE).await,
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;

    use super::*;

    /// Counts up; answers a request when it is allowed to.
    struct Counting {
        last: Mutex<u64>,
        asked: Mutex<Vec<u32>>,
        allowed: Semaphore,
    }

    impl Counting {
        fn new(allowed: usize) -> Arc<Self> {
            Arc::new(Self {
                last: Mutex::new(0),
                asked: Mutex::default(),
                allowed: Semaphore::new(allowed),
            })
        }

        fn asked(&self) -> Vec<u32> {
            self.asked.lock().unwrap().clone()
        }
    }

    #[async_trait]
    impl Source for Counting {
        async fn fetch(&self, count: u32) -> Result<u64> {
            self.asked.lock().unwrap().push(count);
            self.allowed.acquire().await.unwrap().forget();
            let mut last = self.last.lock().unwrap();
            let first = *last + 1;
            *last += u64::from(count);
            if first > 1_000_000_000 {
                return Err(Error::exhausted("no more"));
            }
            Ok(first)
        }
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn callers_that_wait_share_a_request_and_nobody_gets_what_another_got() {
        let source = Counting::new(0);
        let timestamps = Timestamps::from_source(source.clone());
        let ask = |count| {
            let timestamps = timestamps.clone();
            tokio::spawn(async move { timestamps.fetch_range(count).await.unwrap() })
        };
        // Two are under way; the others have to wait, and go together.
        let mut asks = Vec::new();
        for number in 1..=2 {
            asks.push(ask(1));
            until(|| source.asked().len() == number).await;
        }
        asks.extend((1..=100).map(ask));
        tokio::task::yield_now().await;
        source.allowed.add_permits(100);
        let mut given = Vec::new();
        for ask in asks {
            given.extend(ask.await.unwrap());
        }
        given.sort_unstable();
        let all: Vec<u64> = (1..=2 + 5050).collect();
        assert_eq!(given, all, "a gap, or one that was given twice");
        let asked = source.asked();
        assert!(asked.len() <= 4, "{asked:?}");
    }

    #[tokio::test]
    async fn i1_what_is_asked_for_later_is_greater() {
        let timestamps = Timestamps::from_source(Counting::new(usize::MAX >> 4));
        let mut last = 0;
        for count in [1, 3, 1, RANGE_MAX, 1] {
            let range = timestamps.fetch_range(count).await.unwrap();
            assert!(*range.start() > last, "{range:?} after {last}");
            last = *range.end();
        }
    }

    #[tokio::test]
    async fn no_request_is_longer_than_the_group_gives() {
        let source = Counting::new(0);
        let timestamps = Timestamps::from_source(source.clone());
        let asks: Vec<_> = (0..5)
            .map(|_| {
                let timestamps = timestamps.clone();
                tokio::spawn(async move { timestamps.fetch_range(RANGE_MAX - 1).await })
            })
            .collect();
        until(|| source.asked().len() == 2).await;
        source.allowed.add_permits(10);
        for ask in asks {
            ask.await.unwrap().unwrap();
        }
        assert_eq!(source.asked(), [RANGE_MAX - 1; 5]);
        for count in [0, RANGE_MAX + 1] {
            assert!(timestamps.fetch_range(count).await.is_err());
        }
    }

    #[tokio::test]
    async fn who_has_gone_away_is_not_fetched_for_and_an_error_reaches_all() {
        let source = Counting::new(0);
        let timestamps = Timestamps::from_source(source.clone());
        let ask = || {
            let timestamps = timestamps.clone();
            tokio::spawn(async move { timestamps.fetch().await })
        };
        // Two are under way, the rest has to wait.
        let mut first = Vec::new();
        for number in 1..=2 {
            first.push(ask());
            until(|| source.asked().len() == number).await;
        }
        let gone = ask();
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        *source.last.lock().unwrap() = 1_000_000_000;
        let rest = [ask(), ask(), ask()];
        source.allowed.add_permits(10);
        for ask in first.into_iter().chain(rest) {
            assert!(ask.await.unwrap().is_err());
        }
        assert_eq!(source.asked().iter().sum::<u32>(), 5);
    }
}
