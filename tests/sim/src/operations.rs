//! An operation as a client has it carried out.

use std::time::Duration;

use seawall_common::ids::OperationId;
use seawall_proto::v1::{
    GetOperationRequest, Operation, OperationSpec, OperationState, StartOperationRequest,
    operation_spec::Spec, operations_client::OperationsClient,
};
use seawall_tests::proof::group::{Answer, Group};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(300);

/// What came of it.
pub enum Ended {
    Done {
        /// That it has written, if any.
        backup: String,
    },
    NotDone,
}

/// Starts an operation and waits until it has ended; none when that was not to be learned.
pub async fn carry_out(group: &Group, spec: Spec) -> Option<Ended> {
    let id = OperationId::generate().to_string();
    let request = StartOperationRequest {
        id: id.clone(),
        spec: Some(OperationSpec { spec: Some(spec) }),
        timeout_ms: 0,
    };
    let start = |channel| {
        let request = request.clone();
        async move { OperationsClient::new(channel).start(request).await }
    };
    let mut operation = match group.insist(PATIENCE, start).await {
        Answer::Done(operation) => operation,
        Answer::Refused(_) => return Some(Ended::NotDone),
        Answer::Unknown => return None,
    };
    let until = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < until {
        if let Some(ended) = ended(&operation) {
            return Some(ended);
        }
        tokio::time::sleep(POLL).await;
        let get = |channel| {
            let request = GetOperationRequest { id: id.clone() };
            async move { OperationsClient::new(channel).get(request).await }
        };
        if let Answer::Done(now) = group.call(get).await {
            operation = now;
        }
    }
    None
}

fn ended(operation: &Operation) -> Option<Ended> {
    match operation.state() {
        OperationState::Succeeded => Some(Ended::Done {
            backup: operation.backup.clone(),
        }),
        OperationState::Failed | OperationState::Cancelled => Some(Ended::NotDone),
        _ => None,
    }
}
