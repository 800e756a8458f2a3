use seawall_common::ids::{Alias, BackupName};
use seawall_proto::v1::{self, operation_spec::Spec, operations_client::OperationsClient};

use super::{Context, incomplete_answer};
use crate::{
    exit::Outcome,
    operation::{Launch, carry_out},
    output::{human, json},
};

/// Puts a backup in the place of a tablet's data; refuses a primary
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// Tablet, as cell-uid: zone1-101
    #[arg(value_name = "ALIAS")]
    alias: Alias,
    /// Unset: the newest complete one that fits
    #[arg(long, value_name = "NAME")]
    backup: Option<BackupName>,
    /// Files that are fetched and written at the same time; unset: the agent's restore_concurrency
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: Option<u32>,
    /// Print which backup would be taken, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    launch: Launch,
}

impl Restore {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("Restore {}", self.alias);
        if self.dry_run {
            let plan = self.plan(context).await;
            let (tablet, backup) = plan.map_err(|failure| failure.of(what))?;
            return print_plan(context, &tablet, &backup);
        }
        let backup = self.backup.as_ref().map(BackupName::to_string);
        let spec = Spec::Restore(v1::RestoreSpec {
            alias: self.alias.to_string(),
            backup: backup.unwrap_or_default(),
            empty_start: false,
            // 0: the agent knows best.
            concurrency: self.concurrency.unwrap_or(0),
        });
        let Some(operation) = carry_out(context, &what, spec, &self.launch).await? else {
            return Ok(());
        };
        context.print(
            &json::Operation::from(&operation),
            || operation.backup.clone(),
            || format!("{} is restored from {}", self.alias, operation.backup),
        )
    }

    /// What the coordinator would choose now: the tablet, and the backup to put on it.
    async fn plan(&self, context: &Context) -> Outcome<(v1::Tablet, v1::Backup)> {
        let backup = self.backup.as_ref().map(BackupName::to_string);
        let request = v1::PlanRestoreRequest {
            alias: self.alias.to_string(),
            backup: backup.unwrap_or_default(),
        };
        let plan = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { OperationsClient::new(channel).plan_restore(request).await }
            })
            .await?;
        let tablet = plan.tablet.ok_or_else(|| incomplete_answer("tablet"))?;
        let backup = plan.backup.ok_or_else(|| incomplete_answer("backup"))?;
        Ok((tablet, backup))
    }
}

fn print_plan(context: &Context, tablet: &v1::Tablet, backup: &v1::Backup) -> Outcome {
    let plan = json::RestorePlan {
        tablet: tablet.into(),
        backup: backup.into(),
    };
    context.print(
        &plan,
        || backup.name.clone(),
        || {
            format!(
                "would restore {} onto {}: {} at {}, taken {}",
                backup.name,
                tablet.alias,
                human::size(backup.logical_bytes),
                human::or_dash(&backup.position),
                human::time_short(backup.ended_unix_ms),
            )
        },
    )
}
