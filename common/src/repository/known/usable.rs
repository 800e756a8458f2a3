//! Which packs of an index may be referred to now: those that a listing shows with their exact
//! size, that are not known to be damaged, and whose key every configured recipient has.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::UsedIndex;
use crate::{
    error::Result,
    ids::{BackupName, ShardId},
    repository::{header::Repository, layout},
};

/// The database is down meanwhile: a shard whose packs lie under many backups must not wait for one
/// listing after the other.
const LISTINGS_AT_ONCE: usize = 8;

/// What lies under the packs of one backup.
pub(in super::super) struct Listing {
    packs: HashMap<Uuid, u64>,
    /// Names of key files: `<session>.<recipient>.age`.
    keys: HashSet<String>,
}

impl Listing {
    async fn of(repository: &Repository, shard: &ShardId, name: &BackupName) -> Result<Self> {
        let folder = layout::backup_packs(shard, name);
        let keys_folder = layout::keys(shard, name);
        let (mut packs, mut keys) = (HashMap::new(), HashSet::new());
        for object in repository.store().list(&folder).await? {
            let Some(file) = object.key.filename() else {
                continue;
            };
            if object.key.prefix_matches(&keys_folder) {
                keys.insert(file.to_owned());
            } else if let Ok(id) = Uuid::try_parse(file) {
                packs.insert(id, object.bytes);
            }
        }
        Ok(Self { packs, keys })
    }

    pub async fn of_all(
        repository: &Repository,
        shard: &ShardId,
        names: impl IntoIterator<Item = BackupName>,
    ) -> Result<BTreeMap<BackupName, Self>> {
        stream::iter(names)
            .map(|name| async move {
                let listing = Self::of(repository, shard, &name).await?;
                Ok((name, listing))
            })
            .buffer_unordered(LISTINGS_AT_ONCE)
            .try_collect()
            .await
    }

    /// Size of a pack; `None`: it is not there.
    pub fn bytes(&self, pack: Uuid) -> Option<u64> {
        self.packs.get(&pack).copied()
    }

    /// Whether each recipient that is configured has a key file of the session.
    pub fn can_be_opened_by_all(&self, repository: &Repository, session: Uuid) -> bool {
        let session = session.simple();
        repository.recipients().iter().all(|recipient| {
            let file = format!("{session}.{}.age", recipient.fingerprint);
            self.keys.contains(&file)
        })
    }
}

/// Fills in [`UsedIndex::usable_bytes`].
pub(super) async fn find_usable(
    repository: &Repository,
    shard: &ShardId,
    indexes: &mut [UsedIndex],
    damaged: &HashSet<Uuid>,
) -> Result<()> {
    let mut names: BTreeSet<BackupName> = BTreeSet::new();
    for index in indexes.iter_mut() {
        index.usable_bytes = vec![0; index.file.packs()];
        names.extend(index.file.origins().iter().map(|o| o.backup.clone()));
    }
    for (name, listing) in Listing::of_all(repository, shard, names).await? {
        for index in indexes.iter_mut() {
            let sessions: HashSet<Uuid> = index
                .file
                .origins()
                .iter()
                .filter(|origin| {
                    origin.backup == name
                        && origin.encrypted == repository.is_encrypting()
                        && listing.can_be_opened_by_all(repository, origin.session)
                })
                .map(|origin| origin.session)
                .collect();
            if sessions.is_empty() {
                continue;
            }
            let usable_bytes = &mut index.usable_bytes;
            index.file.for_each_pack(|number, pack| {
                let is_usable = pack.origin.backup == name
                    && pack.origin.encrypted == repository.is_encrypting()
                    && sessions.contains(&pack.origin.session)
                    && listing.bytes(pack.id) == Some(u64::from(pack.bytes))
                    && !damaged.contains(&pack.id);
                if is_usable && let Some(usable) = usable_bytes.get_mut(number) {
                    *usable = pack.bytes;
                }
            })?;
        }
    }
    Ok(())
}
