use std::time::Duration;

use seawall_common::{
    error::one_line,
    ids::{Alias, BackupName},
};
use seawall_proto::v1::{self, operation_spec::Spec, operations_client::OperationsClient};

use super::{Context, incomplete_answer};
use crate::{
    exit::Outcome,
    operation::{Launch, carry_out},
    output::{human, json},
};

/// What a plan takes beyond the reading: the manifest and its lists. More than the coordinator gives
/// its agent.
const PLAN_MARGIN: Duration = Duration::from_secs(70);
/// What is told of who waits for it.
const READING: &str = "the agent may be reading what the tablet has already";

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
    /// Also a backup that is marked as broken; only together with --backup
    #[arg(long, requires = "backup")]
    allow_broken: bool,
    /// Print which backup would be taken and what would be fetched, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// For how long a dry run may read what the tablet has already; 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "60s", requires = "dry_run", value_parser = humantime::parse_duration)]
    read_for: Duration,
    #[command(flatten)]
    launch: Launch,
}

impl Restore {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("Restore {}", self.alias);
        if self.dry_run {
            let plan = self.plan(context).await;
            let plan = plan.map_err(|failure| failure.of(what))?;
            return print_plan(context, &plan);
        }
        let backup = self.backup.as_ref().map(BackupName::to_string);
        let spec = Spec::Restore(v1::RestoreSpec {
            alias: self.alias.to_string(),
            backup: backup.unwrap_or_default(),
            empty_start: false,
            // 0: the agent knows best.
            concurrency: self.concurrency.unwrap_or(0),
            allow_broken: self.allow_broken,
        });
        let Some(operation) = carry_out(context, &what, spec, &self.launch).await? else {
            return Ok(());
        };
        context.print(
            &json::Operation::from(&operation),
            || operation.backup.clone(),
            || match operation.result.as_str() {
                "" => format!("{} is restored from {}", self.alias, operation.backup),
                // With what was passed over.
                result => one_line(result),
            },
        )
    }

    /// What the coordinator would choose now, and what the agent says of it.
    async fn plan(&self, context: &Context) -> Outcome<v1::PlanRestoreResponse> {
        let backup = self.backup.as_ref().map(BackupName::to_string);
        let request = v1::PlanRestoreRequest {
            alias: self.alias.to_string(),
            backup: backup.unwrap_or_default(),
            limit_ms: u64::try_from(self.read_for.as_millis()).unwrap_or(u64::MAX),
            allow_broken: self.allow_broken,
        };
        context
            .client
            .call_longer(self.read_for + PLAN_MARGIN, READING, |channel| {
                let request = request.clone();
                async move { OperationsClient::new(channel).plan_restore(request).await }
            })
            .await
    }
}

fn print_plan(context: &Context, plan: &v1::PlanRestoreResponse) -> Outcome {
    let tablet = plan.tablet.as_ref();
    let tablet = tablet.ok_or_else(|| incomplete_answer("tablet"))?;
    let backup = plan.backup.as_ref();
    let backup = backup.ok_or_else(|| incomplete_answer("backup"))?;
    context.print(
        &json::RestorePlan::new(tablet, backup, plan),
        || backup.name.clone(),
        || {
            let first = format!(
                "would restore {} onto {}: {} at {}, taken {}",
                backup.name,
                tablet.alias,
                human::size(backup.logical_bytes),
                human::or_dash(&backup.position),
                human::time_short(backup.ended_unix_ms),
            );
            let mut lines = vec![first];
            let passed_over = plan.passed_over.iter();
            lines.extend(passed_over.map(|why| format!("passes over {}", one_line(why))));
            match &plan.fetch {
                Some(fetch) => lines.extend(described(fetch)),
                None if plan.fetch_unknown.is_empty() => {}
                None => lines.push(format!(
                    "what would be fetched is not known: {}",
                    one_line(&plan.fetch_unknown)
                )),
            }
            lines.join("\n")
        },
    )
}

fn described(fetch: &v1::FetchPlan) -> Vec<String> {
    let size = human::size;
    let at_most = if fetch.upper_bound { "at most " } else { "" };
    let mut lines = vec![format!(
        "would fetch {at_most}{} in {} requests, for {} of {} of data",
        size(fetch.fetch_bytes),
        fetch.requests,
        size(fetch.missing_bytes),
        size(fetch.data_bytes)
    )];
    if fetch.upper_bound {
        lines.push("not all that is here could be read in time: --read-for gives it longer".into());
    }
    if fetch.resumed_bytes > 0 {
        lines.push(format!(
            "{} is here already, from a restore that was cut off",
            size(fetch.resumed_bytes)
        ));
    }
    if fetch.copied_bytes > 0 {
        lines.push(format!(
            "{} would be copied from the data that is replaced",
            size(fetch.copied_bytes)
        ));
    }
    for space in &fetch.space {
        let refused = match space.free_bytes < space.needed_bytes {
            true => ": it would be refused",
            false => "",
        };
        lines.push(format!(
            "needs {} free below {}, where {} is{refused}",
            size(space.needed_bytes),
            one_line(&space.path),
            size(space.free_bytes)
        ));
    }
    lines
}
