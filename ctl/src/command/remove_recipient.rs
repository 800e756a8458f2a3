use std::sync::Mutex;

use futures::future::join_all;
use seawall_common::{Error, ids::OperationId, repository::fingerprint_of};
use seawall_proto::v1::{self, operations_client::OperationsClient};

use super::{Context, lines};
use crate::{
    exit::{Failure, Outcome},
    operation::{Launch, follow, interruptible, is_final, let_go},
    output::{json, progress::Progress, table},
};

/// Takes a key out of use: the coordinator deletes its small key files, never the last one of a session
///
/// What its owner has read or copied before stays open to them. Take it out of repository.recipients of
/// every agent first, or the next backups are written for it again.
#[derive(Debug, clap::Args)]
pub struct RemoveRecipient {
    /// Its fingerprint, as ListRecipients shows it, or the public key
    #[arg(value_name = "RECIPIENT")]
    recipient: String,
    /// Print which key files would go and which would stay, and delete nothing
    #[arg(long, conflicts_with_all = ["detach", "deadline"])]
    dry_run: bool,
    #[command(flatten)]
    launch: Launch,
}

impl RemoveRecipient {
    pub async fn run(self, context: &Context) -> Outcome {
        let fingerprint = fingerprint_of(&self.recipient).map_err(Failure::usage)?;
        if self.dry_run {
            let what = format!("RemoveRecipient {fingerprint} --dry-run");
            let plan = plan(context, &fingerprint).await;
            let shown = plan.and_then(|plan| print_plan(context, &fingerprint, &plan.shards));
            return shown.map_err(|failure| failure.of(what));
        }
        let ids = Mutex::new(Vec::new());
        let request = v1::StartRemoveRecipientRequest {
            id: OperationId::generate().to_string(),
            recipient: fingerprint.clone(),
            timeout_ms: self.launch.deadline_ms(),
        };
        let work = async {
            let started = context
                .client
                .call_reading(|channel| {
                    let request = request.clone();
                    async move {
                        let mut client = OperationsClient::new(channel);
                        client.start_remove_recipient(request).await
                    }
                })
                .await?;
            *ids.lock().unwrap_or_else(|e| e.into_inner()) =
                started.operations.iter().map(|op| op.id.clone()).collect();
            let operations = match self.launch.detach {
                true => started.operations,
                false => follow_all(context, started.operations).await?,
            };
            report(context, &operations, self.launch.detach)
        };
        interruptible(work, || {
            let_go(&ids.lock().unwrap_or_else(|e| e.into_inner()))
        })
        .await
        .map_err(|failure| failure.of(format_args!("RemoveRecipient {fingerprint}")))
    }
}

/// What a removal would do now.
async fn plan(context: &Context, recipient: &str) -> Outcome<v1::PlanRecipientRemovalResponse> {
    let request = v1::PlanRecipientRemovalRequest {
        recipient: recipient.to_owned(),
    };
    context
        .client
        .call_reading(|channel| {
            let request = request.clone();
            async move {
                let mut client = OperationsClient::new(channel);
                client.plan_recipient_removal(request).await
            }
        })
        .await
}

/// Fails, as the removal would, when key files have to stay.
fn print_plan(context: &Context, recipient: &str, shards: &[v1::ShardRecipientRemoval]) -> Outcome {
    let keys = || shards.iter().flat_map(|shard| &shard.backups);
    context.print(
        &json::RecipientRemovalPlan::new(recipient, shards),
        || lines(keys().map(|keys| keys.backup.as_str())),
        || table::recipient_removal(shards),
    )?;
    match keys().map(|keys| keys.staying).sum::<u64>() {
        0 => Ok(()),
        staying => Err(Failure::failed(
            Error::refused(format!(
                "key files that would stay: {staying}, each the last one of its session"
            ))
            .hint("Run AddRecipient for another key first."),
        )),
    }
}

async fn follow_all(
    context: &Context,
    operations: Vec<v1::Operation>,
) -> Outcome<Vec<v1::Operation>> {
    context.client.learn_members().await;
    let progress = Mutex::new(Progress::new());
    let follow_one = async |operation: v1::Operation| match is_final(&operation) {
        true => Ok(operation),
        false => follow(&context.client, &operation.id, &progress).await,
    };
    join_all(operations.into_iter().map(follow_one))
        .await
        .into_iter()
        .collect()
}

fn is_well(operation: &v1::Operation) -> bool {
    operation.state() == v1::OperationState::Succeeded
}

/// Prints what came of each shard, and fails when not all went well.
fn report(context: &Context, operations: &[v1::Operation], detach: bool) -> Outcome {
    let shard = |operation: &v1::Operation| {
        let shard = operation.shard.clone().unwrap_or_default();
        format!("{}/{}", shard.keyspace, shard.shard)
    };
    context.print(
        &json::Operations::from(operations),
        || lines(operations.iter().map(|operation| operation.id.as_str())),
        || {
            let told = operations.iter().filter(|one| detach || is_well(one));
            let told = told.map(|one| match one.result.as_str() {
                "" => format!("{}: {}", shard(one), one.id),
                result => format!("{}: {result}", shard(one)),
            });
            told.collect::<Vec<_>>().join("\n")
        },
    )?;
    let mut wrong = operations.iter().filter(|one| !detach && !is_well(one));
    let Some(first) = wrong.next() else {
        return Ok(());
    };
    let others = match wrong.count() {
        0 => String::new(),
        others => format!(" (and in {others} other shards)"),
    };
    let why = match first.error.as_str() {
        "" => "its operation did not succeed",
        error => error.trim_end_matches('.'),
    };
    Err(Failure::failed(Error::refused(format!(
        "{}{others}: {why}",
        shard(first)
    ))))
}
