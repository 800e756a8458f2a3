//! What the end of a step changes besides the step.

use seawall_common::{
    Error, Result,
    ids::{BackupName, OperationId},
};
use serde::{Deserialize, Serialize};

use super::{Operation, OperationState, Outcome, Spec};
use crate::state::{
    State,
    catalogue::{Facts, Known},
    locks::Locks,
    verification,
};

/// What the end of a step changes besides the step, in the same breath.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    None,
    /// From here on only forward.
    PointOfNoReturn,
    /// A restore knows which backup it restores.
    Chosen(BackupName),
    /// The tablet has the type that it had, or that it was given meanwhile.
    WorkEnded,
    /// The backup's manifest is in the repository: it stands whatever comes.
    BackupComplete(Box<Facts>),
    /// A verification, or a restore test, has come to the result that is in the outcome.
    Verified,
    /// One that was given up had found the damage that is in the outcome: it is no less damage.
    DamageFound,
    /// The backup's `removed` mark is in the repository.
    BackupRemoved {
        reason: String,
    },
}

pub(super) fn take_effect(
    state: &mut State,
    id: &OperationId,
    outcome: &Outcome,
    effect: &Effect,
) -> Result<()> {
    let operation = state.operations.open_mut(id)?;
    let shard = operation.shard.clone();
    let running = operation.state == OperationState::Running;
    let check_running = || {
        if running {
            Ok(())
        } else {
            Err(Error::cancelled(format!(
                "operation {id} is no longer running"
            )))
        }
    };
    match effect {
        Effect::None => {}
        Effect::PointOfNoReturn => {
            check_running()?;
            operation.irrevocable = true;
        }
        Effect::Chosen(name) => {
            check_running()?;
            operation.backup = Some(name.clone());
        }
        Effect::WorkEnded => {
            if let Some(alias) = operation.spec.tablet() {
                let caught_up = matches!(operation.spec, Spec::Restore { .. });
                state.topology.end_work(alias, caught_up);
            }
        }
        Effect::BackupComplete(facts) => {
            check_running()?;
            check_held(operation, &state.locks)?;
            let name = operation.own_backup()?.clone();
            let entry = state.catalogue.entry(&shard, &name)?;
            if entry.known == Known::Removed {
                return Err(Error::fenced(format!(
                    "backup {name} of {shard} was given up: it cannot be completed any more"
                )));
            }
            operation.irrevocable = true;
            state.catalogue.complete(&shard, &name, facts);
        }
        Effect::Verified | Effect::DamageFound => {
            if *effect == Effect::Verified {
                check_running()?;
            }
            let name = operation.own_backup()?.clone();
            let is_test = matches!(operation.spec, Spec::TestRestore { .. });
            let result = outcome.verification.as_ref();
            if let Some(result) = result.filter(|r| *effect == Effect::Verified || !r.passed) {
                let (packs, is_more) = (&outcome.damaged_packs, outcome.more_damaged);
                let catalogue = &mut state.catalogue;
                catalogue.note_damage(&shard, packs, is_more, result.at_unix_ms);
                verification::record(catalogue, &shard, &name, result, is_test);
            }
        }
        Effect::BackupRemoved { reason } => {
            let name = operation.own_backup()?.clone();
            if matches!(operation.spec, Spec::Backup { .. }) {
                // What has been completed is only removed by a removal.
                operation.check_revocable()?;
            }
            if matches!(operation.spec, Spec::RemoveBackup { .. }) {
                check_running()?;
                operation.irrevocable = true;
            }
            state.catalogue.remove(&shard, &name, reason);
        }
    }
    Ok(())
}

/// Without its hold a backup may have lost what it refers to: it is given up.
fn check_held(operation: &Operation, locks: &Locks) -> Result<()> {
    if locks.is_valid(&operation.hold_id(), operation.token) {
        return Ok(());
    }
    Err(Error::fenced(format!(
        "the hold of operation {} with token {} is gone: its backup cannot complete",
        operation.id, operation.token
    ))
    .hint("backup-lock --status shows who broke it, and why."))
}
