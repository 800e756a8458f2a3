//! What backups there are.

use std::sync::Arc;

use seawall_common::{
    Error,
    clock::now_unix_ms,
    ids::{BackupName, ShardId},
};
use seawall_proto::v1::{self, catalogue_server::Catalogue};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    check_given, check_text, convert, read, topology::unknown_shard, unexpected, wants_stale,
};
use crate::{
    operation::{Coordination, listing::bring_up_to_date},
    state::{
        Command, Response as Answer, State,
        catalogue::{self, Entry, Known, Pin},
        verification,
    },
};

pub struct CatalogueService {
    pub context: Arc<Coordination>,
}

impl CatalogueService {
    /// A repository that cannot be read now does not keep anybody from seeing what is known: why it
    /// was not read, or nothing.
    async fn refresh(&self, metadata: &MetadataMap, shard: &ShardId) -> String {
        if wants_stale(metadata) {
            return String::new();
        }
        let not_read = bring_up_to_date(&self.context, [shard.clone()]).await;
        not_read
            .first()
            .map_or_else(String::new, |(_, why)| why.message().to_owned())
    }

    async fn pin(
        &self,
        shard: Option<&v1::ShardRef>,
        name: &str,
        pin: Option<Pin>,
    ) -> seawall_common::Result<v1::Backup> {
        let pin = catalogue::Command::Pin {
            shard: ShardId::from_proto(shard)?,
            name: name.parse()?,
            pin,
            now_unix_ms: now_unix_ms(),
        };
        match self.context.group.propose(Command::Catalogue(pin)).await? {
            Answer::Backup(entry) => Ok(convert::backup(&entry)),
            other => Err(unexpected(&other)),
        }
    }
}

/// The end of a pin; 0 is none.
fn until(unix_ms: u64) -> seawall_common::Result<Option<u64>> {
    let is_a_time = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    if is_a_time.is_none() {
        return Err(Error::invalid(format!("{unix_ms} ms is no point in time")));
    }
    Ok((unix_ms > 0).then_some(unix_ms))
}

#[tonic::async_trait]
impl Catalogue for CatalogueService {
    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        let shard = ShardId::from_proto(request.get_ref().shard.as_ref())?;
        let all = request.get_ref().all;
        let not_read = self.refresh(request.metadata(), &shard).await;
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
        Ok(Response::new(v1::ListBackupsResponse { backups, not_read }))
    }

    async fn get_backup(
        &self,
        request: Request<v1::GetBackupRequest>,
    ) -> Result<Response<v1::GetBackupResponse>, Status> {
        let shard = ShardId::from_proto(request.get_ref().shard.as_ref())?;
        let name: BackupName = request.get_ref().name.parse()?;
        let not_read = self.refresh(request.metadata(), &shard).await;
        let backup = read(&self.context, request.metadata(), |state| {
            state.catalogue.entry(&shard, &name).map(convert::backup)
        });
        let backup = Some(backup.await??);
        Ok(Response::new(v1::GetBackupResponse { backup, not_read }))
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

    async fn pin_backup(
        &self,
        request: Request<v1::PinBackupRequest>,
    ) -> Result<Response<v1::Backup>, Status> {
        let request = request.get_ref();
        let until_unix_ms = until(request.until_unix_ms)?;
        let pin = Some(Pin { until_unix_ms });
        let backup = self.pin(request.shard.as_ref(), &request.name, pin).await?;
        Ok(Response::new(backup))
    }

    async fn unpin_backup(
        &self,
        request: Request<v1::UnpinBackupRequest>,
    ) -> Result<Response<v1::Backup>, Status> {
        let request = request.get_ref();
        let backup = self
            .pin(request.shard.as_ref(), &request.name, None)
            .await?;
        Ok(Response::new(backup))
    }
}
