//! The JSON contract: what `-o json` prints, field by field as `docs/json.md` describes it.
//!
//! Fields are only ever added. Every field is always there, `null` when unknown or not applicable;
//! times are RFC 3339 in UTC, durations `_ms`, sizes `_bytes`, enumerations lower-case words.

mod backup;
mod certificate;
mod cluster;
mod keys;
mod lock;
mod operation;
mod removal;
mod repository;
mod retention;
mod schedule;
mod tablet;
mod transfer;

pub use backup::{Backup, BackupRef, BackupRefs, Backups, GotBackup, RestorePlan};
pub use certificate::{Certificate, Certificates};
pub use cluster::{
    Cluster, CoordinatorBackupTaken, CoordinatorBackups, Member, MemberAdded, MemberRemoved,
};
pub use keys::{AddedRecipient, Identity, Recipients, Writers};
pub use lock::{Broken, Hold, Holds};
pub use operation::{Operation, Operations, kind_and_alias};
pub use removal::{RecipientRemovalPlan, RemovalPlan};
pub use repository::{
    CatalogueDifference, CheckedRepository, RestoredBackup, RestoredRoot, StoredRepository,
    stored_state,
};
pub use retention::{CollectionPlan, Expiry, Resumed, Retention};
pub use schedule::{RemovedSchedule, Schedule, Schedules, SetSchedule};
pub use tablet::{History, Tablet, Tablets};
pub use transfer::Transfers;

use seawall_proto::v1;
use serde::Serialize;

use super::human::time;

/// An enumeration's value as a word: `TABLET_TYPE_RDONLY` → `rdonly`.
pub trait Word {
    fn word(self) -> String;
}

macro_rules! words {
    ($($type:ident strips $prefix:literal),* $(,)?) => {
        $(impl Word for v1::$type {
            fn word(self) -> String {
                self.as_str_name().trim_start_matches($prefix).to_lowercase()
            }
        })*
    };
}

words! {
    TabletType strips "TABLET_TYPE_",
    BackupState strips "BACKUP_STATE_",
    OperationState strips "OPERATION_STATE_",
    LockSide strips "LOCK_SIDE_",
    ScheduleState strips "SCHEDULE_STATE_",
    ScheduleOutcome strips "SCHEDULE_OUTCOME_",
    SchedulePartState strips "SCHEDULE_PART_STATE_",
}

pub fn word(value: impl Word) -> String {
    value.word()
}

pub fn known(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn keyspace(shard: Option<&v1::ShardRef>) -> Option<String> {
    shard.and_then(|shard| known(&shard.keyspace))
}

fn shard(shard: Option<&v1::ShardRef>) -> Option<String> {
    shard.and_then(|shard| known(&shard.shard))
}

#[derive(Debug, Serialize)]
pub struct Timestamps {
    pub first: u64,
    pub last: u64,
    pub count: u32,
}

/// At this time this was the greatest timestamp.
#[derive(Debug, Serialize)]
pub struct TimestampNote {
    timestamp: u64,
    noted_at: Option<String>,
}

impl From<&v1::TimestampNote> for TimestampNote {
    fn from(note: &v1::TimestampNote) -> Self {
        Self {
            timestamp: note.timestamp,
            noted_at: time(note.unix_ms),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct TimeOf {
    pub timestamp: u64,
    pub after_at: Option<String>,
    pub before_at: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Bound {
    pub bound: u64,
}

#[derive(Debug, Serialize)]
pub struct Removed {
    pub removed: String,
}
