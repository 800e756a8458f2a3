//! Backups, what came of several at once, and what a restore would take.

use seawall_proto::v1;
use serde::Serialize;

use super::{Tablet, keyspace, known, shard, time, word};

#[derive(Debug, Serialize)]
pub struct Backup {
    name: String,
    keyspace: Option<String>,
    shard: Option<String>,
    alias: String,
    state: String,
    engine: Option<String>,
    engine_version: Option<String>,
    epoch: u64,
    position: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    logical_bytes: u64,
    stored_bytes: u64,
    files: u64,
    damaged_pages: u64,
    encrypted: bool,
    manifest_hash: Option<String>,
    operation_id: Option<String>,
    verified: Option<Verification>,
    tested: Option<Verification>,
    note: Option<String>,
    writer_key: Option<String>,
    pinned: bool,
    pinned_until_at: Option<String>,
}

impl From<&v1::Backup> for Backup {
    fn from(backup: &v1::Backup) -> Self {
        Self {
            name: backup.name.clone(),
            keyspace: keyspace(backup.shard.as_ref()),
            shard: shard(backup.shard.as_ref()),
            alias: backup.alias.clone(),
            state: word(backup.state()),
            engine: known(&backup.engine),
            engine_version: known(&backup.engine_version),
            epoch: backup.epoch,
            position: known(&backup.position),
            started_at: time(backup.started_unix_ms),
            ended_at: time(backup.ended_unix_ms),
            logical_bytes: backup.logical_bytes,
            stored_bytes: backup.stored_bytes,
            files: backup.files,
            damaged_pages: backup.damaged_pages,
            encrypted: backup.encrypted,
            manifest_hash: known(&backup.manifest_hash),
            operation_id: known(&backup.operation_id),
            verified: backup.verified.as_ref().map(Verification::from),
            tested: backup.tested.as_ref().map(Verification::from),
            note: known(&backup.note),
            writer_key: known(&backup.writer_key),
            pinned: backup.pinned,
            pinned_until_at: time(backup.pinned_until_unix_ms),
        }
    }
}

/// What came of reading a backup back, or of restoring it aside.
#[derive(Debug, Serialize)]
struct Verification {
    at: Option<String>,
    passed: bool,
    percent: u32,
    seed: u64,
    message: Option<String>,
    alias: String,
    bytes: u64,
}

impl From<&v1::Verification> for Verification {
    fn from(verification: &v1::Verification) -> Self {
        Self {
            at: time(verification.at_unix_ms),
            passed: verification.passed,
            percent: verification.percent,
            seed: verification.seed,
            message: known(&verification.message),
            alias: verification.alias.clone(),
            bytes: verification.bytes,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Backups {
    backups: Vec<Backup>,
    not_read: Option<String>,
}

/// What `GetBackup` prints.
#[derive(Debug, Serialize)]
pub struct GotBackup {
    #[serde(flatten)]
    backup: Backup,
    not_read: Option<String>,
}

impl GotBackup {
    pub fn new(backup: &v1::Backup, not_read: &str) -> Self {
        Self {
            backup: Backup::from(backup),
            not_read: known(not_read),
        }
    }
}

impl From<&v1::ListBackupsResponse> for Backups {
    fn from(listed: &v1::ListBackupsResponse) -> Self {
        Self {
            backups: listed.backups.iter().map(Backup::from).collect(),
            not_read: known(&listed.not_read),
        }
    }
}

/// What came of one shard's part in `BackupShard` and `BackupKeyspace`.
#[derive(Clone, Debug, Serialize)]
pub struct BackupRef {
    pub keyspace: Option<String>,
    pub shard: Option<String>,
    pub operation_id: Option<String>,
    pub backup: Option<String>,
    /// As of an operation, or `refused`.
    pub state: String,
    pub error: Option<String>,
}

impl BackupRef {
    pub fn shard_name(&self) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}", part(&self.keyspace), part(&self.shard))
    }
}

impl From<&v1::Operation> for BackupRef {
    fn from(operation: &v1::Operation) -> Self {
        Self {
            keyspace: keyspace(operation.shard.as_ref()),
            shard: shard(operation.shard.as_ref()),
            operation_id: known(&operation.id),
            backup: known(&operation.backup),
            state: word(operation.state()),
            error: known(&operation.error),
        }
    }
}

impl From<&v1::RefusedBackup> for BackupRef {
    fn from(refused: &v1::RefusedBackup) -> Self {
        let error = match refused.hint.as_str() {
            "" => refused.error.clone(),
            hint => format!("{}. {hint}", refused.error),
        };
        Self {
            keyspace: keyspace(refused.shard.as_ref()),
            shard: shard(refused.shard.as_ref()),
            operation_id: None,
            backup: None,
            state: "refused".to_owned(),
            error: known(&error),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct BackupRefs {
    pub shards: Vec<BackupRef>,
}

/// What `Restore --dry-run` would do.
#[derive(Debug, Serialize)]
pub struct RestorePlan {
    pub tablet: Tablet,
    pub backup: Backup,
    pub fetch: Option<Fetch>,
    pub fetch_unknown: Option<String>,
    pub passed_over: Vec<String>,
}

/// What a restore would take from where.
#[derive(Debug, Serialize)]
pub struct Fetch {
    pub data_bytes: u64,
    pub resumed_bytes: u64,
    pub copied_bytes: u64,
    pub missing_bytes: u64,
    pub fetch_bytes: u64,
    pub requests: u64,
    pub upper_bound: bool,
    pub space: Vec<Space>,
}

#[derive(Debug, Serialize)]
pub struct Space {
    pub path: String,
    pub needed_bytes: u64,
    pub free_bytes: u64,
}

impl RestorePlan {
    pub fn new(tablet: &v1::Tablet, backup: &v1::Backup, plan: &v1::PlanRestoreResponse) -> Self {
        Self {
            tablet: tablet.into(),
            backup: backup.into(),
            fetch: plan.fetch.as_ref().map(Fetch::from),
            fetch_unknown: known(&plan.fetch_unknown),
            passed_over: plan.passed_over.clone(),
        }
    }
}

impl From<&v1::FetchPlan> for Fetch {
    fn from(plan: &v1::FetchPlan) -> Self {
        let space = |space: &v1::FileSystemSpace| Space {
            path: space.path.clone(),
            needed_bytes: space.needed_bytes,
            free_bytes: space.free_bytes,
        };
        Self {
            data_bytes: plan.data_bytes,
            resumed_bytes: plan.resumed_bytes,
            copied_bytes: plan.copied_bytes,
            missing_bytes: plan.missing_bytes,
            fetch_bytes: plan.fetch_bytes,
            requests: plan.requests,
            upper_bound: plan.upper_bound,
            space: plan.space.iter().map(space).collect(),
        }
    }
}
