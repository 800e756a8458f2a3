//! What backups there are.

use std::sync::Arc;

use seawall_common::{
    clock::now_unix_ms,
    ids::{BackupName, ShardId},
};
use seawall_proto::v1::{self, catalogue_server::Catalogue};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{check_given, check_text, convert, read, topology::unknown_shard, wants_stale};
use crate::{
    operation::{Coordination, refresh::refresh_for_listing},
    state::{
        Command, State,
        catalogue::{Entry, Known},
        verification,
    },
};

pub struct CatalogueService {
    pub context: Arc<Coordination>,
}

impl CatalogueService {
    /// A repository that cannot be read now does not keep anybody from seeing what is known.
    async fn refresh(&self, metadata: &MetadataMap, shard: &ShardId) {
        if wants_stale(metadata) {
            return;
        }
        if let Err(e) = refresh_for_listing(&self.context, shard).await {
            tracing::warn!(%shard, "listing what is known, because the repository was not read: {e}");
        }
    }
}

#[tonic::async_trait]
impl Catalogue for CatalogueService {
    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        let shard = ShardId::from_proto(request.get_ref().shard.as_ref())?;
        let all = request.get_ref().all;
        self.refresh(request.metadata(), &shard).await;
        let backups = read(&self.context, request.metadata(), |state| {
            let mut entries: Vec<&Entry> = state
                .catalogue
                .entries(&shard)
                .filter(|entry| all || entry.known != Known::Removed)
                .collect();
            if entries.is_empty() && !state.topology.shards().contains(&shard) {
                return Err(unknown_shard(&shard));
            }
            // One that is being written has no position yet, and will be the newest.
            let is_last = |entry: &Entry| entry.known == Known::Running;
            entries.sort_by(|a, b| (is_last(a), a.order_key()).cmp(&(is_last(b), b.order_key())));
            Ok(entries.into_iter().map(convert::backup).collect())
        });
        let backups = backups.await??;
        Ok(Response::new(v1::ListBackupsResponse { backups }))
    }

    async fn get_backup(
        &self,
        request: Request<v1::GetBackupRequest>,
    ) -> Result<Response<v1::Backup>, Status> {
        let shard = ShardId::from_proto(request.get_ref().shard.as_ref())?;
        let name: BackupName = request.get_ref().name.parse()?;
        self.refresh(request.metadata(), &shard).await;
        let backup = read(&self.context, request.metadata(), |state| {
            state.catalogue.entry(&shard, &name).map(convert::backup)
        });
        Ok(Response::new(backup.await??))
    }

    async fn mark_backup_broken(
        &self,
        request: Request<v1::MarkBackupBrokenRequest>,
    ) -> Result<Response<v1::Backup>, Status> {
        let request = request.into_inner();
        let shard = ShardId::from_proto(request.shard.as_ref())?;
        let name: BackupName = request.name.parse()?;
        match request.undo {
            true => check_text("reason", &request.reason)?,
            false => check_given("reason", &request.reason)?,
        }
        let mark = verification::Command::Mark {
            shard: shard.clone(),
            name: name.clone(),
            reason: request.reason,
            undo: request.undo,
            now_unix_ms: now_unix_ms(),
        };
        let group = &self.context.group;
        group.propose(Command::Verification(mark)).await?;
        let look = |state: &State| state.catalogue.entry(&shard, &name).map(convert::backup);
        Ok(Response::new(group.read(look).await??))
    }
}
