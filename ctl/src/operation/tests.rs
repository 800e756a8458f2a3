use seawall_proto::v1::OperationStep;

use super::*;
use crate::exit::Exit;

fn operation(state: OperationState, error: &str) -> Operation {
    Operation {
        id: "op".into(),
        state: state.into(),
        error: error.into(),
        ..Default::default()
    }
}

#[test]
fn only_an_operation_that_succeeded_is_a_success() {
    assert!(success(operation(OperationState::Succeeded, "")).is_ok());
    for state in [
        OperationState::Failed,
        OperationState::Cancelled,
        OperationState::Undoing,
        OperationState::Running,
    ] {
        assert_eq!(
            success(operation(state, "why")).unwrap_err().exit,
            Exit::Failed
        );
    }
}

#[test]
fn a_failure_names_the_operation_and_the_step() {
    let mut failed = operation(OperationState::Failed, "the disk is full. Make room.");
    failed.steps = vec![
        OperationStep {
            name: "stop".into(),
            ..Default::default()
        },
        OperationStep {
            name: "copy".into(),
            error: "the disk is full".into(),
            ..Default::default()
        },
    ];
    assert_eq!(
        success(failed).unwrap_err().of("Backup z-1").line(),
        "seawallctl: Backup z-1: operation op failed in step copy: the disk is full. Make room"
    );
    let cancelled = operation(OperationState::Cancelled, "cancelled: wrong tablet");
    assert_eq!(
        success(cancelled).unwrap_err().line(),
        "seawallctl: operation op was cancelled: wrong tablet"
    );
    assert_eq!(
        success(operation(OperationState::Cancelled, ""))
            .unwrap_err()
            .line(),
        "seawallctl: operation op was cancelled"
    );
}

#[test]
fn letting_go_of_several_operations_names_the_way_to_find_them() {
    assert!(
        let_go(&["a".into(), "b".into()])
            .line()
            .contains("ListOperations")
    );
    assert!(let_go(&["a".into()]).line().contains("CancelOperation a"));
}

#[test]
fn letting_go_before_any_answer_does_not_claim_that_the_operation_goes_on() {
    let line = let_go(&[]).line();
    assert!(line.contains("no coordinator has answered yet"), "{line}");
    assert!(line.contains("ListOperations"), "{line}");
    assert!(!line.contains("go on"), "{line}");
}
