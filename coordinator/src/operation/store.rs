//! What the sagas do in the repository. The trait is there so that tests can make it fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use seawall_common::{
    Result,
    ids::{BackupName, ShardId},
    repository::{
        BatchLimits, Collected, CollectionRequest, EpochRecord, GroupBackup, GroupBackups,
        KeyFiles, LeftOf, RemovedKeys, Repository, StoredBackup,
    },
};

#[async_trait]
pub trait Store: Send + Sync + 'static {
    fn id(&self) -> &str;
    /// How long one request without data may be on its way.
    fn request_timeout(&self) -> Duration;
    async fn check_owner(&self, group_id: &str) -> Result<()>;
    async fn put_epoch(&self, shard: &ShardId, record: &EpochRecord) -> Result<()>;
    async fn newest_epoch(&self, shard: &ShardId) -> Result<u64>;
    async fn scan(&self, shard: &ShardId) -> Result<Vec<StoredBackup>>;
    /// Ids of the packs that a backup needs, as its manifest of this hash says.
    async fn packs_of(
        &self,
        shard: &ShardId,
        name: &BackupName,
        manifest_hash: &str,
    ) -> Result<BTreeSet<String>>;
    async fn abandon(&self, shard: &ShardId, name: &BackupName, reason: &str) -> Result<()>;
    async fn plan_collection(
        &self,
        shard: &ShardId,
        request: &CollectionRequest,
    ) -> Result<BTreeMap<BackupName, LeftOf>>;
    async fn collect(
        &self,
        shard: &ShardId,
        request: &CollectionRequest,
        limits: BatchLimits,
    ) -> Result<Collected>;
    /// The shards in which a recipient has key files.
    async fn shards_of_recipient(&self, recipient: &str) -> Result<Vec<ShardId>>;
    /// At most `batch` key files of the recipient go.
    async fn remove_recipient(
        &self,
        shard: &ShardId,
        recipient: &str,
        batch: usize,
    ) -> Result<RemovedKeys>;
    /// The recipient's key files in a shard, backup by backup, and what would become of them.
    async fn plan_recipient_removal(
        &self,
        shard: &ShardId,
        recipient: &str,
    ) -> Result<BTreeMap<BackupName, KeyFiles>>;
    /// Puts the state of the group and reads it back.
    async fn put_group_state(&self, backup: GroupBackup, state: Vec<u8>) -> Result<GroupBackup>;
    async fn group_backups(&self) -> Result<GroupBackups>;
    async fn group_backup(&self, name: &str) -> Result<GroupBackup>;
    async fn remove_group_backup(&self, name: &str) -> Result<()>;
}

#[async_trait]
impl Store for Repository {
    fn id(&self) -> &str {
        Repository::id(self)
    }

    fn request_timeout(&self) -> Duration {
        Repository::request_timeout(self)
    }

    async fn check_owner(&self, group_id: &str) -> Result<()> {
        Repository::check_owner(self, group_id).await
    }

    async fn put_epoch(&self, shard: &ShardId, record: &EpochRecord) -> Result<()> {
        Repository::put_epoch(self, shard, record).await
    }

    async fn newest_epoch(&self, shard: &ShardId) -> Result<u64> {
        Repository::newest_epoch(self, shard).await
    }

    async fn scan(&self, shard: &ShardId) -> Result<Vec<StoredBackup>> {
        Repository::scan(self, shard).await
    }

    async fn packs_of(
        &self,
        shard: &ShardId,
        name: &BackupName,
        manifest_hash: &str,
    ) -> Result<BTreeSet<String>> {
        Repository::packs_of(self, shard, name, manifest_hash).await
    }

    async fn abandon(&self, shard: &ShardId, name: &BackupName, reason: &str) -> Result<()> {
        Repository::abandon(self, shard, name, reason).await
    }

    async fn plan_collection(
        &self,
        shard: &ShardId,
        request: &CollectionRequest,
    ) -> Result<BTreeMap<BackupName, LeftOf>> {
        Repository::plan_collection(self, shard, request).await
    }

    async fn collect(
        &self,
        shard: &ShardId,
        request: &CollectionRequest,
        limits: BatchLimits,
    ) -> Result<Collected> {
        Repository::collect(self, shard, request, limits).await
    }

    async fn shards_of_recipient(&self, recipient: &str) -> Result<Vec<ShardId>> {
        Repository::shards_of_recipient(self, recipient).await
    }

    async fn remove_recipient(
        &self,
        shard: &ShardId,
        recipient: &str,
        batch: usize,
    ) -> Result<RemovedKeys> {
        Repository::remove_recipient(self, shard, recipient, batch).await
    }

    async fn plan_recipient_removal(
        &self,
        shard: &ShardId,
        recipient: &str,
    ) -> Result<BTreeMap<BackupName, KeyFiles>> {
        Repository::plan_recipient_removal(self, shard, recipient).await
    }

    async fn put_group_state(&self, backup: GroupBackup, state: Vec<u8>) -> Result<GroupBackup> {
        Repository::put_group_state(self, backup, state).await
    }

    async fn group_backups(&self) -> Result<GroupBackups> {
        Repository::group_backups(self).await
    }

    async fn group_backup(&self, name: &str) -> Result<GroupBackup> {
        Repository::group_backup(self, name).await
    }

    async fn remove_group_backup(&self, name: &str) -> Result<()> {
        Repository::remove_group_backup(self, name).await
    }
}
