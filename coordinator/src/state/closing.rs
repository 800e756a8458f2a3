//! How an operation ends: everything that it was granted goes back in one breath.
//!
//! A backup that was given up ends only after its `removed` mark is in the repository (I2): its
//! hold cannot be let go of before. The objects of a removed backup are left to a sweep.

use seawall_common::{
    Error, Result,
    ids::{BackupName, ShardId},
};

use super::{
    Response, State,
    catalogue::Known,
    operations::{Finish, Operation, OperationState, Spec, Start},
};

pub fn finish(state: &mut State, finish: &Finish) -> Result<Response> {
    let operation = state.operations.get(&finish.id)?;
    if !operation.state.is_open() {
        return Ok(Response::Operation(Box::new(operation.clone())));
    }
    let ended = ended_state(operation, finish)?;
    check_given_up(state, operation)?;
    let left_behind = left_behind(operation, ended);
    let shard = operation.shard.clone();

    if let Some(alias) = operation.spec.tablet() {
        state.topology.end_work(alias, false);
    }
    state.locks.release_all_of(finish.id);
    let operation = state.operations.open_mut(&finish.id)?;
    operation.state = ended;
    operation.finished_unix_ms = Some(finish.now_unix_ms);
    operation.result.clone_from(&finish.result);
    operation.references.clear();
    if finish.error.is_some() {
        operation.error.clone_from(&finish.error);
    }
    let ended = operation.clone();
    state.schedules.operation_ended(&ended);
    let answer = Response::Operation(Box::new(ended));
    if let Some(backup) = left_behind {
        begin_sweep(state, finish, shard, backup);
    }
    state.operations.forget_old();
    state.catalogue.forget_old();
    Ok(answer)
}

fn ended_state(operation: &Operation, finish: &Finish) -> Result<OperationState> {
    match (operation.state, &finish.error) {
        (OperationState::Undoing, _) if operation.cancelled => Ok(OperationState::Cancelled),
        (OperationState::Undoing, _) => Ok(OperationState::Failed),
        (_, None) => Ok(OperationState::Succeeded),
        (_, Some(_)) if operation.irrevocable => Ok(OperationState::Failed),
        // These change nothing that could be undone.
        (_, Some(_)) if matches!(operation.spec, Spec::Sweep { .. } | Spec::Collect { .. }) => {
            Ok(OperationState::Failed)
        }
        (_, Some(_)) => Err(Error::internal(format!(
            "operation {} has to be undone before it ends",
            operation.id
        ))),
    }
}

/// I2: first `removed`, then the hold.
fn check_given_up(state: &State, operation: &Operation) -> Result<()> {
    if let (Spec::RemoveBackup { backup, .. }, true) = (&operation.spec, operation.irrevocable)
        && let Ok(entry) = state.catalogue.entry(&operation.shard, backup)
        && entry.known != Known::Removed
    {
        return Err(Error::internal(format!(
            "the removal of {backup} of {} is decided, but not yet marked",
            operation.shard
        )));
    }
    let (Spec::Backup { .. }, Some(name)) = (&operation.spec, &operation.backup) else {
        return Ok(());
    };
    let entry = state.catalogue.entry(&operation.shard, name)?;
    if entry.known != Known::Running {
        return Ok(());
    }
    Err(Error::internal(format!(
        "backup {name} of {} is neither complete nor given up",
        operation.shard
    )))
}

/// The backup whose objects a removal, or a backup that was given up, leaves behind.
fn left_behind(operation: &Operation, ended: OperationState) -> Option<BackupName> {
    let is_left = match operation.spec {
        Spec::Backup { .. } => !operation.irrevocable,
        Spec::RemoveBackup { .. } => operation.irrevocable || ended == OperationState::Succeeded,
        _ => false,
    };
    operation.backup.clone().filter(|_| is_left)
}

fn begin_sweep(state: &mut State, finish: &Finish, shard: ShardId, backup: BackupName) {
    let start = Start {
        id: finish.id.derived("sweep"),
        spec: Spec::Sweep {
            shard: shard.clone(),
            backup: backup.clone(),
            not_before_unix_ms: finish.sweep_not_before_unix_ms,
        },
        now_unix_ms: finish.now_unix_ms,
        deadline_unix_ms: finish.sweep_deadline_unix_ms,
    };
    let mut operation = Operation::new(start.id, start.spec.clone(), shard, &start);
    operation.backup = Some(backup);
    state.operations.all.entry(start.id).or_insert(operation);
}
