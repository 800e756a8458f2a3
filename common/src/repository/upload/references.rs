//! The packs of other backups that this one refers to: numbered as they are met, and confirmed by a
//! listing before the manifest is put.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
    repository::{
        chunk::ChunkId,
        header::Repository,
        known::{FoundChunk, KnownChunks, Listing},
        layout,
        manifest::PackRecord,
        pack::StoredChunk,
    },
};

const SYNCS_AT_ONCE: usize = 8;

/// Where chunks come from that are not sent, and the numbers of all packs of the backup.
#[derive(Default)]
pub(super) struct References {
    known: KnownChunks,
    next_pack: AtomicU32,
    met: Mutex<Met>,
}

#[derive(Default)]
struct Met {
    /// Numbers by index and the number there: for most chunks the pack was met before.
    by_place: HashMap<(usize, u32), u32>,
    by_id: HashMap<Uuid, u32>,
    packs: BTreeMap<u32, Referred>,
}

/// A pack that the backup refers to.
struct Referred {
    record: PackRecord,
    /// No earlier complete backup holds it.
    is_news: bool,
}

/// All packs of a backup, and what of those that it refers to is new.
pub(super) struct AllPacks {
    pub packs: Vec<PackRecord>,
    /// Bytes of packs that were taken over from attempts.
    pub taken_over_bytes: u64,
    pub refers_to: Vec<BackupName>,
}

impl References {
    pub fn new(known: KnownChunks) -> Self {
        Self {
            known,
            ..Self::default()
        }
    }

    /// The number of the next pack of the backup.
    pub fn next_pack(&self) -> u32 {
        self.next_pack.fetch_add(1, Ordering::Relaxed)
    }

    /// Where a chunk lies already, with its pack's number in this backup.
    pub fn find(&self, id: &ChunkId, plain_bytes: usize) -> Result<Option<StoredChunk>> {
        let Some(found) = self.known.find(id, plain_bytes)? else {
            return Ok(None);
        };
        Ok(Some(StoredChunk {
            pack: self.number(&found)?,
            ..found.stored
        }))
    }

    fn number(&self, found: &FoundChunk) -> Result<u32> {
        let mut met = self.met();
        let place = (found.index, found.stored.pack);
        if let Some(number) = met.by_place.get(&place) {
            return Ok(*number);
        }
        let (record, is_news) = self.known.pack(found)?;
        let number = match met.by_id.get(&record.id).copied() {
            Some(number) => number,
            None => {
                let number = self.next_pack();
                met.by_id.insert(record.id, number);
                met.packs.insert(number, Referred { record, is_news });
                number
            }
        };
        met.by_place.insert(place, number);
        Ok(number)
    }

    fn met(&self) -> MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every pack of the backup in the order of their numbers, of which `own` were put.
    pub fn all(&self, own: Vec<(u32, PackRecord)>) -> Result<AllPacks> {
        let met = self.met();
        let mut numbered: BTreeMap<u32, &PackRecord> = own
            .iter()
            .map(|(number, record)| (*number, record))
            .collect();
        let mut taken_over_bytes = 0;
        let mut refers_to = BTreeSet::new();
        for (number, referred) in &met.packs {
            numbered.insert(*number, &referred.record);
            refers_to.insert(referred.record.origin.backup.clone());
            if referred.is_news {
                taken_over_bytes += u64::from(referred.record.bytes);
            }
        }
        let last = numbered.keys().next_back().map_or(0, |last| last + 1);
        if numbered.len() != last as usize || numbered.len() != own.len() + met.packs.len() {
            return Err(Error::internal("a pack was filled and not put"));
        }
        Ok(AllPacks {
            packs: numbered.into_values().cloned().collect(),
            taken_over_bytes,
            refers_to: refers_to.into_iter().collect(),
        })
    }

    /// Every pack that is referred to is still there with its exact size, and its key file for each
    /// recipient. What is not will not be referred to by the next backup, which looks before it
    /// begins.
    pub async fn confirm(&self, repository: &Repository, shard: &ShardId) -> Result<()> {
        let mut by_backup: BTreeMap<BackupName, Vec<PackRecord>> = BTreeMap::new();
        for referred in self.met().packs.values() {
            let record = &referred.record;
            let packs = by_backup.entry(record.origin.backup.clone()).or_default();
            packs.push(record.clone());
        }
        let listings = Listing::of_all(repository, shard, by_backup.keys().cloned()).await?;
        for (backup, packs) in by_backup {
            let listing = listings.get(&backup);
            for pack in packs {
                if let Some(why) = unfit(repository, listing, &pack) {
                    return Err(Error::unavailable(format!(
                        "object {}, which this backup refers to, {why}",
                        layout::pack(shard, &backup, pack.id)
                    ))
                    .hint("Start the backup again: it sends anew what that pack held."));
                }
            }
        }
        self.make_taken_over_durable(repository, shard).await
    }

    /// An attempt that was killed may have put a pack and not synced its directory.
    async fn make_taken_over_durable(
        &self,
        repository: &Repository,
        shard: &ShardId,
    ) -> Result<()> {
        let taken_over: Vec<Path> = self
            .met()
            .packs
            .values()
            .filter(|referred| referred.is_news)
            .map(|referred| {
                let record = &referred.record;
                layout::pack(shard, &record.origin.backup, record.id)
            })
            .collect();
        stream::iter(taken_over)
            .map(|key| async move { repository.store().make_durable(&key).await })
            .buffer_unordered(SYNCS_AT_ONCE)
            .try_collect()
            .await
    }
}

/// Why a pack cannot be referred to any more.
fn unfit(repository: &Repository, listing: Option<&Listing>, pack: &PackRecord) -> Option<String> {
    let Some((listing, bytes)) = listing.and_then(|l| Some((l, l.bytes(pack.id)?))) else {
        return Some("is not there any more".to_owned());
    };
    if bytes != u64::from(pack.bytes) {
        return Some(format!("has {bytes} bytes where it had {}", pack.bytes));
    }
    let origin = &pack.origin;
    if origin.encrypted && !listing.can_be_opened_by_all(repository, origin.session) {
        return Some("has lost a key file of one of the recipients".to_owned());
    }
    None
}
