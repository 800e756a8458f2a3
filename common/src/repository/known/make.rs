//! Makes the indexes that are missing: of a complete backup from its lists, of an attempt that was
//! given up from the sealed ends of its packs. Whatever cannot be read is left out: then its chunks
//! are sent again, and nothing is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use super::{IndexFile, IndexIdentity, Reference, Sorter, file};
use crate::{
    error::{Error, ErrorKind, Result},
    ids::{BackupName, ShardId},
    repository::{
        header::Repository,
        keys::DataKey,
        layout,
        list::{Record, Records},
        manifest::{PackOrigin, PackRecord, load_key, read_manifest},
        object::{ObjectKind, PREFIX_BYTES, Prefix},
        pack::{PACK_BYTES_MAX, PackIndex, StoredChunk, get_tail},
        seal::Sealer,
    },
};

/// Complete backups whose lists are read for one backup: each of them is a full one.
const MADE_FROM_LISTS_MAX: usize = 2;
const PACKS_AT_ONCE: usize = 8;

/// Makes what is missing for `references`, and removes whatever else lies in `directory`.
/// `keys`: of the sessions that this agent wrote itself.
pub(in super::super) async fn make_missing(
    repository: &Repository,
    shard: &ShardId,
    directory: &Path,
    references: &[Reference],
    keys: &BTreeMap<Uuid, DataKey>,
) -> Result<()> {
    remove_others(directory, references)?;
    let can_read = !repository.is_encrypting() || repository.identities().is_some();
    let mut from_lists = 0;
    for reference in references {
        let identity = IndexIdentity::of(repository.uuid(), shard, reference);
        let (at, of) = (directory.to_owned(), identity.clone());
        let there = on_thread(move || IndexFile::open_or_discard(&at, &of)).await?;
        if there.is_some() {
            continue;
        }
        let made = match &reference.manifest_hash {
            None => from_packs(repository, &identity, directory, keys).await,
            Some(hash) if can_read && from_lists < MADE_FROM_LISTS_MAX => {
                from_lists += 1;
                from_lists_of(repository, &identity, hash, directory).await
            }
            Some(_) => continue,
        };
        match made {
            Ok(()) => {}
            // The state directory, not the repository: nothing good comes of going on.
            Err(e) if e.kind() == ErrorKind::Exhausted => return Err(e),
            Err(e) => tracing::warn!("nothing of {} is referred to: {e}", reference.name),
        }
    }
    Ok(())
}

fn remove_others(directory: &Path, references: &[Reference]) -> Result<()> {
    let named: BTreeSet<&str> = references.iter().map(|r| r.name.as_str()).collect();
    let failed = |e: std::io::Error| Error::io("tidy up", directory, &e);
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| named.contains(name)) {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

async fn from_lists_of(
    repository: &Repository,
    identity: &IndexIdentity,
    manifest_hash: &str,
    directory: &Path,
) -> Result<()> {
    let name = &identity.backup;
    let manifest = read_manifest(repository, &identity.shard, name, Some(manifest_hash)).await?;
    let mut sorter = Sorter::new(directory);
    for part in &manifest.header.lists {
        let payload = manifest.get_list(repository, part).await?;
        sorter = on_thread(move || {
            for record in Records::new(&payload) {
                if let Record::Chunks(chunks) = record.map_err(Error::corrupt)? {
                    for chunk in &chunks {
                        if sorter.add(chunk) {
                            sorter.spill()?;
                        }
                    }
                }
            }
            Ok(sorter)
        })
        .await?;
    }
    write(directory, identity, manifest.packs, sorter).await
}

/// A pack whose end was read.
struct ReadPack {
    record: PackRecord,
    index: PackIndex,
}

async fn from_packs(
    repository: &Repository,
    identity: &IndexIdentity,
    directory: &Path,
    keys: &BTreeMap<Uuid, DataKey>,
) -> Result<()> {
    let (shard, name) = (&identity.shard, &identity.backup);
    let folder = layout::backup_packs(shard, name);
    let keys_folder = layout::keys(shard, name);
    let listed = repository.store().list(&folder).await?;
    let packs = listed.into_iter().filter_map(|object| {
        let id = Uuid::try_parse(object.key.filename()?).ok()?;
        let is_pack = !object.key.prefix_matches(&keys_folder);
        is_pack.then_some((id, object.bytes))
    });
    let keys = SessionKeys::new(keys.clone());
    let mut read = futures::stream::iter(packs)
        .map(|(id, bytes)| read_pack(repository, identity, &keys, id, bytes))
        .buffer_unordered(PACKS_AT_ONCE);
    let mut sorter = Sorter::new(directory);
    let mut records = Vec::new();
    while let Some(pack) = read.try_next().await? {
        let Some(pack) = pack else { continue };
        let number = records.len() as u32;
        records.push(pack.record);
        sorter = on_thread(move || {
            for chunk in chunks_of(&pack.index, number) {
                if sorter.add(&chunk) {
                    sorter.spill()?;
                }
            }
            Ok(sorter)
        })
        .await?;
    }
    drop(read);
    write(directory, identity, records, sorter).await
}

fn chunks_of(index: &PackIndex, pack: u32) -> impl Iterator<Item = StoredChunk> {
    index
        .chunks
        .iter()
        .enumerate()
        .map(move |(place, chunk)| StoredChunk {
            id: chunk.id,
            pack,
            place: place as u32,
            offset: chunk.offset,
            stored_bytes: chunk.stored_bytes,
            encoding: chunk.encoding,
        })
}

/// `None`: it is damaged, or nobody here has its key.
async fn read_pack(
    repository: &Repository,
    identity: &IndexIdentity,
    keys: &SessionKeys,
    id: Uuid,
    bytes: u64,
) -> Result<Option<ReadPack>> {
    let key = layout::pack(&identity.shard, &identity.backup, id);
    let passed_over = |why: String| {
        tracing::warn!("object {key} {why}: nothing in it is referred to");
        Ok(None)
    };
    let prefix_bytes = PREFIX_BYTES as u64;
    if bytes <= prefix_bytes || bytes > PACK_BYTES_MAX as u64 {
        return passed_over(format!("has {bytes} bytes"));
    }
    let start = repository.store().get_range(&key, 0..prefix_bytes).await?;
    let prefix = match Prefix::decode(&start, ObjectKind::Pack, repository.uuid()) {
        Ok(prefix) if prefix.id == id => prefix,
        Ok(_) => return passed_over("is another pack".into()),
        Err(why) => return passed_over(why),
    };
    let data_key = match prefix.encrypted {
        true => match keys.get(repository, identity, prefix.session).await? {
            Some(data_key) => Some(data_key),
            None => return Ok(None),
        },
        false => None,
    };
    let end = match get_tail(repository, &key, bytes).await? {
        Ok(end) => end,
        Err(why) => return passed_over(why),
    };
    let sealer = Sealer::new(&prefix, data_key.as_ref())?;
    let index = match PackIndex::open(&end, bytes, &sealer) {
        Ok(index) => index,
        Err(why) => return passed_over(why),
    };
    let record = PackRecord {
        origin: keys.origin(&identity.backup, &prefix).await,
        id,
        bytes: bytes as u32,
        hash: index.hash,
    };
    Ok(Some(ReadPack { record, index }))
}

/// The keys of an attempt's sessions: from the state directory, or opened with an identity.
struct SessionKeys {
    keys: tokio::sync::Mutex<BTreeMap<Uuid, Option<DataKey>>>,
    origins: tokio::sync::Mutex<BTreeMap<(Uuid, bool), Arc<PackOrigin>>>,
}

impl SessionKeys {
    fn new(keys: BTreeMap<Uuid, DataKey>) -> Self {
        let known = keys.into_iter().map(|(id, key)| (id, Some(key)));
        Self {
            keys: tokio::sync::Mutex::new(known.collect()),
            origins: tokio::sync::Mutex::default(),
        }
    }

    async fn get(
        &self,
        repository: &Repository,
        of: &IndexIdentity,
        session: Uuid,
    ) -> Result<Option<DataKey>> {
        let mut keys = self.keys.lock().await;
        if let Some(known) = keys.get(&session) {
            return Ok(known.clone());
        }
        let opened = match repository.identities() {
            None => None,
            Some(_) => match load_key(repository, &of.shard, &of.backup, session).await {
                Ok(key) => Some(key),
                Err(e) if e.is_retryable() => return Err(e),
                Err(e) => {
                    tracing::warn!("{e}: nothing of that session is referred to");
                    None
                }
            },
        };
        if opened.is_none() {
            tracing::info!("the key of session {session} of {} is not here", of.backup);
        }
        keys.insert(session, opened.clone());
        Ok(opened)
    }

    /// One for each session, however many packs it has.
    async fn origin(&self, backup: &BackupName, prefix: &Prefix) -> Arc<PackOrigin> {
        let mut origins = self.origins.lock().await;
        let origin = origins
            .entry((prefix.session, prefix.encrypted))
            .or_insert_with(|| {
                Arc::new(PackOrigin {
                    backup: backup.clone(),
                    session: prefix.session,
                    encrypted: prefix.encrypted,
                })
            });
        Arc::clone(origin)
    }
}

async fn write(
    directory: &Path,
    identity: &IndexIdentity,
    packs: Vec<PackRecord>,
    sorter: Sorter,
) -> Result<()> {
    let (directory, identity) = (directory.to_owned(), identity.clone());
    on_thread(move || file::write(&directory, &identity, &packs, sorter)).await
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("the thread that makes an index died: {e}")))?
}
