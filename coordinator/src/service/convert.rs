//! Between the state's own shapes and the protocol's.

use seawall_common::{
    Error, Result,
    clock::now_unix_ms,
    ids::{Alias, BackupName, ShardId},
    position::Position,
    repository::WriterPublicKey,
};
use seawall_proto::v1;

use crate::state::{
    State,
    catalogue::{Entry, Facts, Known},
    epochs::Epoch,
    locks::{BrokenHold, Hold, Scope, Side},
    operations::{Operation, OperationState, Spec, Step},
    topology::{DatabaseAddress, TabletType},
    verification::Verification,
};

pub fn tablet_type(tablet_type: TabletType) -> v1::TabletType {
    match tablet_type {
        TabletType::Primary => v1::TabletType::Primary,
        TabletType::Replica => v1::TabletType::Replica,
        TabletType::Rdonly => v1::TabletType::Rdonly,
        TabletType::Spare => v1::TabletType::Spare,
        TabletType::Backup => v1::TabletType::Backup,
        TabletType::Restore => v1::TabletType::Restore,
        TabletType::Drained => v1::TabletType::Drained,
    }
}

/// None: unspecified.
pub fn tablet_type_from(number: i32) -> Result<Option<TabletType>> {
    let known = v1::TabletType::try_from(number)
        .map_err(|_| Error::invalid(format!("unknown tablet type {number}")))?;
    Ok(match known {
        v1::TabletType::Unspecified => None,
        v1::TabletType::Primary => Some(TabletType::Primary),
        v1::TabletType::Replica => Some(TabletType::Replica),
        v1::TabletType::Rdonly => Some(TabletType::Rdonly),
        v1::TabletType::Spare => Some(TabletType::Spare),
        v1::TabletType::Backup => Some(TabletType::Backup),
        v1::TabletType::Restore => Some(TabletType::Restore),
        v1::TabletType::Drained => Some(TabletType::Drained),
    })
}

pub fn database(database: &DatabaseAddress) -> v1::DatabaseAddress {
    v1::DatabaseAddress {
        host: database.host.clone(),
        port: u32::from(database.port),
        server_id: database.server_id,
    }
}

pub fn epoch(epoch: &Epoch) -> v1::Epoch {
    v1::Epoch {
        number: epoch.number,
        alias: epoch.alias.to_string(),
        server_id: epoch.server_id,
        start_position: epoch.start_position.to_string(),
        began_unix_ms: epoch.began_unix_ms,
    }
}

/// The shard as agents are to see it.
pub fn view(state: &State, shard: &ShardId) -> v1::ShardView {
    let newest = state.topology.newest_epoch(shard);
    let primary = newest.and_then(|epoch| state.topology.tablet(&epoch.alias).ok());
    v1::ShardView {
        epoch: newest.map(epoch),
        primary: primary
            .and_then(|tablet| tablet.database.as_ref())
            .map(database),
    }
}

pub fn backup(entry: &Entry) -> v1::Backup {
    let facts = &entry.facts;
    let pin = entry.pin_at(now_unix_ms());
    let state = match entry.known {
        Known::Running => v1::BackupState::Running,
        Known::Complete => v1::BackupState::Complete,
        Known::Incomplete => v1::BackupState::Incomplete,
        Known::Removed => v1::BackupState::Removed,
        Known::Broken => v1::BackupState::Broken,
    };
    v1::Backup {
        name: entry.name.to_string(),
        shard: Some(entry.shard.to_proto()),
        alias: entry.alias.clone(),
        state: state.into(),
        engine: facts.engine.clone(),
        engine_version: facts.engine_version.clone(),
        epoch: facts.epoch,
        position: facts.position.to_string(),
        started_unix_ms: facts.started_unix_ms,
        ended_unix_ms: facts.ended_unix_ms,
        logical_bytes: facts.logical_bytes,
        stored_bytes: facts.stored_bytes,
        files: facts.files,
        manifest_hash: facts.manifest_hash.clone(),
        operation_id: entry
            .operation
            .map_or_else(String::new, |id| id.to_string()),
        encrypted: facts.encrypted,
        note: entry.note.clone(),
        damaged_pages: facts.damaged_pages,
        writer_key: facts.writer_key.clone(),
        verified: entry.verified.as_ref().map(verification),
        tested: entry.tested.as_ref().map(verification),
        pinned: pin.is_some(),
        pinned_until_unix_ms: pin.and_then(|pin| pin.until_unix_ms).unwrap_or(0),
    }
}

fn verification(verification: &Verification) -> v1::Verification {
    v1::Verification {
        at_unix_ms: verification.at_unix_ms,
        passed: verification.passed,
        percent: verification.percent,
        seed: verification.seed,
        message: verification.message.clone(),
        alias: verification.alias.clone(),
        bytes: verification.bytes,
    }
}

/// Empty: none, as of an agent that signs nothing.
pub fn writer_key(text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let key: WriterPublicKey = text.parse()?;
    Ok(key.to_string())
}

/// What an agent says of a backup that it has written.
pub fn facts(backup: &v1::Backup) -> Result<Facts> {
    let hash = &backup.manifest_hash;
    if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::invalid(format!("malformed manifest hash {hash:?}")));
    }
    let position: Position = backup.position.parse()?;
    super::check_given("engine", &backup.engine)?;
    super::check_text("engine version", &backup.engine_version)?;
    Ok(Facts {
        engine: backup.engine.clone(),
        engine_version: backup.engine_version.clone(),
        epoch: backup.epoch,
        position,
        started_unix_ms: backup.started_unix_ms,
        ended_unix_ms: backup.ended_unix_ms,
        logical_bytes: backup.logical_bytes,
        stored_bytes: backup.stored_bytes,
        files: backup.files,
        encrypted: backup.encrypted,
        manifest_hash: hash.to_ascii_lowercase(),
        damaged_pages: backup.damaged_pages,
        writer_key: writer_key(&backup.writer_key)?,
    })
}

pub fn scope(scope: &Scope) -> v1::LockScope {
    let (keyspace, shard) = match scope {
        Scope::Cluster => (String::new(), String::new()),
        Scope::Keyspace(keyspace) => (keyspace.clone(), String::new()),
        Scope::Shard(shard) => (shard.keyspace().to_owned(), shard.shard().to_owned()),
    };
    v1::LockScope { keyspace, shard }
}

/// No scope at all is the whole cluster.
pub fn scope_from(scope: Option<&v1::LockScope>) -> Result<Scope> {
    let Some(scope) = scope else {
        return Ok(Scope::Cluster);
    };
    match (scope.keyspace.is_empty(), scope.shard.is_empty()) {
        (true, true) => Ok(Scope::Cluster),
        (true, false) => Err(Error::invalid(format!(
            "shard {:?} is named without its keyspace",
            scope.shard
        ))),
        (false, true) => {
            seawall_common::ids::check_keyspace(&scope.keyspace)?;
            Ok(Scope::Keyspace(scope.keyspace.clone()))
        }
        (false, false) => Ok(Scope::Shard(ShardId::new(&scope.keyspace, &scope.shard)?)),
    }
}

pub fn hold(hold: &Hold) -> v1::Hold {
    let side = match hold.side {
        Side::Backup => v1::LockSide::Backup,
        Side::Delete => v1::LockSide::Delete,
    };
    v1::Hold {
        id: hold.id.clone(),
        side: side.into(),
        scope: Some(scope(&hold.scope)),
        owner: hold.owner.clone(),
        reason: hold.reason.clone(),
        token: hold.token,
        granted_unix_ms: hold.granted_unix_ms,
        expires_unix_ms: hold.expires_unix_ms.unwrap_or(0),
        lease_ms: hold.lease_ms.unwrap_or(0),
        operation_id: hold.operation.map_or_else(String::new, |id| id.to_string()),
    }
}

pub fn broken(broken: &BrokenHold) -> v1::BrokenHold {
    v1::BrokenHold {
        hold: Some(hold(&broken.hold)),
        reason: broken.reason.clone(),
        operator: broken.operator.clone(),
        broken_unix_ms: broken.broken_unix_ms,
    }
}

pub fn operation(operation: &Operation, progress: Option<v1::Progress>) -> v1::Operation {
    let state = match operation.state {
        OperationState::Running => v1::OperationState::Running,
        OperationState::Undoing => v1::OperationState::Undoing,
        OperationState::Succeeded => v1::OperationState::Succeeded,
        OperationState::Failed => v1::OperationState::Failed,
        OperationState::Cancelled => v1::OperationState::Cancelled,
    };
    let error = operation.error.as_ref();
    v1::Operation {
        id: operation.id.to_string(),
        spec: Some(v1::OperationSpec {
            spec: Some(spec(&operation.spec)),
        }),
        shard: Some(operation.shard.to_proto()),
        state: state.into(),
        attempt: operation.attempt,
        irrevocable: operation.irrevocable,
        steps: operation.steps.iter().map(step).collect(),
        created_unix_ms: operation.created_unix_ms,
        deadline_unix_ms: operation.deadline_unix_ms,
        finished_unix_ms: operation.finished_unix_ms.unwrap_or(0),
        error: error.map_or_else(String::new, |e| Error::from(e.clone()).to_string()),
        backup: operation
            .backup
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        progress: progress.filter(|_| operation.state.is_open()),
        result: operation.result.clone(),
    }
}

fn step(step: &Step) -> v1::OperationStep {
    v1::OperationStep {
        name: step.name.clone(),
        started_unix_ms: step.started_unix_ms,
        ended_unix_ms: step.ended_unix_ms.unwrap_or(0),
        error: step.error.clone().unwrap_or_default(),
    }
}

fn spec(spec: &Spec) -> v1::operation_spec::Spec {
    use v1::operation_spec::Spec as Out;
    match spec.clone() {
        Spec::Backup {
            alias,
            concurrency,
            no_wait,
            allow_primary,
        } => Out::Backup(v1::BackupSpec {
            alias: alias.to_string(),
            concurrency,
            no_wait,
            allow_primary,
        }),
        Spec::Restore {
            alias,
            backup,
            empty_start,
            concurrency,
            allow_broken,
        } => Out::Restore(v1::RestoreSpec {
            alias: alias.to_string(),
            backup: backup.map_or_else(String::new, |name| name.to_string()),
            empty_start,
            concurrency,
            allow_broken,
        }),
        Spec::RemoveBackup {
            shard,
            backup,
            force,
            reason,
            by_retention,
        } => Out::RemoveBackup(v1::RemoveBackupSpec {
            shard: Some(shard.to_proto()),
            backup: backup.to_string(),
            force,
            reason,
            by_retention,
        }),
        Spec::Collect { shard } => Out::Collect(v1::CollectSpec {
            shard: Some(shard.to_proto()),
        }),
        Spec::Sweep {
            shard,
            backup,
            not_before_unix_ms,
        } => Out::Sweep(v1::SweepSpec {
            shard: Some(shard.to_proto()),
            backup: backup.to_string(),
            not_before_unix_ms,
        }),
        Spec::RemoveRecipient { shard, recipient } => {
            Out::RemoveRecipient(v1::RemoveRecipientSpec {
                shard: Some(shard.to_proto()),
                recipient,
            })
        }
        Spec::InitShardPrimary { shard, alias } => {
            Out::InitShardPrimary(v1::InitShardPrimarySpec {
                shard: Some(shard.to_proto()),
                alias: alias.to_string(),
            })
        }
        Spec::PlannedReparent { shard, new_primary } => {
            Out::PlannedReparent(v1::PlannedReparentSpec {
                shard: Some(shard.to_proto()),
                new_primary: new_primary.to_string(),
            })
        }
        Spec::Verify {
            shard,
            backup,
            percent,
            alias,
            concurrency,
        } => Out::Verify(v1::VerifySpec {
            shard: Some(shard.to_proto()),
            backup: backup.to_string(),
            percent,
            alias: alias.map_or_else(String::new, |alias| alias.to_string()),
            concurrency,
        }),
        Spec::TestRestore {
            shard,
            backup,
            alias,
            concurrency,
        } => Out::TestRestore(v1::TestRestoreSpec {
            shard: Some(shard.to_proto()),
            backup: backup.to_string(),
            alias: alias.map_or_else(String::new, |alias| alias.to_string()),
            concurrency,
        }),
    }
}

/// Of a verification; 0 is all.
fn percent(asked: u32) -> Result<u32> {
    match asked {
        0 => Ok(100),
        1..=100 => Ok(asked),
        _ => Err(Error::invalid(format!(
            "{asked} per cent are more than all"
        ))),
    }
}

/// Empty: none is named.
fn alias_named(alias: &str) -> Result<Option<Alias>> {
    (!alias.is_empty()).then(|| alias.parse()).transpose()
}

/// Parallel transfers that may be asked for.
const CONCURRENCY_MAX: u32 = 64;
const CONCURRENCY_DEFAULT: u32 = 4;

/// That of a backup; 0 is the default.
pub fn concurrency(asked: u32) -> Result<u32> {
    Ok(match check_concurrency(asked)? {
        0 => CONCURRENCY_DEFAULT,
        asked => asked,
    })
}

/// 0 stays 0: for a restore, whose agent has a setting of its own.
fn check_concurrency(asked: u32) -> Result<u32> {
    if asked > CONCURRENCY_MAX {
        return Err(Error::invalid(format!(
            "concurrency {asked} is greater than {CONCURRENCY_MAX}"
        )));
    }
    Ok(asked)
}

/// Empty: none is named.
pub fn backup_named(name: &str) -> Result<Option<BackupName>> {
    (!name.is_empty()).then(|| name.parse()).transpose()
}

pub fn spec_from(spec: Option<v1::OperationSpec>) -> Result<Spec> {
    use v1::operation_spec::Spec as In;
    let spec = spec
        .and_then(|spec| spec.spec)
        .ok_or_else(|| Error::invalid("the operation does not say what it is to do"))?;
    Ok(match spec {
        In::Backup(spec) => Spec::Backup {
            alias: spec.alias.parse()?,
            concurrency: concurrency(spec.concurrency)?,
            no_wait: spec.no_wait,
            allow_primary: spec.allow_primary,
        },
        In::Restore(spec) => Spec::Restore {
            alias: spec.alias.parse()?,
            backup: backup_named(&spec.backup)?,
            empty_start: spec.empty_start,
            concurrency: check_concurrency(spec.concurrency)?,
            allow_broken: spec.allow_broken,
        },
        In::RemoveBackup(spec) => {
            if spec.by_retention {
                return Err(Error::invalid("only the coordinator applies retention")
                    .hint("RemoveBackup removes by hand."));
            }
            super::check_text("reason", &spec.reason)?;
            Spec::RemoveBackup {
                shard: ShardId::from_proto(spec.shard.as_ref())?,
                backup: spec.backup.parse()?,
                force: spec.force,
                reason: spec.reason,
                by_retention: false,
            }
        }
        In::Collect(spec) => Spec::Collect {
            shard: ShardId::from_proto(spec.shard.as_ref())?,
        },
        In::RemoveRecipient(spec) => Spec::RemoveRecipient {
            shard: ShardId::from_proto(spec.shard.as_ref())?,
            recipient: spec.recipient,
        },
        In::InitShardPrimary(spec) => Spec::InitShardPrimary {
            shard: ShardId::from_proto(spec.shard.as_ref())?,
            alias: spec.alias.parse()?,
        },
        In::PlannedReparent(spec) => Spec::PlannedReparent {
            shard: ShardId::from_proto(spec.shard.as_ref())?,
            new_primary: spec.new_primary.parse()?,
        },
        In::Verify(spec) => Spec::Verify {
            shard: ShardId::from_proto(spec.shard.as_ref())?,
            backup: spec.backup.parse()?,
            percent: percent(spec.percent)?,
            alias: alias_named(&spec.alias)?,
            concurrency: check_concurrency(spec.concurrency)?,
        },
        In::TestRestore(spec) => Spec::TestRestore {
            shard: ShardId::from_proto(spec.shard.as_ref())?,
            backup: spec.backup.parse()?,
            alias: alias_named(&spec.alias)?,
            concurrency: check_concurrency(spec.concurrency)?,
        },
        In::Sweep(_) => {
            return Err(
                Error::invalid("sweeps are begun by removals only").hint("Run RemoveBackup.")
            );
        }
    })
}
