//! Starting, watching and cancelling operations.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use seawall_common::{
    Error,
    access::Caller,
    clock::now_unix_ms,
    ids::{Alias, OperationId, ShardId, check_keyspace},
    repository::check_fingerprint,
};
use seawall_proto::v1::{self, operations_server::Operations};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    check_text, convert, read, retention,
    topology::unknown_shard,
    unexpected, wait_for_deleters,
    watch::{self, Look, Updates},
};
use crate::{
    operation::{Coordination, choice, driver::millis, refresh},
    state::{
        Command, Response as Answer, State,
        locks::Scope,
        operations::{self, Operation, Spec, Start},
    },
};

pub(super) const TRANSFER_DEADLINE: Duration = Duration::from_secs(24 * 3600);
pub(super) const REMOVAL_DEADLINE: Duration = Duration::from_secs(600);
const REPARENT_DEADLINE: Duration = Duration::from_secs(60);
const DEADLINE_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
/// How long a change of primary waits before it begins for a database that is still being made.
const DATABASE_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Operations that ended within this time are listed without `all`.
const LISTED_FOR: Duration = Duration::from_secs(24 * 3600);
/// A watcher hears at least this often.
const REPEAT_AFTER: Duration = Duration::from_secs(5);

pub struct OperationsService {
    pub context: Arc<Coordination>,
}

/// How long an operation may take is bounded.
pub(super) fn check_deadline(timeout_ms: u64) -> seawall_common::Result<()> {
    if timeout_ms <= millis(DEADLINE_MAX) {
        return Ok(());
    }
    let days = DEADLINE_MAX.as_secs() / (24 * 3600);
    let asked = humantime::format_duration(Duration::from_millis(timeout_ms));
    Err(Error::invalid(format!(
        "a deadline of {asked} is longer than an operation may take"
    ))
    .hint(format!(
        "Give one of at most {days} days (--deadline {days}d), or none for the usual one."
    )))
}

fn deadline(spec: &Spec, timeout_ms: u64) -> seawall_common::Result<Duration> {
    check_deadline(timeout_ms)?;
    Ok(match (timeout_ms, spec) {
        (
            0,
            Spec::Backup { .. }
            | Spec::Restore { .. }
            // It waits for a backup that is at work.
            | Spec::RemoveRecipient { .. }
            | Spec::Verify { .. }
            | Spec::TestRestore { .. },
        ) => TRANSFER_DEADLINE,
        (0, Spec::RemoveBackup { .. } | Spec::Sweep { .. }) => REMOVAL_DEADLINE,
        (0, Spec::Collect { .. }) => TRANSFER_DEADLINE,
        (0, Spec::InitShardPrimary { .. } | Spec::PlannedReparent { .. }) => REPARENT_DEADLINE,
        (timeout_ms, _) => Duration::from_millis(timeout_ms),
    })
}

/// All that an agent starts is the restore of its own tablet when that has no data.
fn check_agents_own(caller: &Caller, spec: &Spec) -> seawall_common::Result<()> {
    if !caller.is_agent() {
        return Ok(());
    }
    match spec {
        Spec::Restore {
            alias,
            empty_start: true,
            ..
        } => caller.check_alias(&alias.to_string()),
        _ => Err(Error::denied(format!(
            "an agent starts no operation but the restore of its own tablet; the caller is {caller}"
        ))
        .hint("Use an operator's certificate.")),
    }
}

pub(super) fn start_command(id: OperationId, spec: Spec, deadline: Duration) -> Command {
    let now_unix_ms = now_unix_ms();
    Command::Operations(operations::Command::Start(Start {
        id,
        spec,
        now_unix_ms,
        deadline_unix_ms: now_unix_ms.saturating_add(millis(deadline)),
    }))
}

impl OperationsService {
    async fn known(&self, id: &OperationId) -> seawall_common::Result<Option<Operation>> {
        let group = &self.context.group;
        group
            .read(|state| state.operations.get(id).ok().cloned())
            .await
    }

    async fn start_one(
        &self,
        id: OperationId,
        spec: Spec,
        timeout_ms: u64,
    ) -> seawall_common::Result<Operation> {
        let deadline = deadline(&spec, timeout_ms)?;
        if self.known(&id).await?.is_none() {
            self.check_before(&spec).await?;
        }
        let start = start_command(id, spec, deadline);
        match self.context.group.propose(start).await? {
            Answer::Operation(operation) => Ok(*operation),
            other => Err(unexpected(&other)),
        }
    }

    /// What the state machine cannot know: the repository and the agents.
    pub(super) async fn check_before(&self, spec: &Spec) -> seawall_common::Result<()> {
        match spec {
            Spec::Backup { alias, .. } => {
                let shard = self.shard_of(alias).await?;
                self.check_heard(alias)?;
                self.context.check_owner().await?;
                wait_for_deleters(&self.context, &Scope::Shard(shard)).await;
                Ok(())
            }
            Spec::Restore { alias, backup, .. } => {
                let shard = self.shard_of(alias).await?;
                self.check_heard(alias)?;
                if backup.is_some() {
                    refresh::refresh(&self.context, &shard).await?;
                }
                wait_for_deleters(&self.context, &Scope::Shard(shard)).await;
                Ok(())
            }
            Spec::RemoveBackup { shard, .. } | Spec::Collect { shard } => {
                let is_known = |state: &State| retention::is_known(state, shard);
                if matches!(spec, Spec::Collect { .. })
                    && !self.context.group.read(is_known).await?
                {
                    return Err(unknown_shard(shard));
                }
                self.context.check_owner().await?;
                refresh::refresh(&self.context, shard).await
            }
            Spec::InitShardPrimary { alias, .. }
            | Spec::PlannedReparent {
                new_primary: alias, ..
            } => {
                self.context.check_owner().await?;
                self.wait_for_database(alias).await
            }
            Spec::RemoveRecipient { .. } => self.context.check_owner().await,
            Spec::Verify { shard, backup, .. } | Spec::TestRestore { shard, backup, .. } => {
                refresh::refresh(&self.context, shard).await?;
                let heartbeats = &self.context.heartbeats;
                let look = |state: &State| {
                    let entry = state.catalogue.entry(shard, backup)?;
                    choice::tablet_to_verify(state, heartbeats, entry, spec).map(drop)
                };
                self.context.group.read(look).await??;
                wait_for_deleters(&self.context, &Scope::Shard(shard.clone())).await;
                Ok(())
            }
            Spec::Sweep { .. } => Ok(()),
        }
    }

    /// A new tablet makes its database first, which an operation on its shard would keep it from. An
    /// agent that is not heard is not waited for here.
    async fn wait_for_database(&self, alias: &Alias) -> seawall_common::Result<()> {
        let until = Instant::now() + DATABASE_PATIENCE;
        loop {
            let status = self.context.heartbeats.seen_status(alias);
            let Some(down) = status.filter(|status| !status.database_running) else {
                return Ok(());
            };
            if Instant::now() >= until {
                let why = down.message;
                return Err(
                    Error::refused(format!("the database of {alias} does not run: {why}"))
                        .hint("ListTablets shows when it does."),
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn shard_of(&self, alias: &Alias) -> seawall_common::Result<ShardId> {
        let group = &self.context.group;
        group
            .read(|state| state.topology.tablet(alias).map(|t| t.shard.clone()))
            .await?
    }

    pub(super) fn check_heard(&self, alias: &Alias) -> seawall_common::Result<()> {
        let heartbeats = &self.context.heartbeats;
        if heartbeats.may_be_there(alias) {
            return Ok(());
        }
        Err(Error::refused(format!(
            "the agent of {alias} has ended, or has not been heard for {} s",
            heartbeats.silence(alias).as_secs()
        ))
        .hint("See whether seawall-agent runs on its machine and reaches the coordinator."))
    }

    async fn back_up_shard(
        &self,
        id: OperationId,
        shard: &ShardId,
        request: &v1::StartBackupsRequest,
    ) -> seawall_common::Result<Operation> {
        let id = id.derived(&shard.to_string());
        if let Some(known) = self.known(&id).await? {
            return Ok(known);
        }
        let alias = self.context.group.look(|state| {
            let heartbeats = &self.context.heartbeats;
            choice::tablet_to_back_up(state, heartbeats, shard, request.allow_primary)
        })?;
        let spec = Spec::Backup {
            alias,
            concurrency: convert::concurrency(request.concurrency)?,
            no_wait: request.no_wait,
            allow_primary: request.allow_primary,
        };
        self.start_one(id, spec, request.timeout_ms).await
    }

    /// Where a removal of it has work, or, asked again under the same id, has had.
    pub(super) async fn shards_of_recipient(
        &self,
        id: OperationId,
        recipient: &str,
    ) -> seawall_common::Result<BTreeSet<ShardId>> {
        let found = self.context.store.shards_of_recipient(recipient).await?;
        let mut shards = BTreeSet::from_iter(found);
        let started = |state: &State| -> Vec<ShardId> {
            let own = state.operations.iter();
            own.filter(|operation| operation.id == id.derived(&operation.shard.to_string()))
                .map(|operation| operation.shard.clone())
                .collect()
        };
        shards.extend(self.context.group.read(started).await?);
        if shards.is_empty() {
            return Err(Error::not_found(format!(
                "recipient {recipient} has no key file in the repository"
            ))
            .hint("ListRecipients shows who has."));
        }
        Ok(shards)
    }

    fn view(&self, operation: &Operation) -> v1::Operation {
        convert::operation(operation, self.context.heartbeats.progress(operation.id))
    }
}

#[tonic::async_trait]
impl Operations for OperationsService {
    async fn start(
        &self,
        request: Request<v1::StartOperationRequest>,
    ) -> Result<Response<v1::Operation>, Status> {
        let caller = Caller::of_request(&request);
        let request = request.into_inner();
        let id: OperationId = request.id.parse()?;
        let spec = convert::spec_from(request.spec)?;
        check_agents_own(&caller, &spec)?;
        let operation = self.start_one(id, spec, request.timeout_ms).await?;
        Ok(Response::new(self.view(&operation)))
    }

    async fn start_backups(
        &self,
        request: Request<v1::StartBackupsRequest>,
    ) -> Result<Response<v1::StartBackupsResponse>, Status> {
        let request = request.into_inner();
        let id: OperationId = request.id.parse()?;
        check_keyspace(&request.keyspace)?;
        convert::concurrency(request.concurrency)?;
        let known = self
            .context
            .group
            .read(|state| state.topology.shards())
            .await?;
        let shards: BTreeSet<ShardId> = if request.shard.is_empty() {
            let of_keyspace = |shard: &ShardId| shard.keyspace() == request.keyspace;
            known.into_iter().filter(of_keyspace).collect()
        } else {
            let shard = ShardId::new(&request.keyspace, &request.shard)?;
            if !known.contains(&shard) {
                return Err(unknown_shard(&shard).into());
            }
            BTreeSet::from([shard])
        };
        if shards.is_empty() {
            return Err(
                Error::not_found(format!("no keyspace {}", request.keyspace))
                    .hint("ListTablets shows those that are known.")
                    .into(),
            );
        }
        let mut answer = v1::StartBackupsResponse::default();
        for shard in &shards {
            match self.back_up_shard(id, shard, &request).await {
                Ok(operation) => answer.operations.push(self.view(&operation)),
                Err(e) if e.is_retryable() => return Err(e.into()),
                Err(e) => answer.refused.push(v1::RefusedBackup {
                    shard: Some(shard.to_proto()),
                    error: e.message().to_owned(),
                    hint: e.hint_text().unwrap_or_default().to_owned(),
                }),
            }
        }
        Ok(Response::new(answer))
    }

    async fn start_remove_recipient(
        &self,
        request: Request<v1::StartRemoveRecipientRequest>,
    ) -> Result<Response<v1::StartRemoveRecipientResponse>, Status> {
        let request = request.into_inner();
        let id: OperationId = request.id.parse()?;
        check_fingerprint(&request.recipient)?;
        self.context.check_owner().await?;
        let recipient = &request.recipient;
        let mut answer = v1::StartRemoveRecipientResponse::default();
        for shard in self.shards_of_recipient(id, recipient).await? {
            let id = id.derived(&shard.to_string());
            let spec = Spec::RemoveRecipient {
                shard,
                recipient: recipient.clone(),
            };
            let operation = self.start_one(id, spec, request.timeout_ms).await?;
            answer.operations.push(self.view(&operation));
        }
        Ok(Response::new(answer))
    }

    async fn plan_restore(
        &self,
        request: Request<v1::PlanRestoreRequest>,
    ) -> Result<Response<v1::PlanRestoreResponse>, Status> {
        let plan = self.plan_restore_of(request.into_inner()).await?;
        Ok(Response::new(plan))
    }

    async fn plan_removal(
        &self,
        request: Request<v1::PlanRemovalRequest>,
    ) -> Result<Response<v1::PlanRemovalResponse>, Status> {
        let plan = self.plan_removal_of(request.into_inner()).await?;
        Ok(Response::new(plan))
    }

    async fn plan_recipient_removal(
        &self,
        request: Request<v1::PlanRecipientRemovalRequest>,
    ) -> Result<Response<v1::PlanRecipientRemovalResponse>, Status> {
        let recipient = request.into_inner().recipient;
        let plan = self.plan_recipient_removal_of(&recipient).await?;
        Ok(Response::new(plan))
    }

    async fn list(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Result<Response<v1::ListOperationsResponse>, Status> {
        let all = request.get_ref().all;
        let since = now_unix_ms().saturating_sub(millis(LISTED_FOR));
        let operations = read(&self.context, request.metadata(), |state| {
            let mut operations: Vec<&Operation> = state
                .operations
                .iter()
                .filter(|o| all || o.finished_unix_ms.is_none_or(|at| at >= since))
                .collect();
            operations.sort_by_key(|operation| (operation.created_unix_ms, operation.id));
            operations.into_iter().map(|o| self.view(o)).collect()
        });
        let operations = operations.await?;
        Ok(Response::new(v1::ListOperationsResponse { operations }))
    }

    async fn get(
        &self,
        request: Request<v1::GetOperationRequest>,
    ) -> Result<Response<v1::Operation>, Status> {
        let id: OperationId = request.get_ref().id.parse()?;
        let operation = read(&self.context, request.metadata(), |state| {
            state.operations.get(&id).cloned()
        });
        Ok(Response::new(self.view(&operation.await??)))
    }

    type WatchStream = Updates<v1::Operation>;

    async fn watch(
        &self,
        request: Request<v1::WatchOperationRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let id: OperationId = request.into_inner().id.parse()?;
        self.context
            .group
            .read(|state| state.operations.get(&id).map(|_| ()))
            .await??;
        let updates = watch::changes(self.context.clone(), Some(REPEAT_AFTER), move |context| {
            let operation = context
                .group
                .look(|state| state.operations.get(&id).cloned())?;
            let progress = context.heartbeats.progress(id);
            Ok(Look {
                message: convert::operation(&operation, progress),
                is_last: !operation.state.is_open(),
            })
        });
        Ok(Response::new(updates))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelOperationRequest>,
    ) -> Result<Response<v1::Operation>, Status> {
        let request = request.into_inner();
        check_text("reason", &request.reason)?;
        let cancel = operations::Command::Cancel {
            id: request.id.parse()?,
            reason: request.reason,
        };
        let answer = self
            .context
            .group
            .propose(Command::Operations(cancel))
            .await?;
        match answer {
            Answer::Operation(operation) => Ok(Response::new(self.view(&operation))),
            other => Err(unexpected(&other).into()),
        }
    }
}
