//! What an operation would do: dry runs. Each refuses what the operation would be refused, and
//! changes nothing.

use std::time::Duration;

use seawall_common::{
    Error, Result,
    clock::now_unix_ms,
    ids::{Alias, BackupName, OperationId, ShardId},
    repository::check_fingerprint,
};
use seawall_proto::v1;

use super::{
    convert,
    operations::{OperationsService, REMOVAL_DEADLINE, TRANSFER_DEADLINE, start_command},
    tablet_view,
};
use crate::{
    operation::{choice, driver::millis, recipients, refresh},
    state::{
        Command, State,
        operations::{self, Spec},
    },
};

/// For how long an agent reads what it has for a plan, at most.
const PLAN_LIMIT_MAX: Duration = Duration::from_secs(3600);

impl OperationsService {
    pub(super) async fn plan_restore_of(
        &self,
        request: v1::PlanRestoreRequest,
    ) -> Result<v1::PlanRestoreResponse> {
        let alias: Alias = request.alias.parse()?;
        let backup = convert::backup_named(&request.backup)?;
        if request.limit_ms > millis(PLAN_LIMIT_MAX) {
            return Err(Error::invalid(format!(
                "a plan takes at most {} s",
                PLAN_LIMIT_MAX.as_secs()
            )));
        }
        let spec = Spec::Restore {
            alias: alias.clone(),
            backup: backup.clone(),
            empty_start: false,
            concurrency: 0,
            allow_broken: request.allow_broken,
        };
        let shard = self.shard_of(&alias).await?;
        refresh::refresh(&self.context, &shard).await?;
        let start = start_command(OperationId::generate(), spec, TRANSFER_DEADLINE);
        let plan = self.context.group.read(|state| {
            admitted(state, &start)?;
            self.restore_plan(state, &alias, backup.as_ref(), request.allow_broken)
        });
        let mut plan = plan.await??;
        if request.limit_ms > 0 {
            match self
                .ask_what_is_fetched(&alias, &plan, request.limit_ms)
                .await
            {
                Ok(fetch) => plan.fetch = Some(fetch),
                Err(error) => plan.fetch_unknown = error.to_string(),
            }
        }
        Ok(plan)
    }

    /// What a restore would take, as of now.
    fn restore_plan(
        &self,
        state: &State,
        alias: &Alias,
        backup: Option<&BackupName>,
        allow_broken: bool,
    ) -> Result<v1::PlanRestoreResponse> {
        let heartbeats = &self.context.heartbeats;
        let tablet = state.topology.tablet(alias)?;
        let choice = choice::for_tablet(state, heartbeats, alias, backup, allow_broken)?;
        let entry = choice
            .chosen
            .ok_or_else(|| choice::no_backup(&tablet.shard))?;
        Ok(v1::PlanRestoreResponse {
            tablet: Some(tablet_view::tablet(state, heartbeats, tablet)),
            backup: Some(convert::backup(&entry)),
            fetch: None,
            fetch_unknown: String::new(),
            passed_over: choice.skipped,
        })
    }

    /// Only the agent knows what lies on its disk.
    async fn ask_what_is_fetched(
        &self,
        alias: &Alias,
        plan: &v1::PlanRestoreResponse,
        limit_ms: u64,
    ) -> Result<v1::FetchPlan> {
        self.check_heard(alias)?;
        let address = self.context.group.look(|state| {
            let tablet = state.topology.tablet(alias)?;
            Ok::<_, Error>(tablet.agent_address.clone())
        })?;
        let backup = plan.backup.clone().unwrap_or_default();
        let request = v1::PlanFetchRequest {
            alias: alias.to_string(),
            backup: backup.name,
            manifest_hash: backup.manifest_hash,
            limit_ms,
        };
        self.context.agents.plan_fetch(&address, request).await
    }

    pub(super) async fn plan_removal_of(
        &self,
        request: v1::PlanRemovalRequest,
    ) -> Result<v1::PlanRemovalResponse> {
        let shard = ShardId::from_proto(request.shard.as_ref())?;
        let backup: BackupName = request.backup.parse()?;
        let spec = Spec::RemoveBackup {
            shard: shard.clone(),
            backup: backup.clone(),
            force: request.force,
            reason: String::new(),
            by_retention: false,
        };
        self.check_before(&spec).await?;
        let start = start_command(OperationId::generate(), spec, REMOVAL_DEADLINE);
        let plan = self.context.group.read(|state| {
            let removing = admitted(state, &start)?;
            let going = removing.operations.removals(&shard);
            let complete = removing.catalogue.complete_ones(&shard);
            let left = complete
                .filter(|entry| !going.contains(&entry.name))
                .count();
            let entry = state.catalogue.entry(&shard, &backup)?;
            Ok(v1::PlanRemovalResponse {
                backup: Some(convert::backup(entry)),
                complete_left: u32::try_from(left).unwrap_or(u32::MAX),
                grace_ms: millis(self.context.patience.removal_grace),
            })
        });
        plan.await?
    }

    pub(super) async fn plan_recipient_removal_of(
        &self,
        recipient: &str,
    ) -> Result<v1::PlanRecipientRemovalResponse> {
        check_fingerprint(recipient)?;
        self.context.check_owner().await?;
        let mut answer = v1::PlanRecipientRemovalResponse::default();
        let shards = self.shards_of_recipient(OperationId::generate(), recipient);
        for shard in shards.await? {
            let waits_for = self.recipient_removal_waits_for(&shard, recipient).await?;
            let store = &self.context.store;
            let plan = store.plan_recipient_removal(&shard, recipient).await?;
            let keys = plan.iter().map(|(backup, files)| v1::RecipientKeys {
                backup: backup.to_string(),
                going: files.going,
                staying: files.staying,
            });
            answer.shards.push(v1::ShardRecipientRemoval {
                shard: Some(shard.to_proto()),
                backups: keys.collect(),
                waits_for: waits_for.unwrap_or_default(),
            });
        }
        Ok(answer)
    }

    /// What would keep a removal of a recipient waiting, as of now; an error: it would be refused.
    async fn recipient_removal_waits_for(
        &self,
        shard: &ShardId,
        recipient: &str,
    ) -> Result<Option<String>> {
        let id = OperationId::generate();
        let spec = Spec::RemoveRecipient {
            shard: shard.clone(),
            recipient: recipient.to_owned(),
        };
        let start = start_command(id, spec, TRANSFER_DEADLINE);
        let take = Command::Operations(operations::Command::TakeDeleteSide {
            id,
            now_unix_ms: now_unix_ms(),
        });
        let lock = self.context.group.read(|state| {
            let mut removing = admitted(state, &start)?;
            Ok::<_, Error>(removing.apply(&take).into_result().err())
        });
        let lock = lock.await??.map(|held| held.to_string());
        let unsettled = || recipients::unsettled(&self.context, shard, recipient);
        Ok(lock.or_else(|| unsettled().map(|(_, why)| why)))
    }
}

/// The state with the operation started, on a copy that nobody keeps: whatever the state machine
/// refuses, it refuses here.
fn admitted(state: &State, start: &Command) -> Result<State> {
    let mut state = state.clone();
    state.apply(start).into_result()?;
    Ok(state)
}
