//! Finds out, before anything is trusted to a store, whether it can do what a repository needs:
//! write, create what nobody else created meanwhile, list, read, read a part, delete.
//!
//! Everything it puts lies under `probes/` and is deleted again; what a probe left that was killed,
//! a later one deletes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use object_store::path::Path;
use uuid::Uuid;

use super::{layout, store::Store};
use crate::{
    clock,
    error::{Error, Result},
};

const RACERS: usize = 8;
/// A store that looks first and writes then may have one winner by chance.
const RACES: usize = 3;
/// ... and one that does not answer now and then is asked more often.
const RACES_MAX: usize = 8;
const PAUSE: Duration = Duration::from_millis(200);
/// A probe that is older has ended, however it did.
const OLD: Duration = Duration::from_secs(3600);
const CONTENT: &[u8] = b"seawall probe ";

/// One line says everything that the store at `url` lacks.
pub(super) async fn probe(store: &Store, url: &str) -> Result<()> {
    let begun = Instant::now();
    let now = clock::now_unix_ms();
    let folder = layout::probe(now, Uuid::new_v4());
    let mut keys = Vec::new();
    let outcome = match try_out(store, &folder, &mut keys).await {
        // Also what a put left whose answer was lost. The first error counts.
        Err(error) => {
            if let Err(left) = store.delete(keys).await {
                tracing::warn!("what a probe put stays under {folder}: {left}");
            }
            Err(error)
        }
        Ok(lacks) => finish(store, keys, lacks).await,
    };
    outcome.map_err(|e| e.context(format_args!("repository {url} cannot be used")))?;
    delete_old(store, now).await?;
    tracing::debug!(took = ?begun.elapsed(), "the repository's store can do what is needed");
    Ok(())
}

/// What the store lacks, apart from deleting. `keys`: what may have been put.
async fn try_out(store: &Store, folder: &Path, keys: &mut Vec<Path>) -> Result<Vec<Error>> {
    let mut won: Vec<Path> = Vec::new();
    let mut content = Bytes::new();
    while won.len() < RACES {
        let key = folder.clone().join(format!("race-{}", keys.len()));
        keys.push(key.clone());
        match race(store, &key).await {
            Ok(winner) => content = winner,
            // Nobody knows what happened there: another race, in another place.
            Err(e) if e.is_retryable() && keys.len() < RACES_MAX => {
                tokio::time::sleep(PAUSE * keys.len() as u32).await;
                continue;
            }
            Err(e) => return Err(e),
        }
        won.push(key);
    }
    let mut lacks = Vec::new();
    for outcome in [
        check_get(store, &won[RACES - 1], &content).await,
        check_range(store, &won[RACES - 1], &content).await,
        check_list(store, folder, &won).await,
    ] {
        match outcome {
            Err(e) if e.is_retryable() => return Err(e),
            other => lacks.extend(other.err()),
        }
    }
    Ok(lacks)
}

/// The content that the one winner of a race has put.
async fn race(store: &Store, key: &Path) -> Result<Bytes> {
    let contents: Vec<Bytes> = (0..RACERS)
        .map(|racer| Bytes::from([CONTENT, racer.to_string().as_bytes()].concat()))
        .collect();
    let puts = contents
        .iter()
        .map(|content| store.create_once(key, content.clone()));
    let outcomes = join_all(puts).await;
    let winners: Vec<&Bytes> = contents
        .iter()
        .zip(&outcomes)
        .filter_map(|(content, outcome)| matches!(outcome, Ok(true)).then_some(content))
        .collect();
    let Some(winner) = winners.first() else {
        let failed = outcomes.into_iter().find_map(std::result::Result::err);
        return Err(failed.unwrap_or_else(|| {
            Error::refused(format!(
                "a put of the new object {key} is told that it exists already"
            ))
        }));
    };
    if winners.len() > 1 {
        return Err(not_exclusive(&format!(
            "{} of {RACERS} racing puts of one new object succeeded",
            winners.len()
        )));
    }
    if store.create_once(key, Bytes::from_static(CONTENT)).await? {
        return Err(not_exclusive("a put of an object that was there succeeded"));
    }
    Ok((*winner).clone())
}

fn not_exclusive(what: &str) -> Error {
    Error::refused(format!("its create-only puts do not hold: {what}")).hint(
        "Backups could overwrite each other there. A bucket of Ceph's gateway must not have versioning.",
    )
}

async fn check_get(store: &Store, key: &Path, content: &Bytes) -> Result<()> {
    if store.get(key, content.len() as u64).await? == *content {
        return Ok(());
    }
    Err(not_exclusive("another put than the one that won is there"))
}

async fn check_range(store: &Store, key: &Path, content: &Bytes) -> Result<()> {
    let range = 3..content.len() - 2;
    let part = store
        .get_range(key, range.start as u64..range.end as u64)
        .await?;
    if part == content.slice(range) {
        return Ok(());
    }
    Err(Error::refused("it gives other bytes than those asked for"))
}

async fn check_list(store: &Store, folder: &Path, keys: &[Path]) -> Result<()> {
    let listed = store.list(folder).await?;
    let is_listed = |key: &Path| listed.iter().any(|object| object.key == *key);
    let missing = keys.iter().filter(|key| !is_listed(key)).count();
    let folders = store.folder(&layout::probes()).await?.folders;
    let is_there = folders
        .iter()
        .any(|name| Some(name.as_str()) == folder.filename());
    if missing == 0 && is_there {
        return Ok(());
    }
    Err(Error::refused(format!(
        "it does not list what was put: {missing} of {} objects are missing",
        keys.len()
    )))
}

/// Deletes the probe's objects, and says everything that is lacking.
async fn finish(store: &Store, keys: Vec<Path>, mut lacks: Vec<Error>) -> Result<()> {
    let first = keys.first().cloned();
    match store.delete(keys).await {
        Err(e) if e.is_retryable() => return Err(e),
        other => lacks.extend(other.err()),
    }
    if let Some(first) = first
        && lacks.is_empty()
        && store.exists(&first).await?
    {
        lacks.push(Error::refused("it shows an object that was deleted"));
    }
    let mut lacks = lacks.into_iter();
    let Some(first) = lacks.next() else {
        return Ok(());
    };
    let hint = first.hint_text().unwrap_or_default().to_owned();
    let others: String = lacks.map(|e| format!("; {}", e.message())).collect();
    Err(Error::new(first.kind(), format!("{}{others}", first.message())).hint(hint))
}

/// What probes left that were killed. Nothing else under the prefix is touched.
async fn delete_old(store: &Store, now: u64) -> Result<()> {
    let old_ms = u64::try_from(OLD.as_millis()).unwrap_or(u64::MAX);
    let listed = store.list(&layout::probes()).await?;
    let is_old = |key: &Path| began(key).is_some_and(|began| began.saturating_add(old_ms) < now);
    let old: Vec<Path> = listed
        .into_iter()
        .map(|object| object.key)
        .filter(is_old)
        .collect();
    store.delete(old).await
}

/// When the probe began that put an object; `None`: no probe of ours did.
fn began(key: &Path) -> Option<u64> {
    let mut parts = key.prefix_match(&layout::probes())?;
    let (folder, name) = (parts.next()?, parts.next()?);
    let (began, id) = folder.as_ref().split_once('.')?;
    let race = name.as_ref().strip_prefix("race-")?;
    let is_ours = parts.next().is_none()
        && began.len() == 20
        && Uuid::try_parse(id).is_ok()
        && race.parse::<usize>().is_ok_and(|race| race < RACES_MAX);
    began.parse().ok().filter(|_| is_ours)
}
