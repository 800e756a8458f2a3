//! Holds of the backup lock.

use seawall_proto::v1;
use serde::Serialize;

use super::{known, time, word};

#[derive(Debug, Serialize)]
pub struct Hold {
    id: String,
    side: String,
    keyspace: Option<String>,
    shard: Option<String>,
    owner: String,
    reason: Option<String>,
    token: u64,
    granted_at: Option<String>,
    expires_at: Option<String>,
    lease_ms: Option<u64>,
    operation_id: Option<String>,
}

impl From<&v1::Hold> for Hold {
    fn from(hold: &v1::Hold) -> Self {
        let scope = hold.scope.as_ref();
        Self {
            id: hold.id.clone(),
            side: word(hold.side()),
            keyspace: scope.and_then(|scope| known(&scope.keyspace)),
            shard: scope.and_then(|scope| known(&scope.shard)),
            owner: hold.owner.clone(),
            reason: known(&hold.reason),
            token: hold.token,
            granted_at: time(hold.granted_unix_ms),
            expires_at: time(hold.expires_unix_ms),
            lease_ms: (hold.lease_ms != 0).then_some(hold.lease_ms),
            operation_id: known(&hold.operation_id),
        }
    }
}

#[derive(Debug, Serialize)]
struct BrokenHold {
    hold: Option<Hold>,
    reason: String,
    operator: String,
    broken_at: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Holds {
    holds: Vec<Hold>,
    broken: Vec<BrokenHold>,
}

impl From<&v1::ListHoldsResponse> for Holds {
    fn from(list: &v1::ListHoldsResponse) -> Self {
        Self {
            holds: list.holds.iter().map(Hold::from).collect(),
            broken: list
                .broken
                .iter()
                .map(|broken| BrokenHold {
                    hold: broken.hold.as_ref().map(Hold::from),
                    reason: broken.reason.clone(),
                    operator: broken.operator.clone(),
                    broken_at: time(broken.broken_unix_ms),
                })
                .collect(),
        }
    }
}

/// The holds that a `--break` ended.
#[derive(Debug, Serialize)]
pub struct Broken {
    broken: Vec<Hold>,
}

impl From<&[v1::Hold]> for Broken {
    fn from(holds: &[v1::Hold]) -> Self {
        Self {
            broken: holds.iter().map(Hold::from).collect(),
        }
    }
}
