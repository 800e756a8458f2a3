//! `Members`: changes of the group itself.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use seawall_common::{Error, access::Caller, error::one_line, repository::GroupBackup};
use seawall_proto::v1::{
    AddMemberProgress, AddMemberRequest, BackupCoordinatorRequest, BackupCoordinatorResponse,
    CoordinatorBackup, ListCoordinatorBackupsRequest, ListCoordinatorBackupsResponse,
    RemoveMemberRequest, RemoveMemberResponse, members_server,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    config::is_address,
    context::Context,
    operation::{Coordination, group_backup},
    raft::CaughtUp,
};

/// Messages that wait for a slow client; what is more is left out, for a later one says as much.
const WAITING_MAX: usize = 16;

pub struct MembersService {
    context: Arc<Context>,
    coordination: Arc<Coordination>,
}

impl MembersService {
    pub fn new(context: Arc<Context>, coordination: Arc<Coordination>) -> Self {
        Self {
            context,
            coordination,
        }
    }
}

type Progress = Pin<Box<dyn Stream<Item = Result<AddMemberProgress, Status>> + Send>>;

#[async_trait]
impl members_server::Members for MembersService {
    type AddStream = Progress;

    async fn add(
        &self,
        request: Request<AddMemberRequest>,
    ) -> Result<Response<Self::AddStream>, Status> {
        let caller = match request.extensions().get::<Caller>() {
            Some(caller) => one_line(&caller.to_string()),
            None => "unknown".to_owned(),
        };
        let AddMemberRequest { id, address } = request.into_inner();
        check_id(id)?;
        if !is_address(&address) {
            return Err(Error::invalid(format!("malformed address {address:?}"))
                .hint("It is written host:port, as the other members reach it.")
                .into());
        }
        let node = self.context.node.clone();
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        // A task of its own: a client that goes away must not leave it half done.
        tokio::spawn(async move {
            let telling = sender.clone();
            let tell = move |progress: CaughtUp| {
                // The last one must arrive; it follows below.
                if !progress.is_voter {
                    let _ = telling.try_send(Ok(told(progress)));
                }
            };
            let added = node.add_member(id, &address, &tell).await;
            // Of every other call the layer in front writes this line.
            let result = match &added {
                Ok(_) => "ok".to_owned(),
                Err(e) => one_line(&format!("{:?}: {}", e.kind(), e.message())),
            };
            let object = format!("member {id} at {address}");
            tracing::info!(target: "audit", %caller, %object, %result, "Members/Add");
            let last = added.map(told).map_err(Status::from);
            // Nobody may be listening any more.
            let _ = sender.send(last).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn remove(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        let id = request.into_inner().id;
        check_id(id)?;
        let node = self.context.node.clone();
        // A task of its own: a client that goes away must not leave it half done.
        let removed = tokio::spawn(async move { node.remove_member(id).await }).await;
        removed.map_err(|e| Error::internal(format!("the removal of member {id} died: {e}")))??;
        tracing::info!(member = id, "a member was removed");
        Ok(Response::new(RemoveMemberResponse {}))
    }

    async fn backup(
        &self,
        request: Request<BackupCoordinatorRequest>,
    ) -> Result<Response<BackupCoordinatorResponse>, Status> {
        let keep = match request.into_inner().keep {
            0 => group_backup::KEPT,
            keep => usize::try_from(keep).unwrap_or(usize::MAX),
        };
        let taken = group_backup::take(&self.coordination, keep).await?;
        Ok(Response::new(BackupCoordinatorResponse {
            backup: Some(described(taken.backup)),
            removed: taken.removed,
        }))
    }

    async fn list_backups(
        &self,
        _request: Request<ListCoordinatorBackupsRequest>,
    ) -> Result<Response<ListCoordinatorBackupsResponse>, Status> {
        let (backups, unreadable) = group_backup::list(&self.coordination).await?;
        Ok(Response::new(ListCoordinatorBackupsResponse {
            backups: backups.into_iter().map(described).collect(),
            unreadable,
        }))
    }
}

fn described(backup: GroupBackup) -> CoordinatorBackup {
    CoordinatorBackup {
        name: backup.name,
        group_id: backup.group_id,
        member_id: backup.member_id,
        term: backup.term,
        last_index: backup.last_index,
        taken_unix_ms: backup.taken_unix_ms,
        state_bytes: backup.state_bytes,
        encrypted: backup.encrypted,
        version: backup.written_by,
    }
}

fn check_id(id: u64) -> Result<(), Error> {
    match id {
        0 => Err(Error::invalid("no member id is given")),
        _ => Ok(()),
    }
}

fn told(progress: CaughtUp) -> AddMemberProgress {
    AddMemberProgress {
        index: progress.index,
        last_index: progress.last_index,
        voter: progress.is_voter,
    }
}
