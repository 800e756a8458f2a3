use seawall_common::ids::{BackupName, ShardId};
use seawall_proto::v1::{self, operation_spec::Spec, operations_client::OperationsClient};

use super::{Context, incomplete_answer};
use crate::{
    exit::Outcome,
    operation::{Launch, carry_out},
    output::{json, table},
};

/// Removes a backup: at once from the list, its objects after the grace time
#[derive(Debug, clap::Args)]
pub struct RemoveBackup {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// As ListBackups shows it
    #[arg(value_name = "BACKUP")]
    name: BackupName,
    /// Also the last complete backup of the shard, and one that is pinned
    #[arg(long)]
    force: bool,
    /// Print whether it could be removed now and what would be left, and remove nothing
    #[arg(long, conflicts_with_all = ["detach", "deadline"])]
    dry_run: bool,
    #[command(flatten)]
    launch: Launch,
}

impl RemoveBackup {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("RemoveBackup {} {}", self.shard, self.name);
        if self.dry_run {
            let plan = self.plan(context).await;
            let plan = plan.map_err(|failure| failure.of(format_args!("{what} --dry-run")))?;
            return print_plan(context, &plan);
        }
        let spec = Spec::RemoveBackup(v1::RemoveBackupSpec {
            shard: Some(self.shard.to_proto()),
            backup: self.name.to_string(),
            force: self.force,
            ..Default::default()
        });
        let Some(operation) = carry_out(context, &what, spec, &self.launch).await? else {
            return Ok(());
        };
        context.print(
            &json::Operation::from(&operation),
            || self.name.to_string(),
            || match operation.result.as_str() {
                "" => format!("{} is removed", self.name),
                result => result.to_owned(),
            },
        )
    }

    /// What the coordinator would say of it now.
    async fn plan(&self, context: &Context) -> Outcome<v1::PlanRemovalResponse> {
        let request = v1::PlanRemovalRequest {
            shard: Some(self.shard.to_proto()),
            backup: self.name.to_string(),
            force: self.force,
        };
        context
            .client
            .call_reading(|channel| {
                let request = request.clone();
                async move { OperationsClient::new(channel).plan_removal(request).await }
            })
            .await
    }
}

fn print_plan(context: &Context, plan: &v1::PlanRemovalResponse) -> Outcome {
    let backup = plan.backup.as_ref();
    let backup = backup.ok_or_else(|| incomplete_answer("backup"))?;
    context.print(
        &json::RemovalPlan::new(backup, plan),
        || backup.name.clone(),
        || table::removal(backup, plan),
    )
}
