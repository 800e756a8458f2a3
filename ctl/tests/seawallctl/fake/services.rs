//! The services of the fake: remember the request, refuse if told to, answer from the script.

use std::{pin::Pin, sync::MutexGuard};

use seawall_proto::v1::{self, *};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{Fake, Script, backup};

pub type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Fake {
    /// A store that is slow.
    pub async fn delay(&self) {
        let delay = self.0.lock().unwrap().delay;
        tokio::time::sleep(delay).await;
    }

    pub fn take<T: std::fmt::Debug>(
        &self,
        method: &str,
        request: Request<T>,
    ) -> Result<(T, MutexGuard<'_, Script>), Status> {
        let request = request.into_inner();
        let mut script = self.0.lock().unwrap();
        script.asked.push(format!("{method} {request:?}"));
        match script.refusals.pop_front() {
            Some(status) => Err(status),
            None => Ok((request, script)),
        }
    }
}

pub fn answer<T>(value: T) -> Answer<T> {
    Ok(Response::new(value))
}

#[tonic::async_trait]
impl timestamps_server::Timestamps for Fake {
    async fn fetch(
        &self,
        request: Request<FetchTimestampRequest>,
    ) -> Answer<FetchTimestampResponse> {
        let (request, mut script) = self.take("Timestamps.Fetch", request)?;
        let first = script.next_timestamp;
        script.next_timestamp += u64::from(request.count);
        answer(FetchTimestampResponse {
            first,
            count: request.count,
        })
    }

    async fn fast_forward(
        &self,
        request: Request<FastForwardRequest>,
    ) -> Answer<FastForwardResponse> {
        let (request, _script) = self.take("Timestamps.FastForward", request)?;
        answer(FastForwardResponse {
            bound: request.timestamp,
        })
    }

    async fn notes(
        &self,
        request: Request<TimestampNotesRequest>,
    ) -> Answer<TimestampNotesResponse> {
        let (_, script) = self.take("Timestamps.Notes", request)?;
        answer(script.notes)
    }
}

#[tonic::async_trait]
impl locks_server::Locks for Fake {
    async fn acquire(&self, request: Request<AcquireHoldRequest>) -> Answer<Hold> {
        let (request, _script) = self.take("Locks.Acquire", request)?;
        answer(Hold {
            id: request.id,
            side: LockSide::Backup.into(),
            scope: request.scope,
            owner: request.owner,
            reason: request.reason,
            token: 7,
            granted_unix_ms: 1_792_000_000_000,
            expires_unix_ms: 1_792_000_000_000 + request.duration_ms,
            ..Default::default()
        })
    }

    async fn keep_alive(
        &self,
        request: Request<KeepHoldsAliveRequest>,
    ) -> Answer<KeepHoldsAliveResponse> {
        let (_request, _script) = self.take("Locks.KeepAlive", request)?;
        answer(KeepHoldsAliveResponse::default())
    }

    async fn release(&self, request: Request<ReleaseHoldRequest>) -> Answer<ReleaseHoldResponse> {
        let (request, _script) = self.take("Locks.Release", request)?;
        answer(ReleaseHoldResponse {
            released: Some(Hold {
                id: request.id,
                ..Default::default()
            }),
        })
    }

    async fn r#break(&self, request: Request<BreakHoldRequest>) -> Answer<BreakHoldResponse> {
        let (_, script) = self.take("Locks.Break", request)?;
        answer(BreakHoldResponse {
            broken: script.holds.holds.clone(),
        })
    }

    async fn list(&self, request: Request<ListHoldsRequest>) -> Answer<ListHoldsResponse> {
        let (_, script) = self.take("Locks.List", request)?;
        answer(script.holds.clone())
    }
}

#[tonic::async_trait]
impl transfers_server::Transfers for Fake {
    async fn status(&self, request: Request<TransferStatusRequest>) -> Answer<TransferReport> {
        let (_, script) = self.take("Transfers.Status", request)?;
        answer(script.transfers.clone())
    }

    async fn set_throttle(&self, request: Request<SetThrottleRequest>) -> Answer<TransferReport> {
        let (_, script) = self.take("Transfers.SetThrottle", request)?;
        answer(script.transfers.clone())
    }
}

#[tonic::async_trait]
impl topology_server::Topology for Fake {
    type WatchServingStream = Messages<ServingUpdate>;

    async fn init_tablet(&self, request: Request<InitTabletRequest>) -> Answer<v1::Tablet> {
        let (request, _script) = self.take("Topology.InitTablet", request)?;
        answer(v1::Tablet {
            alias: request.alias,
            shard: request.shard,
            r#type: request.r#type,
            ..Default::default()
        })
    }

    async fn remove_tablet(
        &self,
        request: Request<RemoveTabletRequest>,
    ) -> Answer<RemoveTabletResponse> {
        let _taken = self.take("Topology.RemoveTablet", request)?;
        answer(RemoveTabletResponse {})
    }

    async fn list_tablets(
        &self,
        request: Request<ListTabletsRequest>,
    ) -> Answer<ListTabletsResponse> {
        let (request, script) = self.take("Topology.ListTablets", request)?;
        // One a page.
        let after = match request.page_token.as_str() {
            "" => 0,
            token => token
                .parse()
                .map_err(|_| Status::invalid_argument("no token"))?,
        };
        let left = script.tablets.len().saturating_sub(after + 1);
        answer(ListTabletsResponse {
            tablets: script.tablets.iter().skip(after).take(1).cloned().collect(),
            next_page_token: match left {
                0 => String::new(),
                _ => (after + 1).to_string(),
            },
        })
    }

    async fn change_tablet_type(
        &self,
        request: Request<ChangeTabletTypeRequest>,
    ) -> Answer<v1::Tablet> {
        let (request, _script) = self.take("Topology.ChangeTabletType", request)?;
        answer(v1::Tablet {
            alias: request.alias,
            r#type: request.r#type,
            ..Default::default()
        })
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Answer<GetHistoryResponse> {
        let _taken = self.take("Topology.GetHistory", request)?;
        answer(GetHistoryResponse {
            epochs: vec![v1::Epoch {
                number: 1,
                alias: "zone1-101".into(),
                server_id: 101,
                start_position: "0-101-1".into(),
                began_unix_ms: 1_792_000_000_000,
            }],
        })
    }

    async fn watch_serving(
        &self,
        _: Request<WatchServingRequest>,
    ) -> Answer<Self::WatchServingStream> {
        Err(Status::unimplemented("seawallctl does not ask for it"))
    }
}

#[tonic::async_trait]
impl operations_server::Operations for Fake {
    type WatchStream = Messages<Operation>;

    async fn start(&self, request: Request<StartOperationRequest>) -> Answer<Operation> {
        let (request, script) = self.take("Operations.Start", request)?;
        answer(Operation {
            id: request.id,
            spec: request.spec,
            ..script.operation.clone()
        })
    }

    async fn start_backups(
        &self,
        request: Request<StartBackupsRequest>,
    ) -> Answer<StartBackupsResponse> {
        let (_, script) = self.take("Operations.StartBackups", request)?;
        answer(script.start_backups.clone())
    }

    async fn start_remove_recipient(
        &self,
        request: Request<StartRemoveRecipientRequest>,
    ) -> Answer<StartRemoveRecipientResponse> {
        let (request, script) = self.take("Operations.StartRemoveRecipient", request)?;
        answer(StartRemoveRecipientResponse {
            operations: vec![Operation {
                id: request.id,
                ..script.operation.clone()
            }],
        })
    }

    async fn plan_restore(
        &self,
        request: Request<PlanRestoreRequest>,
    ) -> Answer<PlanRestoreResponse> {
        let (_, script) = self.take("Operations.PlanRestore", request)?;
        answer(script.plan.clone())
    }

    async fn plan_removal(
        &self,
        request: Request<PlanRemovalRequest>,
    ) -> Answer<PlanRemovalResponse> {
        let (_, script) = self.take("Operations.PlanRemoval", request)?;
        answer(script.removal.clone())
    }

    async fn plan_recipient_removal(
        &self,
        request: Request<PlanRecipientRemovalRequest>,
    ) -> Answer<PlanRecipientRemovalResponse> {
        let (_, script) = self.take("Operations.PlanRecipientRemoval", request)?;
        answer(script.recipient_removal.clone())
    }

    async fn list(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Answer<ListOperationsResponse> {
        let (_, script) = self.take("Operations.List", request)?;
        answer(ListOperationsResponse {
            operations: vec![script.operation.clone()],
        })
    }

    async fn get(&self, request: Request<GetOperationRequest>) -> Answer<Operation> {
        let (_, script) = self.take("Operations.Get", request)?;
        answer(script.operation.clone())
    }

    async fn watch(&self, request: Request<WatchOperationRequest>) -> Answer<Self::WatchStream> {
        let (request, mut script) = self.take("Operations.Watch", request)?;
        let (sender, receiver) = mpsc::channel(8);
        script.watches.push((request.id, sender));
        answer(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn cancel(&self, request: Request<CancelOperationRequest>) -> Answer<Operation> {
        let (request, script) = self.take("Operations.Cancel", request)?;
        answer(Operation {
            id: request.id,
            state: OperationState::Undoing.into(),
            ..script.operation.clone()
        })
    }
}

#[tonic::async_trait]
impl catalogue_server::Catalogue for Fake {
    async fn list_backups(
        &self,
        request: Request<ListBackupsRequest>,
    ) -> Answer<ListBackupsResponse> {
        let (_, script) = self.take("Catalogue.ListBackups", request)?;
        answer(ListBackupsResponse {
            backups: script.backups.clone(),
            not_read: script.not_read.clone(),
        })
    }

    async fn get_backup(&self, request: Request<GetBackupRequest>) -> Answer<GetBackupResponse> {
        let (request, script) = self.take("Catalogue.GetBackup", request)?;
        let found = script
            .backups
            .iter()
            .find(|backup| backup.name == request.name);
        found
            .map(|backup| {
                Response::new(GetBackupResponse {
                    backup: Some(backup.clone()),
                    not_read: script.not_read.clone(),
                })
            })
            .ok_or_else(|| Status::not_found(format!("there is no backup {}", request.name)))
    }

    async fn mark_backup_broken(
        &self,
        request: Request<MarkBackupBrokenRequest>,
    ) -> Answer<v1::Backup> {
        let (request, _script) = self.take("Catalogue.MarkBackupBroken", request)?;
        answer(v1::Backup {
            note: request.reason,
            ..backup(&request.name, BackupState::Broken)
        })
    }

    async fn pin_backup(&self, request: Request<PinBackupRequest>) -> Answer<v1::Backup> {
        let (request, _script) = self.take("Catalogue.PinBackup", request)?;
        answer(v1::Backup {
            name: request.name,
            shard: request.shard,
            pinned: true,
            pinned_until_unix_ms: request.until_unix_ms,
            ..Default::default()
        })
    }

    async fn unpin_backup(&self, request: Request<UnpinBackupRequest>) -> Answer<v1::Backup> {
        let (request, _script) = self.take("Catalogue.UnpinBackup", request)?;
        answer(v1::Backup {
            name: request.name,
            shard: request.shard,
            ..Default::default()
        })
    }
}

#[tonic::async_trait]
impl cluster_server::Cluster for Fake {
    async fn status(
        &self,
        request: Request<ClusterStatusRequest>,
    ) -> Answer<ClusterStatusResponse> {
        let (_, script) = self.take("Cluster.Status", request)?;
        answer(script.cluster.clone())
    }

    /// Nobody but the one that is asked answers.
    async fn group_status(
        &self,
        request: Request<GroupStatusRequest>,
    ) -> Answer<GroupStatusResponse> {
        let (_, script) = self.take("Cluster.GroupStatus", request)?;
        let asked = script.cluster.clone();
        let members = asked.members.iter().map(|member| MemberStatus {
            member: Some(member.clone()),
            own: (member.id == asked.answered_by).then(|| asked.clone()),
            error: match member.id == asked.answered_by {
                true => String::new(),
                false => "no answer within 1s".to_owned(),
            },
        });
        answer(GroupStatusResponse {
            members: members.collect(),
            asked: Some(asked),
        })
    }
}
