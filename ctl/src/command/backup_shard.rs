//! `BackupShard` and `BackupKeyspace`: one backup for each shard, all followed at once.

use std::sync::Mutex;

use futures::future::join_all;
use seawall_common::{
    Error,
    ids::{OperationId, ShardId},
};
use seawall_proto::v1::{self, operations_client::OperationsClient};

use super::{Context, backup::BackupOptions, lines, scope};
use crate::{
    exit::{Failure, Outcome},
    operation::{Launch, follow, interruptible, is_final, let_go},
    output::{
        json::{BackupRef, BackupRefs},
        progress::Progress,
        table,
    },
};

/// Backs up one tablet of a shard, the replica with the least known lag
#[derive(Debug, clap::Args)]
pub struct BackupShard {
    #[command(flatten)]
    options: BackupOptions,
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    #[command(flatten)]
    launch: Launch,
}

impl BackupShard {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("BackupShard {}", self.shard);
        let (keyspace, shard) = (self.shard.keyspace(), self.shard.shard());
        let request = request(keyspace, shard, &self.options, &self.launch);
        back_up(context, &what, request, self.launch.detach).await
    }
}

/// Backs up every shard of a keyspace, each on its own
#[derive(Debug, clap::Args)]
pub struct BackupKeyspace {
    #[command(flatten)]
    options: BackupOptions,
    #[arg(value_name = "KEYSPACE", value_parser = scope::keyspace)]
    keyspace: String,
    #[command(flatten)]
    launch: Launch,
}

impl BackupKeyspace {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("BackupKeyspace {}", self.keyspace);
        let request = request(&self.keyspace, "", &self.options, &self.launch);
        back_up(context, &what, request, self.launch.detach).await
    }
}

fn request(
    keyspace: &str,
    shard: &str,
    options: &BackupOptions,
    launch: &Launch,
) -> v1::StartBackupsRequest {
    v1::StartBackupsRequest {
        id: OperationId::generate().to_string(),
        keyspace: keyspace.to_owned(),
        shard: shard.to_owned(),
        concurrency: options.concurrency,
        no_wait: options.no_wait,
        allow_primary: options.allow_primary,
        timeout_ms: launch.deadline_ms(),
    }
}

async fn back_up(
    context: &Context,
    what: &str,
    request: v1::StartBackupsRequest,
    detach: bool,
) -> Outcome {
    let ids = Mutex::new(Vec::new());
    let work = async {
        let started = context
            .client
            .call_reading(|channel| {
                let request = request.clone();
                async move { OperationsClient::new(channel).start_backups(request).await }
            })
            .await?;
        *ids.lock().unwrap_or_else(|e| e.into_inner()) =
            started.operations.iter().map(|op| op.id.clone()).collect();
        let mut results: Vec<BackupRef> = if detach {
            started.operations.iter().map(BackupRef::from).collect()
        } else {
            follow_all(context, &started.operations).await
        };
        results.extend(started.refused.iter().map(BackupRef::from));
        report(context, results, detach)
    };
    interruptible(work, || {
        let_go(&ids.lock().unwrap_or_else(|e| e.into_inner()))
    })
    .await
    .map_err(|failure| failure.of(what))
}

async fn follow_all(context: &Context, operations: &[v1::Operation]) -> Vec<BackupRef> {
    context.client.learn_members().await;
    let progress = Mutex::new(Progress::new());
    let follow_one = async |operation: &v1::Operation| {
        if is_final(operation) {
            return BackupRef::from(operation);
        }
        match follow(&context.client, &operation.id, &progress).await {
            Ok(ended) => BackupRef::from(&ended),
            Err(failure) => BackupRef {
                state: "unknown".to_owned(),
                error: Some(failure.error.to_string()),
                ..BackupRef::from(operation)
            },
        }
    };
    join_all(operations.iter().map(follow_one)).await
}

/// Prints what came of each shard, and fails when not all went well.
fn report(context: &Context, mut results: Vec<BackupRef>, detach: bool) -> Outcome {
    results.sort_by_key(BackupRef::shard_name);
    let wanted = if detach { "running" } else { "succeeded" };
    let went_wrong = |result: &&BackupRef| result.state != wanted && result.state != "succeeded";
    let wrong: Vec<BackupRef> = results.iter().filter(went_wrong).cloned().collect();
    let total = results.len();
    let names = |result: &BackupRef| {
        let name = if detach {
            &result.operation_id
        } else {
            &result.backup
        };
        name.clone()
    };
    let good: Vec<String> = results
        .iter()
        .filter(|result| !went_wrong(result))
        .filter_map(names)
        .collect();
    if total > wrong.len() {
        context.print(
            &BackupRefs {
                shards: results.clone(),
            },
            || lines(good.iter().map(String::as_str)),
            || match &*results {
                [only] => names(only).unwrap_or_default(),
                _ => table::backup_refs(&results),
            },
        )?;
    }
    match &*wrong {
        [] => Ok(()),
        [first, ..] => Err(Failure::failed(shards_failed(first, wrong.len(), total))),
    }
}

fn shards_failed(first: &BackupRef, wrong: usize, total: usize) -> Error {
    let why = first
        .error
        .as_deref()
        .unwrap_or("it has no error of its own");
    let why = why.trim_end_matches('.');
    let message = if total == 1 {
        format!("{}: {why}", first.state)
    } else {
        format!(
            "{wrong} of {total} shards have no new backup; {} {}: {why}",
            first.shard_name(),
            first.state
        )
    };
    let error = Error::refused(message);
    match &first.operation_id {
        Some(id) => error.hint(format!(
            "\"seawallctl WatchOperation {id}\" shows its steps."
        )),
        None => error,
    }
}
