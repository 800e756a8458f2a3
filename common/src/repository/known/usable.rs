//! Which packs of an index may be referred to now: those that a listing shows with their exact
//! size, that are not known to be damaged, and whose key every configured recipient has.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::UsedIndex;
use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
    repository::{header::Repository, layout},
};

/// The database is down meanwhile: a shard whose packs lie under many backups must not wait for one
/// request after the other.
const AT_ONCE: usize = 8;

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
            .buffer_unordered(AT_ONCE)
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
    mut indexes: Vec<UsedIndex>,
    damaged: &HashSet<Uuid>,
) -> Result<Vec<UsedIndex>> {
    let origins = indexes.iter().flat_map(|index| index.file.origins());
    let sessions: BTreeSet<(BackupName, Uuid)> = origins
        .filter(|origin| origin.encrypted == repository.is_encrypting())
        .map(|origin| (origin.backup.clone(), origin.session))
        .collect();
    let names: BTreeSet<BackupName> = sessions.iter().map(|(name, _)| name.clone()).collect();
    let listings = Listing::of_all(repository, shard, names).await?;
    let openable = openable(repository, shard, &listings, sessions).await?;
    let (damaged, encrypted) = (damaged.clone(), repository.is_encrypting());
    let look = move || {
        for index in &mut indexes {
            let mut usable_bytes = vec![0; index.file.packs()];
            index.file.for_each_pack(|number, pack| {
                let origin = &pack.origin;
                let is_usable = origin.encrypted == encrypted
                    && openable.contains(&origin.session)
                    && listings.get(&origin.backup).and_then(|l| l.bytes(pack.id))
                        == Some(u64::from(pack.bytes))
                    && !damaged.contains(&pack.id);
                if is_usable && let Some(usable) = usable_bytes.get_mut(number) {
                    *usable = pack.bytes;
                }
            })?;
            index.usable_bytes = usable_bytes;
        }
        Ok(indexes)
    };
    tokio::task::spawn_blocking(look)
        .await
        .map_err(|e| Error::internal(format!("the thread that looks at indexes died: {e}")))?
}

/// The sessions of which every configured recipient has a key file that is whole: what nobody can
/// open must not come into another backup.
async fn openable(
    repository: &Repository,
    shard: &ShardId,
    listings: &BTreeMap<BackupName, Listing>,
    sessions: BTreeSet<(BackupName, Uuid)>,
) -> Result<HashSet<Uuid>> {
    stream::iter(sessions)
        .map(|(backup, session)| async move {
            let is_there = listings
                .get(&backup)
                .is_some_and(|listing| listing.can_be_opened_by_all(repository, session));
            if !is_there {
                return Ok(None);
            }
            for recipient in repository.recipients().iter() {
                let fingerprint = &recipient.fingerprint;
                let is_whole =
                    repository.has_good_key_file(shard, &backup, session, fingerprint);
                if !is_whole.await? {
                    tracing::warn!(%shard, %backup, "a key file for {fingerprint} is damaged: what it opens is not referred to");
                    return Ok(None);
                }
            }
            Ok(Some(session))
        })
        .buffer_unordered(AT_ONCE)
        .try_filter_map(|session| async move { Ok(session) })
        .try_collect()
        .await
}
