//! How long a group answers nobody after a kill -9 of its leader.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;

/// A new request is sent this often, to the survivors in turn: so well the time is known.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// One request waits for so long.
const ASK_LIMIT: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(30);

/// Asks one member for something that only a quorum can do, durably.
pub trait Probe: Clone + Send + Sync + 'static {
    fn ask(&self) -> impl Future<Output = Result<()>> + Send;
}

/// A group of three whose leader can be killed.
pub trait Contender {
    type Probe: Probe;

    fn leader(&mut self) -> impl Future<Output = Result<usize>>;

    /// One for each of the others.
    fn probes(&self, without: usize) -> impl Future<Output = Result<Vec<Self::Probe>>>;

    fn kill(&mut self, member: usize) -> Result<()>;

    /// Starts it again, and waits until it follows.
    fn bring_back(&mut self, member: usize) -> impl Future<Output = Result<()>>;
}

/// Seconds from the kill to the first answer to a request that was sent after it.
pub async fn once(group: &mut impl Contender) -> Result<f64> {
    let leader = group.leader().await?;
    let probes = group.probes(leader).await?;
    for probe in &probes {
        // As clients that have been at work: connected to all.
        probe.ask().await?;
    }
    let killed = Instant::now();
    group.kill(leader)?;
    let answered = first_answer(&probes).await;
    let seconds = killed.elapsed().as_secs_f64();
    answered?;
    group.bring_back(leader).await?;
    Ok(seconds)
}

async fn first_answer<P: Probe>(probes: &[P]) -> Result<()> {
    let mut asked = JoinSet::new();
    let mut tick = tokio::time::interval(ASK_EVERY);
    let until = Instant::now() + LIMIT;
    let mut turns = probes.iter().cycle();
    let mut last = None;
    while Instant::now() < until {
        tokio::select! {
            _ = tick.tick() => {
                let probe = turns.next().context("nobody is left")?.clone();
                asked.spawn(tokio::time::timeout(ASK_LIMIT, async move { probe.ask().await }));
            }
            Some(ended) = asked.join_next() => match ended? {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(e)) => last = Some(e),
                Err(_) => {}
            },
        }
    }
    bail!("nobody has answered within {LIMIT:?}: {last:?}")
}
