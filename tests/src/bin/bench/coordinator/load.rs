//! Callers that call again as soon as they are answered, and how long they waited.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{task::JoinSet, time::Instant};

/// What is thrown away at the beginning: connections are made, caches filled.
const WARM_UP: Duration = Duration::from_millis(500);

/// One client task.
pub trait Caller: Send + 'static {
    /// Asks once, and has the answer.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// What all callers together did in a while.
pub struct Load {
    seconds: f64,
    /// Of every call, sorted, in microseconds.
    waited_us: Vec<u32>,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        self.waited_us.len() as f64 / self.seconds
    }

    /// Milliseconds that all calls but one in so many waited at most: 0.99 is one in a hundred.
    pub fn waited_ms(&self, part: f64) -> f64 {
        let last = self.waited_us.len().saturating_sub(1);
        let index = (last as f64 * part).round() as usize;
        self.waited_us
            .get(index)
            .map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
    }
}

/// Lets them call for so long. One call that fails fails all: nothing is compared then.
pub async fn run<C: Caller>(callers: Vec<C>, time: Duration) -> Result<Load> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + time;
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        tasks.spawn(async move {
            let mut waited_us = Vec::new();
            loop {
                let asked = Instant::now();
                if asked >= end {
                    return anyhow::Ok(waited_us);
                }
                caller.call().await?;
                if asked >= begin {
                    let us = asked.elapsed().as_micros();
                    waited_us.push(u32::try_from(us).unwrap_or(u32::MAX));
                }
            }
        });
    }
    let mut waited_us = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let of_one = ended.context("a caller has died")?;
        waited_us.append(&mut of_one.context("a call failed")?);
    }
    waited_us.sort_unstable();
    Ok(Load {
        // What was begun before the end was waited for.
        seconds: begin.elapsed().as_secs_f64(),
        waited_us,
    })
}

/// The one in the middle, by what is done in a second.
pub fn median(mut loads: Vec<Load>) -> Result<Load> {
    loads.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
    let middle = loads.len() / 2;
    (middle < loads.len())
        .then(|| loads.swap_remove(middle))
        .context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_waited() {
        let load = Load {
            seconds: 2.0,
            waited_us: (1..=1001).map(|n| n * 1000).collect(),
        };
        assert_eq!(load.per_second(), 500.5);
        assert_eq!(load.waited_ms(0.5), 501.0);
        assert_eq!(load.waited_ms(0.99), 991.0);
        assert_eq!(load.waited_ms(1.0), 1001.0);
    }
}
