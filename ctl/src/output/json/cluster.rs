//! The coordinator group.

use seawall_proto::v1;
use serde::Serialize;

use crate::output::human::time;

#[derive(Debug, Serialize)]
pub struct Member {
    pub id: u64,
    pub address: String,
    pub voter: bool,
    pub leader: bool,
    /// Whether it answered when it was asked itself.
    pub answers: bool,
    pub away_since_at: Option<String>,
    pub version: Option<String>,
    pub applied_index: Option<u64>,
    pub last_log_index: Option<u64>,
    pub matched_index: Option<u64>,
    pub lag_entries: Option<u64>,
    pub log_bytes: Option<u64>,
    pub snapshot_bytes: Option<u64>,
    pub disk_free_bytes: Option<u64>,
    pub error: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Cluster {
    pub group_id: String,
    pub leader: Option<u64>,
    pub term: u64,
    pub answered_by: u64,
    pub repository_url: Option<String>,
    pub repository_id: Option<String>,
    pub repository_refusal: Option<String>,
    pub repository_error: Option<String>,
    pub repository_looked_at: Option<String>,
    pub timestamp_bound: u64,
    pub timestamp_recorded: u64,
    pub members: Vec<Member>,
}

#[derive(Debug, Serialize)]
pub struct MemberAdded {
    pub id: u64,
    pub address: String,
    pub voter: bool,
}

#[derive(Debug, Serialize)]
pub struct MemberRemoved {
    pub removed: u64,
}

#[derive(Debug, Serialize)]
pub struct CoordinatorBackup {
    pub name: String,
    pub group_id: String,
    pub member_id: u64,
    pub term: u64,
    pub last_index: u64,
    pub taken_at: Option<String>,
    pub state_bytes: u64,
    pub encrypted: bool,
    pub version: String,
}

#[derive(Debug, Serialize)]
pub struct CoordinatorBackupTaken {
    pub backup: CoordinatorBackup,
    pub removed: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct CoordinatorBackups {
    pub backups: Vec<CoordinatorBackup>,
    pub unreadable: Vec<String>,
}

impl From<&v1::CoordinatorBackup> for CoordinatorBackup {
    fn from(backup: &v1::CoordinatorBackup) -> Self {
        Self {
            name: backup.name.clone(),
            group_id: backup.group_id.clone(),
            member_id: backup.member_id,
            term: backup.term,
            last_index: backup.last_index,
            taken_at: time(backup.taken_unix_ms),
            state_bytes: backup.state_bytes,
            encrypted: backup.encrypted,
            version: backup.version.clone(),
        }
    }
}
