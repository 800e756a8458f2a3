//! What a request is about, in a few words for the audit log: names, never secrets.

use prost::Message;
use seawall_proto::v1::{self, operation_spec::Spec};

/// Characters of what is said of a request.
const TEXT_MAX: usize = 256;

fn read<T: Message + Default>(bytes: &[u8], say: impl FnOnce(T) -> String) -> Option<String> {
    let text = say(T::decode(bytes).ok()?);
    Some(text.chars().take(TEXT_MAX).collect())
}

fn shard(shard: Option<&v1::ShardRef>) -> String {
    shard.map_or_else(String::new, |shard| {
        format!("{}/{}", shard.keyspace, shard.shard)
    })
}

/// A shard, a keyspace, or, when nothing is named, everything.
fn scope(keyspace: &str, shard: &str) -> String {
    match (keyspace, shard) {
        ("", "") => "cluster".to_owned(),
        (keyspace, "") => keyspace.to_owned(),
        (keyspace, shard) => format!("{keyspace}/{shard}"),
    }
}

fn lock(scope_: Option<&v1::LockScope>, id: &str) -> String {
    let scope = scope_.map_or_else(
        || "cluster".to_owned(),
        |named| scope(&named.keyspace, &named.shard),
    );
    format!("{scope} {id}").trim_end().to_owned()
}

pub fn nothing(_: &[u8]) -> Option<String> {
    Some(String::new())
}

pub fn fast_forward(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::FastForwardRequest| r.timestamp.to_string())
}

pub fn acquire(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::AcquireHoldRequest| {
        lock(r.scope.as_ref(), &r.id)
    })
}

pub fn release(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::ReleaseHoldRequest| {
        lock(r.scope.as_ref(), &r.id)
    })
}

pub fn break_hold(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::BreakHoldRequest| {
        format!("{}: {}", lock(r.scope.as_ref(), &r.id), r.reason)
    })
}

pub fn init_tablet(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::InitTabletRequest| {
        format!("{} in {}", r.alias, shard(r.shard.as_ref()))
    })
}

pub fn remove_tablet(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::RemoveTabletRequest| r.alias)
}

pub fn change_tablet_type(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::ChangeTabletTypeRequest| {
        let to = match v1::TabletType::try_from(r.r#type) {
            Ok(known) => known.as_str_name().to_owned(),
            Err(_) => r.r#type.to_string(),
        };
        format!("{} to {to}", r.alias)
    })
}

pub fn set_throttle(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::SetThrottleRequest| r.alias)
}

pub fn start(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::StartOperationRequest| {
        let spec = r.spec.and_then(|spec| spec.spec);
        format!("{} ({})", spec.map_or_else(String::new, operation), r.id)
    })
}

fn operation(spec: Spec) -> String {
    match spec {
        Spec::Backup(s) => format!("backup of {}", s.alias),
        Spec::Restore(s) => format!("restore of {} from {:?}", s.alias, s.backup),
        Spec::RemoveBackup(s) => format!("removal of {} {}", shard(s.shard.as_ref()), s.backup),
        Spec::Sweep(s) => format!("sweep of {} {}", shard(s.shard.as_ref()), s.backup),
        Spec::InitShardPrimary(s) => {
            format!("first primary of {}: {}", shard(s.shard.as_ref()), s.alias)
        }
        Spec::PlannedReparent(s) => {
            format!(
                "new primary of {}: {}",
                shard(s.shard.as_ref()),
                s.new_primary
            )
        }
        Spec::RemoveRecipient(s) => {
            format!(
                "removal of recipient {} in {}",
                s.recipient,
                shard(s.shard.as_ref())
            )
        }
        Spec::Verify(s) => format!("verification of {} {}", shard(s.shard.as_ref()), s.backup),
        Spec::TestRestore(s) => format!("restore test of {} {}", shard(s.shard.as_ref()), s.backup),
        Spec::Collect(s) => format!("collection in {}", shard(s.shard.as_ref())),
    }
}

pub fn start_backups(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::StartBackupsRequest| {
        format!("{} ({})", scope(&r.keyspace, &r.shard), r.id)
    })
}

pub fn remove_recipient(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::StartRemoveRecipientRequest| {
        format!("{} ({})", r.recipient, r.id)
    })
}

pub fn cancel(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::CancelOperationRequest| {
        format!("{}: {}", r.id, r.reason)
    })
}

pub fn mark_broken(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::MarkBackupBrokenRequest| {
        let undo = if r.undo { " (taken back)" } else { "" };
        format!("{} {}{undo}", shard(r.shard.as_ref()), r.name)
    })
}

pub fn pin(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::PinBackupRequest| {
        format!("{} {}", shard(r.shard.as_ref()), r.name)
    })
}

pub fn unpin(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::UnpinBackupRequest| {
        format!("{} {}", shard(r.shard.as_ref()), r.name)
    })
}

pub fn set_retention(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::SetRetentionRequest| {
        let dry_run = if r.dry_run { " (only asked)" } else { "" };
        format!("{}{dry_run}", scope(&r.keyspace, &r.shard))
    })
}

pub fn set_schedule(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::SetScheduleRequest| {
        let spec = r.spec.unwrap_or_default();
        let scope = scope(&spec.keyspace, &spec.shard);
        let dry_run = if r.dry_run { " (only asked)" } else { "" };
        format!(
            "{} of {scope}: {} {}{dry_run}",
            r.name, spec.cron, spec.zone
        )
    })
}

pub fn remove_schedule(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::RemoveScheduleRequest| r.name)
}

pub fn pause_schedule(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::PauseScheduleRequest| r.name)
}

pub fn resume_schedule(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::ResumeScheduleRequest| r.name)
}

pub fn register(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::RegisterRequest| {
        format!("{} at {}", r.alias, r.agent_address)
    })
}

pub fn announce(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::AnnounceManifestRequest| {
        let name = r.backup.map_or_else(String::new, |backup| backup.name);
        format!("{name} ({})", r.operation_id)
    })
}

pub fn remove_member(bytes: &[u8]) -> Option<String> {
    read(bytes, |r: v1::RemoveMemberRequest| {
        format!("member {}", r.id)
    })
}
