//! What is kept and what goes: retention, and what removed backups have left.

use seawall_proto::v1;
use serde::Serialize;

use super::{keyspace, known, shard};

/// A backup that goes by a rule of retention.
#[derive(Debug, Serialize)]
struct Expired {
    keyspace: Option<String>,
    shard: Option<String>,
    name: String,
    reason: String,
}

impl From<&v1::ExpiredBackup> for Expired {
    fn from(backup: &v1::ExpiredBackup) -> Self {
        Self {
            keyspace: keyspace(backup.shard.as_ref()),
            shard: shard(backup.shard.as_ref()),
            name: backup.name.clone(),
            reason: backup.reason.clone(),
        }
    }
}

/// What `SetRetention` prints.
#[derive(Debug, Serialize)]
pub struct Expiry {
    dry_run: bool,
    expired: Vec<Expired>,
    stopped: Option<String>,
    unknown: bool,
    not_read: Vec<String>,
}

impl Expiry {
    pub fn new(answer: &v1::SetRetentionResponse, dry_run: bool) -> Self {
        Self {
            dry_run,
            expired: answer.expired.iter().map(Expired::from).collect(),
            stopped: known(&answer.stopped),
            unknown: answer.unknown,
            not_read: answer.not_read.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Resumed {
    pub resumed: bool,
}

#[derive(Debug, Serialize)]
struct Policy {
    keep_count: Option<u32>,
    keep_age_ms: Option<u64>,
    minimum: u32,
    daily: u32,
    weekly: u32,
    monthly: u32,
}

impl From<&v1::RetentionPolicy> for Policy {
    fn from(policy: &v1::RetentionPolicy) -> Self {
        Self {
            keep_count: policy.keep_count,
            keep_age_ms: policy.keep_age_ms,
            // The newest complete one stays in any case.
            minimum: policy.minimum.max(1),
            daily: policy.daily,
            weekly: policy.weekly,
            monthly: policy.monthly,
        }
    }
}

#[derive(Debug, Serialize)]
struct ShardRetention {
    keyspace: Option<String>,
    shard: Option<String>,
    from: Option<String>,
    policy: Option<Policy>,
    expired: Vec<Expired>,
}

/// What `GetRetention` prints.
#[derive(Debug, Serialize)]
pub struct Retention {
    shards: Vec<ShardRetention>,
    stopped: Option<String>,
}

impl From<&v1::GetRetentionResponse> for Retention {
    fn from(answer: &v1::GetRetentionResponse) -> Self {
        let of_shard = |of: &v1::ShardRetention| ShardRetention {
            keyspace: keyspace(of.shard.as_ref()),
            shard: shard(of.shard.as_ref()),
            from: known(&of.from),
            policy: of.policy.as_ref().map(Policy::from),
            expired: of.expired.iter().map(Expired::from).collect(),
        };
        Self {
            shards: answer.shards.iter().map(of_shard).collect(),
            stopped: known(&answer.stopped),
        }
    }
}

#[derive(Debug, Serialize)]
struct Leftover {
    backup: String,
    objects: u64,
    bytes: u64,
    staying_objects: u64,
    staying_bytes: u64,
    needed_by: Vec<String>,
    kept: bool,
}

#[derive(Debug, Serialize)]
struct ShardCollection {
    keyspace: Option<String>,
    shard: Option<String>,
    leftovers: Vec<Leftover>,
    stopped: Option<String>,
}

/// What `CollectGarbage --dry-run` prints.
#[derive(Debug, Serialize)]
pub struct CollectionPlan {
    shards: Vec<ShardCollection>,
}

impl From<&[v1::ShardCollection]> for CollectionPlan {
    fn from(shards: &[v1::ShardCollection]) -> Self {
        let leftover = |left: &v1::Leftover| Leftover {
            backup: left.backup.clone(),
            objects: left.objects,
            bytes: left.bytes,
            staying_objects: left.staying_objects,
            staying_bytes: left.staying_bytes,
            needed_by: left.needed_by.clone(),
            kept: left.kept,
        };
        let of_shard = |of: &v1::ShardCollection| ShardCollection {
            keyspace: keyspace(of.shard.as_ref()),
            shard: shard(of.shard.as_ref()),
            leftovers: of.leftovers.iter().map(leftover).collect(),
            stopped: known(&of.stopped),
        };
        Self {
            shards: shards.iter().map(of_shard).collect(),
        }
    }
}
