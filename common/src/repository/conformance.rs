//! What every store must do for a repository, checked on a real one: the same checks for a
//! directory and for each cloud. For tests only; everything is left as it was found.

use bytes::Bytes;
use futures::future::join_all;
use object_store::path::Path;

use super::{RepositoryConfig, store::Store};
use crate::error::{Error, ErrorKind, Result};

/// Not a multiple of anything, and as large as an object of ours can be.
const LARGE: usize = (34 << 20) + 77;
/// More than a page of any listing.
const MANY: usize = 1100;
const AT_ONCE: usize = 32;

/// Checks the store at `config`, below a prefix of its own. The error says what it does wrong.
pub async fn conformance(config: &RepositoryConfig) -> Result<()> {
    let store = Store::open(config, true).await?;
    let ground = Path::from("conformance");
    ensure(!store.has_any(&ground).await?, "the prefix is not empty")?;
    creates_and_never_overwrites(&store, &ground).await?;
    reads_what_was_put(&store, &ground).await?;
    lists_everything(&store, &ground).await?;
    has_one_winner(&store, &ground).await?;
    let left = store.list(&ground).await?;
    store
        .delete(left.into_iter().map(|o| o.key).collect())
        .await?;
    ensure(!store.has_any(&ground).await?, "deleted objects are listed")
}

/// Puts one object, reads it back, and leaves it.
pub async fn put_and_read_back(config: &RepositoryConfig, bytes: usize) -> Result<()> {
    let store = Store::open(config, true).await?;
    let key = Path::from(format!("conformance/put-{bytes}"));
    let noise = noise(bytes);
    store.put_data(&key, noise.clone()).await?;
    let back = store.get(&key, bytes as u64).await?;
    ensure(back == noise, "an object comes back otherwise")
}

fn noise(bytes: usize) -> Bytes {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    Bytes::from(noise)
}

fn ensure(holds: bool, otherwise: &str) -> Result<()> {
    match holds {
        true => Ok(()),
        false => Err(Error::internal(format!("conformance: {otherwise}"))),
    }
}

fn ensure_kind<T>(outcome: Result<T>, kind: ErrorKind, what: &str) -> Result<()> {
    match outcome {
        Err(e) if e.kind() == kind => Ok(()),
        Err(e) => Err(e.context(format_args!("conformance: {what} is not {kind:?}"))),
        Ok(_) => ensure(false, what),
    }
}

async fn creates_and_never_overwrites(store: &Store, ground: &Path) -> Result<()> {
    let key = ground.clone().join("created");
    let one = Bytes::from_static(b"one");
    ensure(
        !store.exists(&key).await?,
        "an object is there before it is put",
    )?;
    ensure_kind(
        store.get(&key, 9).await,
        ErrorKind::NotFound,
        "a missing object",
    )?;
    store.put_create(&key, one.clone()).await?;
    store.put_create(&key, one.clone()).await?;
    for other in ["two", "on", "longer", ""] {
        let outcome = store
            .put_create(&key, Bytes::from_static(other.as_bytes()))
            .await;
        ensure_kind(outcome, ErrorKind::Conflict, "a put of another content")?;
    }
    let is_new = store
        .put_if_absent(&key, Bytes::from_static(b"two"))
        .await?;
    ensure(!is_new, "a put where something lies is new")?;
    ensure(
        store.get(&key, 3).await? == one,
        "an object was overwritten",
    )?;
    ensure(
        store.exists(&key).await?,
        "an object is not there after it was put",
    )?;
    store
        .delete(vec![key.clone(), key.clone().join("no")])
        .await?;
    ensure(!store.exists(&key).await?, "a deleted object is there")?;
    ensure(
        store.put_if_absent(&key, one).await?,
        "a deleted object is there",
    )?;
    store.delete(vec![key]).await
}

async fn reads_what_was_put(store: &Store, ground: &Path) -> Result<()> {
    let key = ground.clone().join("large");
    let noise = noise(LARGE);
    store.put_data(&key, noise.clone()).await?;
    let end = LARGE as u64;
    ensure(
        store.get(&key, end).await? == noise,
        "a large object comes back otherwise",
    )?;
    for range in [0..1, 0..end, end - 9..end, (8 << 20) - 1..(16 << 20) + 1] {
        let part = store.get_data_range(&key, range.clone()).await?;
        let expected = noise.slice(range.start as usize..range.end as usize);
        ensure(part == expected, "a range comes back otherwise")?;
    }
    for range in [end - 1..end + 1, end + 5..end + 6] {
        let outcome = store.get_range(&key, range).await;
        ensure_kind(outcome, ErrorKind::Corrupt, "a range behind the end")?;
    }
    ensure_kind(
        store.get(&key, end - 1).await,
        ErrorKind::Corrupt,
        "a too large object",
    )?;
    let missing = store.get_range(&ground.clone().join("no"), 0..1).await;
    ensure_kind(missing, ErrorKind::NotFound, "a range of a missing object")
}

async fn lists_everything(store: &Store, ground: &Path) -> Result<()> {
    let many = ground.clone().join("many");
    let keys: Vec<Path> = (0..MANY)
        .map(|i| many.clone().join(format!("{i:05}")))
        .collect();
    for batch in keys.chunks(AT_ONCE) {
        let put = |key| store.put_create(key, Bytes::from_static(b"x"));
        join_all(batch.iter().map(put))
            .await
            .into_iter()
            .collect::<Result<()>>()?;
    }
    // Names that only begin like the prefix are not below it.
    let beside = ["many-", "many.2", "manyx"].map(|name| ground.clone().join(name).join("x"));
    for key in &beside {
        store.put_create(key, Bytes::from_static(b"xy")).await?;
    }
    let listed = store.list(&many).await?;
    let is_right = listed.len() == MANY
        && listed
            .iter()
            .zip(&keys)
            .all(|(object, key)| object.key == *key && object.bytes == 1);
    ensure(is_right, "a listing is not what was put, in order")?;
    let all = store.list(ground).await?;
    ensure(
        all.is_sorted_by(|a, b| a.key < b.key),
        "a deep listing is not in order",
    )?;
    let mut folder = store.folder(ground).await?;
    folder.folders.sort();
    ensure(
        folder.folders == ["many", "many-", "many.2", "manyx"],
        "folders are missing",
    )?;
    ensure(
        folder.objects == ["large"],
        "objects of a folder are missing",
    )?;
    let nothing = ground.clone().join("nothing");
    ensure(
        store.list(&nothing).await?.is_empty(),
        "there is something in nothing",
    )?;
    ensure(
        store.folder(&nothing).await?.folders.is_empty(),
        "nothing has folders",
    )?;
    store.delete(keys).await?;
    ensure(!store.has_any(&many).await?, "deleted objects are listed")
}

async fn has_one_winner(store: &Store, ground: &Path) -> Result<()> {
    let key = ground.clone().join("raced");
    let contents: Vec<Bytes> = (0..8).map(|i| Bytes::from(vec![i; 1 << 20])).collect();
    let puts = contents
        .iter()
        .map(|content| store.put_create(&key, content.clone()));
    let outcomes = join_all(puts).await;
    let won: Vec<_> = outcomes
        .iter()
        .zip(&contents)
        .filter(|(o, _)| o.is_ok())
        .collect();
    ensure(won.len() == 1, "a race has not one winner")?;
    for outcome in outcomes.iter().filter(|outcome| outcome.is_err()) {
        ensure_kind(outcome.clone(), ErrorKind::Conflict, "a lost race")?;
    }
    ensure(
        store.get(&key, 1 << 20).await? == won[0].1,
        "the winner's content is not there",
    )
}
