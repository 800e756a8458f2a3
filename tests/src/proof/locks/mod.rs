//! I5: a hold is one place in one order of events, and the two sides of the backup lock are never
//! held at once, as their holders know it.

pub mod by_hand;
pub mod sides;

use std::time::Duration;

use seawall_proto::v1::{
    AcquireHoldRequest, Hold, LockScope, LockSide, ReleaseHoldRequest, locks_client::LocksClient,
};

use super::group::{Answer, Group};

const PATIENCE: Duration = Duration::from_secs(8);

fn text(id: u128) -> String {
    uuid::Uuid::from_u128(id).to_string()
}

async fn pause(most_ms: u64) {
    tokio::time::sleep(Duration::from_millis(rand::random_range(1..most_ms))).await;
}

async fn acquire(
    group: &Group,
    id: u128,
    scope: LockScope,
    lease: Option<(LockSide, u64)>,
) -> Answer<Hold> {
    let request = AcquireHoldRequest {
        id: text(id),
        scope: Some(scope),
        owner: "a client".to_owned(),
        reason: "simulated".to_owned(),
        side: lease.map_or(0, |(side, _)| side.into()),
        lease_ms: lease.map_or(0, |(_, lease_ms)| lease_ms),
        ..AcquireHoldRequest::default()
    };
    let call = |channel| {
        let request = request.clone();
        async move { LocksClient::new(channel).acquire(request).await }
    };
    group.insist(PATIENCE, call).await
}

async fn release(group: &Group, id: u128) -> Answer<()> {
    let call = |channel| async move {
        let request = ReleaseHoldRequest {
            id: text(id),
            scope: Some(LockScope::default()),
        };
        LocksClient::new(channel).release(request).await
    };
    match group.insist(PATIENCE, call).await {
        Answer::Done(_) => Answer::Done(()),
        Answer::Refused(error) => Answer::Refused(error),
        Answer::Unknown => Answer::Unknown,
    }
}
