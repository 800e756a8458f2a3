//! Whether a command may run: fencing, order of the steps, one owner of the database.
//!
//! Pure: it looks at the journal and decides.

use seawall_common::{Error, Result};

use super::Doing;
use crate::{
    call::{Call, StepCall},
    journal::{Contents, Operation, OperationKind, OperationState, Outcome, Step},
    watchdog::is_past_return,
};

#[derive(Debug, PartialEq)]
pub(super) enum Admission {
    Begin,
    Attach,
    Recorded(Outcome),
    /// It failed, and is not tried again in this attempt.
    Failed(Error),
    Undone(String),
}

const BACKUP: &[Step] = &[
    Step::Prepare,
    Step::Drain,
    Step::Note,
    Step::Stop,
    Step::Copy,
    Step::Start,
    Step::Reinstate,
    Step::CatchUp,
    Step::Serve,
];

const RESTORE: &[Step] = &[
    Step::Drain,
    Step::Fetch,
    Step::Install,
    Step::Start,
    Step::Reinstate,
    Step::CatchUp,
    Step::Serve,
];

/// Refuses what comes from a leader or an attempt that has been succeeded (I4).
pub(super) fn check_fence(contents: &Contents, call: &Call) -> Result<()> {
    if call.term < contents.term {
        return Err(Error::fenced(format!(
            "term {} is over: a command of term {} has been seen",
            call.term, contents.term
        )));
    }
    match contents.operation(call.operation) {
        Some(operation) if call.attempt < operation.attempt => Err(Error::fenced(format!(
            "attempt {} of operation {} is over: attempt {} has been seen",
            call.attempt, call.operation, operation.attempt
        ))),
        _ => Ok(()),
    }
}

pub(super) fn admit(
    contents: &Contents,
    call: &Call,
    step_call: &StepCall,
    doing: Option<Doing>,
) -> Result<Admission> {
    let step = step_call.step();
    check_owner(contents, call, step_call)?;
    let Some(operation) = contents.operation(call.operation) else {
        check_is_first(call, step_call)?;
        return Ok(Admission::Begin);
    };
    if operation.attempt < call.attempt {
        if operation.is_open() {
            return Err(Error::refused(format!(
                "attempt {} of operation {} is still open here",
                operation.attempt, operation.id
            )));
        }
        check_is_first(call, step_call)?;
        return Ok(Admission::Begin);
    }
    if let OperationState::GivingUp { reason, .. } | OperationState::Undone { reason } =
        &operation.state
    {
        return Ok(Admission::Undone(reason.clone()));
    }
    if let Some(outcome) = operation.outcome(step) {
        return Ok(Admission::Recorded(outcome.clone()));
    }
    match doing {
        Some(Doing::Step(running)) if running == step => return Ok(Admission::Attach),
        Some(Doing::Step(running)) => {
            return Err(Error::refused(format!(
                "step {} of operation {} is still running",
                running.name(),
                operation.id
            )));
        }
        Some(Doing::PutBack) => return Ok(Admission::Undone("it is being put back".to_owned())),
        None => {}
    }
    if let Some(error) = failed_copy(operation, step) {
        return Ok(Admission::Failed(error));
    }
    if operation.state == OperationState::Done && is_past_return(operation) {
        return Ok(Admission::Recorded(Outcome::noted(
            "the agent has brought the database back without a coordinator",
        )));
    }
    let is_never_open = matches!(
        operation.kind,
        OperationKind::Reparent | OperationKind::Aside
    );
    if operation.state == OperationState::Done && !is_never_open {
        return Err(Error::refused(format!(
            "operation {} has ended here already",
            operation.id
        )));
    }
    check_order(operation, step)?;
    Ok(Admission::Begin)
}

/// A copy is not begun twice in one attempt: what the first one put is in the second one's way, and
/// that would be taken for the reason. Who asks again has missed the answer.
fn failed_copy(operation: &Operation, step: Step) -> Option<Error> {
    if step != Step::Copy {
        return None;
    }
    operation.record(step)?;
    let unknown = || Error::internal("how the copy ended could not be recorded");
    Some(operation.failure(step).unwrap_or_else(unknown))
}

/// One operation has the database. Only a change of primary may come in between, once the database
/// runs again and before it was stopped.
fn check_owner(contents: &Contents, call: &Call, step_call: &StepCall) -> Result<()> {
    let Some(owner) = contents.owner().filter(|owner| owner.id != call.operation) else {
        return Ok(());
    };
    if kind_of(step_call) == OperationKind::Aside {
        return Ok(());
    }
    let is_up_again = owner.state == OperationState::Open && owner.has_done(Step::Reinstate);
    if kind_of(step_call) == OperationKind::Reparent && is_up_again {
        return Ok(());
    }
    Err(Error::refused(format!(
        "operation {} has the database{}",
        owner.id,
        owner.last_step().map_or_else(String::new, |record| format!(
            " (step {})",
            record.step.name()
        ))
    )))
}

fn check_is_first(call: &Call, step_call: &StepCall) -> Result<()> {
    let step = step_call.step();
    let first = match kind_of(step_call) {
        OperationKind::Backup => Step::Prepare,
        OperationKind::Restore => Step::Drain,
        OperationKind::Reparent | OperationKind::Aside => return Ok(()),
    };
    if step == first {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "step {} of operation {} comes out of order: nothing of it has been done here",
        step.name(),
        call.operation
    )))
}

fn check_order(operation: &Operation, step: Step) -> Result<()> {
    let order = match operation.kind {
        OperationKind::Backup => BACKUP,
        OperationKind::Restore => RESTORE,
        OperationKind::Reparent | OperationKind::Aside => return Ok(()),
    };
    let Some(place) = order.iter().position(|s| *s == step) else {
        return Err(Error::invalid(format!(
            "step {} does not belong to operation {}",
            step.name(),
            operation.id
        )));
    };
    match order[..place].iter().find(|s| !operation.has_done(**s)) {
        None => Ok(()),
        Some(missing) => Err(Error::invalid(format!(
            "step {} of operation {} comes out of order: {} has not been done",
            step.name(),
            operation.id,
            missing.name()
        ))),
    }
}

pub(super) fn kind_of(step: &StepCall) -> OperationKind {
    match step {
        StepCall::Drain { kind, .. } => *kind,
        StepCall::Fetch { .. } | StepCall::Install => OperationKind::Restore,
        StepCall::ReadPosition
        | StepCall::Demote
        | StepCall::Reopen
        | StepCall::ReachPosition { .. }
        | StepCall::Promote => OperationKind::Reparent,
        StepCall::Verify { .. } | StepCall::TestRestore { .. } => OperationKind::Aside,
        _ => OperationKind::Backup,
    }
}

/// The operation's state once a step has ended.
pub(super) fn state_after(operation: &Operation, step: Step, is_done: bool) -> OperationState {
    if operation.state != OperationState::Open {
        return operation.state.clone();
    }
    match (step, is_done) {
        (Step::Serve, true) => OperationState::Done,
        // A demoted tablet stays closed until it is known how the change of primary ended.
        (Step::Demote, _) => OperationState::Open,
        (Step::Reopen, true) => OperationState::Undone {
            reason: "its demotion was taken back".to_owned(),
        },
        _ => OperationState::Open,
    }
}

/// A change of primary has the database only from the moment it closes it for writes.
pub(super) fn reparent_state(operation: &Operation, begun: Step) -> OperationState {
    match begun == Step::Demote || operation.has_demoted() {
        true => OperationState::Open,
        false => OperationState::Done,
    }
}
