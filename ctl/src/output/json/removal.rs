//! What removals would do.

use seawall_proto::v1;
use serde::Serialize;

use super::{Backup, keyspace, known, shard};

/// What `RemoveBackup --dry-run` prints.
#[derive(Debug, Serialize)]
pub struct RemovalPlan {
    backup: Backup,
    complete_left: u32,
    grace_ms: u64,
}

impl RemovalPlan {
    pub fn new(backup: &v1::Backup, plan: &v1::PlanRemovalResponse) -> Self {
        Self {
            backup: backup.into(),
            complete_left: plan.complete_left,
            grace_ms: plan.grace_ms,
        }
    }
}

#[derive(Debug, Serialize)]
struct RecipientKeys {
    backup: String,
    going: u64,
    staying: u64,
}

#[derive(Debug, Serialize)]
struct ShardRemoval {
    keyspace: Option<String>,
    shard: Option<String>,
    backups: Vec<RecipientKeys>,
    waits_for: Option<String>,
}

/// What `RemoveRecipient --dry-run` prints.
#[derive(Debug, Serialize)]
pub struct RecipientRemovalPlan {
    recipient: String,
    shards: Vec<ShardRemoval>,
}

impl RecipientRemovalPlan {
    pub fn new(recipient: &str, shards: &[v1::ShardRecipientRemoval]) -> Self {
        let keys = |keys: &v1::RecipientKeys| RecipientKeys {
            backup: keys.backup.clone(),
            going: keys.going,
            staying: keys.staying,
        };
        let of_shard = |of: &v1::ShardRecipientRemoval| ShardRemoval {
            keyspace: keyspace(of.shard.as_ref()),
            shard: shard(of.shard.as_ref()),
            backups: of.backups.iter().map(keys).collect(),
            waits_for: known(&of.waits_for),
        };
        Self {
            recipient: recipient.to_owned(),
            shards: shards.iter().map(of_shard).collect(),
        }
    }
}
