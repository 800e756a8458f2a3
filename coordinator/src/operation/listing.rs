//! Brings the catalogue up to date for somebody who looks at it.
//!
//! A store that is away is tried for longer than anybody looks at a screen, and a large shard on a
//! slow store takes its time: so whoever lists waits for a limited time, and the reading goes on
//! without him. All who list a shard meanwhile wait for the same reading.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use seawall_common::{Error, Result, ids::ShardId};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{Coordination, refresh::refresh};

/// Whoever lists waits so long for the repository, and then is shown what is known.
const PATIENCE: Duration = Duration::from_secs(20);
/// What was read a moment ago is new enough.
const FRESH_FOR: Duration = Duration::from_secs(2);
const READ_AT_ONCE: usize = 8;

/// The readings that are under way, or were done a moment ago.
#[derive(Default)]
pub struct Readings(Mutex<BTreeMap<ShardId, Reading>>);

/// When it ended, and with what; nothing yet.
type Reading = watch::Receiver<Option<(Instant, Result<()>)>>;

impl Readings {
    fn of(&self, context: &Arc<Coordination>, shard: &ShardId) -> Reading {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readings.retain(|_, reading| may_be_shared(reading));
        let begin = || begin(context.clone(), shard.clone());
        readings.entry(shard.clone()).or_insert_with(begin).clone()
    }
}

fn may_be_shared(reading: &Reading) -> bool {
    let is_under_way = reading.has_changed().is_ok();
    match &*reading.borrow() {
        Some((ended, Ok(()))) => ended.elapsed() < FRESH_FOR,
        Some((_, Err(_))) => false,
        None => is_under_way,
    }
}

fn begin(context: Arc<Coordination>, shard: ShardId) -> Reading {
    let (ended, reading) = watch::channel(None);
    tokio::spawn(async move {
        let outcome = refresh(&context, &shard).await;
        ended.send_replace(Some((Instant::now(), outcome)));
    });
    reading
}

/// Reads shards of the repository, for all of them together no longer than somebody waits. Answers
/// which were not read, and why: of those the catalogue shows what was known before.
pub async fn bring_up_to_date(
    context: &Arc<Coordination>,
    shards: impl IntoIterator<Item = ShardId>,
) -> Vec<(ShardId, Error)> {
    let until = Instant::now() + PATIENCE;
    let waits = shards.into_iter().map(async |shard| {
        let reading = context.readings.of(context, &shard);
        let read = timeout_at(until, outcome(reading)).await;
        let why = read.unwrap_or_else(|_| Err(late())).err()?;
        tracing::warn!(%shard, "showing what is known, because the repository was not read: {why}");
        Some((shard, why))
    });
    let waits = futures::stream::iter(waits).buffer_unordered(READ_AT_ONCE);
    waits.filter_map(std::future::ready).collect().await
}

async fn outcome(mut reading: Reading) -> Result<()> {
    let ended = reading.wait_for(Option::is_some).await;
    match ended.as_deref() {
        Ok(Some((_, outcome))) => outcome.clone(),
        _ => Err(Error::internal("reading it ended badly")),
    }
}

fn late() -> Error {
    let seconds = PATIENCE.as_secs();
    Error::unavailable(format!("it has not been read within {seconds} seconds"))
}
