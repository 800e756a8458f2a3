//! Operations, with their steps and progress.

use seawall_proto::v1::{self, operation_spec::Spec};
use serde::Serialize;

use super::{keyspace, known, shard, time, word};

#[derive(Debug, Serialize)]
struct Step {
    name: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Progress {
    bytes_done: u64,
    bytes_total: Option<u64>,
    files_done: u64,
    files_total: Option<u64>,
    message: Option<String>,
    bytes_per_second: u64,
    left_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct Operation {
    id: String,
    kind: &'static str,
    keyspace: Option<String>,
    shard: Option<String>,
    alias: Option<String>,
    backup: Option<String>,
    state: String,
    attempt: u32,
    irrevocable: bool,
    steps: Vec<Step>,
    created_at: Option<String>,
    deadline_at: Option<String>,
    finished_at: Option<String>,
    error: Option<String>,
    result: Option<String>,
    progress: Option<Progress>,
}

impl From<&v1::Operation> for Operation {
    fn from(operation: &v1::Operation) -> Self {
        let (kind, alias) = kind_and_alias(operation);
        let total = |number: u64| (number > 0).then_some(number);
        Self {
            id: operation.id.clone(),
            kind,
            keyspace: keyspace(operation.shard.as_ref()),
            shard: shard(operation.shard.as_ref()),
            alias,
            backup: known(&operation.backup),
            state: word(operation.state()),
            attempt: operation.attempt,
            irrevocable: operation.irrevocable,
            steps: operation
                .steps
                .iter()
                .map(|step| Step {
                    name: step.name.clone(),
                    started_at: time(step.started_unix_ms),
                    ended_at: time(step.ended_unix_ms),
                    error: known(&step.error),
                })
                .collect(),
            created_at: time(operation.created_unix_ms),
            deadline_at: time(operation.deadline_unix_ms),
            finished_at: time(operation.finished_unix_ms),
            error: known(&operation.error),
            result: known(&operation.result),
            progress: operation.progress.as_ref().map(|progress| Progress {
                bytes_done: progress.bytes_done,
                bytes_total: total(progress.bytes_total),
                files_done: progress.files_done,
                files_total: total(progress.files_total),
                message: known(&progress.message),
                bytes_per_second: progress.bytes_per_second,
                left_ms: progress.left_ms,
            }),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Operations {
    operations: Vec<Operation>,
}

impl From<&[v1::Operation]> for Operations {
    fn from(operations: &[v1::Operation]) -> Self {
        Self {
            operations: operations.iter().map(Operation::from).collect(),
        }
    }
}

/// What an operation is, and the tablet that it works on, where it is about one.
pub fn kind_and_alias(operation: &v1::Operation) -> (&'static str, Option<String>) {
    match operation.spec.as_ref().and_then(|spec| spec.spec.as_ref()) {
        Some(Spec::Backup(spec)) => ("backup", known(&spec.alias)),
        Some(Spec::Restore(spec)) => ("restore", known(&spec.alias)),
        Some(Spec::RemoveBackup(_)) => ("remove_backup", None),
        Some(Spec::Sweep(_)) => ("sweep", None),
        Some(Spec::Collect(_)) => ("collect", None),
        Some(Spec::RemoveRecipient(_)) => ("remove_recipient", None),
        Some(Spec::InitShardPrimary(spec)) => ("init_shard_primary", known(&spec.alias)),
        Some(Spec::PlannedReparent(spec)) => ("planned_reparent", known(&spec.new_primary)),
        Some(Spec::Verify(spec)) => ("verify", known(&spec.alias)),
        Some(Spec::TestRestore(spec)) => ("test_restore", known(&spec.alias)),
        None => ("unknown", None),
    }
}
