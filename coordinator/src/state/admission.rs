//! What may start: every check of an operation's start, and what it is given when it may.
//!
//! All checks come before the first change, so that a refusal leaves no trace. Whatever is granted
//! here (tablet type, shard lock, hold, name in the catalogue) is given back in `closing`.

use seawall_common::{
    Error, Result,
    ids::{Alias, BackupName, OperationId, ShardId},
    repository::check_fingerprint,
};

use super::{
    Response, State,
    catalogue::{Entry, Known},
    collection,
    locks::{Claim, Exclusive, Scope, Side},
    operations::{OPEN_MAX, Operation, OperationState, Outcome, Spec, Start},
    references, retention,
    topology::{Tablet, TabletType},
};

pub fn start(state: &mut State, start: &Start) -> Result<Response> {
    if let Ok(known) = state.operations.get(&start.id) {
        return if known.spec == start.spec {
            Ok(Response::Operation(Box::new(known.clone())))
        } else {
            Err(Error::conflict(format!(
                "operation id {} is taken by another operation",
                start.id
            )))
        };
    }
    let open = state.operations.open();
    if open
        .filter(|o| !matches!(o.spec, Spec::Sweep { .. }))
        .count()
        >= OPEN_MAX
    {
        return Err(Error::exhausted(format!(
            "{OPEN_MAX} operations are open already"
        )));
    }
    let mut operation = match &start.spec {
        Spec::Backup {
            alias,
            allow_primary,
            ..
        } => admit_backup(state, start, alias, *allow_primary)?,
        Spec::Restore {
            alias,
            backup,
            allow_broken,
            ..
        } => admit_restore(state, start, alias, backup.as_ref(), *allow_broken)?,
        Spec::RemoveBackup {
            shard,
            backup,
            force,
            by_retention,
            ..
        } => {
            if *by_retention {
                retention::check_due(state, shard, backup, start.now_unix_ms)?;
            }
            admit_removal(state, start, shard, backup, *force)?
        }
        Spec::Collect { shard } => {
            Operation::new(start.id, start.spec.clone(), shard.clone(), start)
        }
        Spec::InitShardPrimary { shard, alias } => admit_init(state, start, shard, alias)?,
        Spec::PlannedReparent { shard, new_primary } => {
            admit_reparent(state, start, shard, new_primary)?
        }
        Spec::Verify { shard, backup, .. } | Spec::TestRestore { shard, backup, .. } => {
            admit_verification(state, start, shard, backup)?
        }
        Spec::RemoveRecipient { shard, recipient } => {
            admit_recipient_removal(state, start, shard, recipient)?
        }
        Spec::Sweep { .. } => {
            return Err(Error::invalid("sweeps are begun by removals only"));
        }
    };
    operation.end_step("grant", start.now_unix_ms, None, Outcome::default());
    let answer = Response::Operation(Box::new(operation.clone()));
    state.operations.all.insert(start.id, operation);
    Ok(answer)
}

fn admit_backup(
    state: &mut State,
    start: &Start,
    alias: &Alias,
    allow_primary: bool,
) -> Result<Operation> {
    let tablet = registered_and_idle(state, alias)?.clone();
    let shard = &tablet.shard;
    let Some(epoch) = state.topology.newest_epoch(shard) else {
        return Err(Error::refused(format!("{shard} has had no primary yet"))
            .hint("Run InitShardPrimary first: a backup needs an epoch to belong to."));
    };
    let epoch = epoch.number;
    if tablet.tablet_type == TabletType::Primary && !allow_primary {
        return Err(
            Error::refused(format!("{alias} is the primary of {shard}")).hint(
                "Use --allow-primary to back it up all the same: writes fail while it is down.",
            ),
        );
    }
    check_no_reparent(state, shard)?;
    if let Some(other) = state.locks.exclusive_holder(Exclusive::Backup, shard) {
        let whose = state.operations.get(&other).ok();
        let tablet = whose.and_then(|operation| operation.spec.tablet());
        return Err(Error::refused(format!(
            "{shard} is being backed up by operation {other} ({})",
            tablet.map_or_else(String::new, ToString::to_string)
        ))
        .hint("Wait until it has ended; WatchOperation shows how far it is."));
    }
    let claim = backup_side(shard, format!("backup of {alias}"), start.now_unix_ms);
    state.locks.check_claim(&claim)?;
    let name = state
        .catalogue
        .fresh_name(shard, alias, start.now_unix_ms)?;

    let mut operation = Operation::new(start.id, start.spec.clone(), shard.clone(), start);
    operation.references = references::referable(state, shard, alias);
    operation.token = state.locks.claim(start.id, &claim)?.token;
    state
        .locks
        .take_exclusive(Exclusive::Backup, shard, start.id);
    state.topology.set_at_work(alias, TabletType::Backup);
    state
        .catalogue
        .begin(&tablet, &name, epoch, start.id, start.now_unix_ms);
    operation.backup = Some(name);
    Ok(operation)
}

fn admit_restore(
    state: &mut State,
    start: &Start,
    alias: &Alias,
    backup: Option<&BackupName>,
    allow_broken: bool,
) -> Result<Operation> {
    let tablet = registered_and_idle(state, alias)?.clone();
    let shard = &tablet.shard;
    if tablet.wanted_type == TabletType::Primary {
        return Err(Error::refused(format!("{alias} is the primary of {shard}"))
            .hint("Run PlannedReparentShard to another tablet first."));
    }
    check_no_reparent(state, shard)?;
    if let Some(name) = backup {
        let entry = state.catalogue.entry(shard, name)?;
        check_restorable(entry, allow_broken)?;
    } else if allow_broken {
        return Err(
            Error::invalid("a broken backup is restored by its name only")
                .hint("Name it with --backup."),
        );
    }
    let claim = backup_side(shard, format!("restore of {alias}"), start.now_unix_ms);
    state.locks.check_claim(&claim)?;

    let mut operation = Operation::new(start.id, start.spec.clone(), shard.clone(), start);
    operation.token = state.locks.claim(start.id, &claim)?.token;
    operation.backup = backup.cloned();
    state.topology.set_at_work(alias, TabletType::Restore);
    Ok(operation)
}

/// A broken one only when that is asked for, and only one that has a manifest to be held to.
fn check_restorable(entry: &Entry, allow_broken: bool) -> Result<()> {
    let is_broken = entry.known == Known::Broken && !entry.facts.manifest_hash.is_empty();
    if entry.known == Known::Complete || (is_broken && allow_broken) {
        return Ok(());
    }
    let refused = Error::refused(format!(
        "backup {} of {} is {}",
        entry.name,
        entry.shard,
        entry.described()
    ));
    Err(refused.hint(match is_broken {
        true => "ListBackups shows those that are complete; --allow-broken restores this one all the same.",
        false => "ListBackups shows those that are complete.",
    }))
}

/// Nothing that is read meanwhile may be deleted: the backup side, as for a restore.
fn admit_verification(
    state: &mut State,
    start: &Start,
    shard: &ShardId,
    backup: &BackupName,
) -> Result<Operation> {
    let entry = state.catalogue.entry(shard, backup)?;
    if !matches!(entry.known, Known::Complete | Known::Broken) {
        return Err(Error::refused(format!(
            "backup {backup} of {shard} is {}",
            entry.described()
        ))
        .hint("ListBackups shows those that are complete."));
    }
    collection::check_none_starves(state, shard, start.now_unix_ms)?;
    let claim = backup_side(
        shard,
        format!("verification of {backup}"),
        start.now_unix_ms,
    );
    state.locks.check_claim(&claim)?;
    let mut operation = Operation::new(start.id, start.spec.clone(), shard.clone(), start);
    operation.token = state.locks.claim(start.id, &claim)?.token;
    operation.backup = Some(backup.clone());
    Ok(operation)
}

fn admit_removal(
    state: &mut State,
    start: &Start,
    shard: &ShardId,
    backup: &BackupName,
    force: bool,
) -> Result<Operation> {
    let entry = state.catalogue.entry(shard, backup)?;
    match entry.known {
        Known::Running => {
            return Err(Error::refused(format!(
                "backup {backup} of {shard} is {}",
                entry.described()
            ))
            .hint("Cancel the operation instead."));
        }
        Known::Removed => check_never_swept(state, shard, backup, entry)?,
        Known::Complete if !force && !has_another_complete(state, shard, backup) => {
            return Err(
                Error::refused(format!("{backup} is the last complete backup of {shard}"))
                    .hint("Use --force to remove it all the same."),
            );
        }
        Known::Complete | Known::Incomplete | Known::Broken => {}
    }
    if let (Some(pin), false) = (entry.pin_at(start.now_unix_ms), force) {
        return Err(
            Error::refused(format!("{backup} of {shard} is pinned{}", pin.described()))
                .hint("Run UnpinBackup, or use --force to remove it all the same."),
        );
    }
    let reason = format!("removal of {backup}");
    let claim = delete_side(shard, reason, start.now_unix_ms);
    state.locks.check_claim(&claim)?;
    let mut operation = Operation::new(start.id, start.spec.clone(), shard.clone(), start);
    operation.token = state.locks.claim(start.id, &claim)?.token;
    operation.backup = Some(backup.clone());
    Ok(operation)
}

/// One at a time in a shard: two that each leave the other's key of a session would leave none. Its
/// hold is taken only when it deletes.
fn admit_recipient_removal(
    state: &State,
    start: &Start,
    shard: &ShardId,
    recipient: &str,
) -> Result<Operation> {
    check_fingerprint(recipient)?;
    let other = state.operations.open().find(|operation| {
        operation.shard == *shard && matches!(operation.spec, Spec::RemoveRecipient { .. })
    });
    if let Some(other) = other {
        return Err(Error::refused(format!(
            "operation {} is removing a recipient in {shard}",
            other.id
        ))
        .hint("Wait until it has ended; WatchOperation shows how far it is."));
    }
    let shard = shard.clone();
    Ok(Operation::new(start.id, start.spec.clone(), shard, start))
}

/// Whether a complete backup stays that nobody is removing.
fn has_another_complete(state: &State, shard: &ShardId, backup: &BackupName) -> bool {
    let going = state.operations.removals(shard);
    let mut complete = state.catalogue.complete_ones(shard);
    complete.any(|entry| entry.name != *backup && !going.contains(&entry.name))
}

/// A removed backup may be removed again when nobody deletes, or has deleted, its objects.
fn check_never_swept(
    state: &State,
    shard: &ShardId,
    backup: &BackupName,
    entry: &Entry,
) -> Result<()> {
    let what = format!("backup {backup} of {shard} is {}", entry.described());
    let mut sweeps = state.operations.iter().filter(|operation| {
        operation.shard == *shard
            && operation.backup.as_ref() == Some(backup)
            && matches!(operation.spec, Spec::Sweep { .. })
            && (operation.state.is_open() || operation.state == OperationState::Succeeded)
    });
    match sweeps.next() {
        None => Ok(()),
        Some(sweep) if sweep.state.is_open() => Err(Error::not_found(what).hint(format!(
            "Operation {} deletes its objects when their time has come.",
            sweep.id
        ))),
        Some(sweep) => {
            Err(Error::not_found(what)
                .hint(format!("Operation {} has deleted its objects.", sweep.id)))
        }
    }
}

fn admit_init(
    state: &mut State,
    start: &Start,
    shard: &ShardId,
    alias: &Alias,
) -> Result<Operation> {
    let tablet = candidate(state, shard, alias)?;
    check_electable(tablet, false)?;
    if let Some(epoch) = state.topology.newest_epoch(shard) {
        return Err(Error::refused(format!(
            "{shard} has a primary already: {} (epoch {})",
            epoch.alias, epoch.number
        ))
        .hint("Run PlannedReparentShard to change it."));
    }
    admit_exclusive_reparent(state, start, shard)
}

fn admit_reparent(
    state: &mut State,
    start: &Start,
    shard: &ShardId,
    alias: &Alias,
) -> Result<Operation> {
    let tablet = candidate(state, shard, alias)?;
    let Some(epoch) = state.topology.newest_epoch(shard) else {
        return Err(Error::refused(format!("{shard} has had no primary yet"))
            .hint("Run InitShardPrimary first."));
    };
    if epoch.alias == *alias {
        return Err(Error::refused(format!(
            "{alias} is the primary of {shard} already (epoch {})",
            epoch.number
        )));
    }
    check_electable(tablet, true)?;
    admit_exclusive_reparent(state, start, shard)
}

fn admit_exclusive_reparent(
    state: &mut State,
    start: &Start,
    shard: &ShardId,
) -> Result<Operation> {
    check_no_reparent(state, shard)?;
    state
        .locks
        .take_exclusive(Exclusive::Reparent, shard, start.id);
    Ok(Operation::new(
        start.id,
        start.spec.clone(),
        shard.clone(),
        start,
    ))
}

/// The hold of a sweep, whose time has come, of a collection, or of a removal of a recipient; of a
/// removal that is decided, for one try.
pub fn take_delete_side(state: &mut State, id: &OperationId, now_unix_ms: u64) -> Result<Response> {
    let operation = state.operations.open_mut(id)?;
    let (shard, reason) = match &operation.spec {
        Spec::Sweep { shard, backup, .. } | Spec::RemoveBackup { shard, backup, .. } => {
            (shard, format!("removal of {backup}"))
        }
        Spec::Collect { shard } => (shard, format!("collection of {shard}")),
        Spec::RemoveRecipient { shard, recipient } => {
            (shard, format!("removal of recipient {recipient}"))
        }
        _ => return Err(Error::internal(format!("operation {id} does not delete"))),
    };
    let claim = delete_side(shard, reason, now_unix_ms);
    operation.token = state.locks.claim(*id, &claim)?.token;
    operation.turn_unix_ms = now_unix_ms;
    Ok(Response::Done)
}

fn registered_and_idle<'a>(state: &'a State, alias: &Alias) -> Result<&'a Tablet> {
    let tablet = registered(state, alias)?;
    if let Some(operation) = state.operations.open_on(alias) {
        return Err(Error::refused(format!(
            "operation {} is at work with {alias} ({})",
            operation.id, tablet.tablet_type
        ))
        .hint("Wait until it has ended; WatchOperation shows how far it is."));
    }
    Ok(tablet)
}

fn registered<'a>(state: &'a State, alias: &Alias) -> Result<&'a Tablet> {
    let tablet = state.topology.tablet(alias)?;
    if tablet.is_registered() {
        return Ok(tablet);
    }
    Err(
        Error::refused(format!("no agent has registered for {alias} yet"))
            .hint("Start seawall-agent on its machine."),
    )
}

fn candidate<'a>(state: &'a State, shard: &ShardId, alias: &Alias) -> Result<&'a Tablet> {
    let tablet = registered(state, alias)?;
    if tablet.shard == *shard {
        return Ok(tablet);
    }
    Err(Error::invalid(format!(
        "{alias} belongs to {}, not to {shard}",
        tablet.shard
    )))
}

/// A tablet that is being backed up can be promoted (and keeps its new type); it may refuse
/// while its database is down.
fn check_electable(tablet: &Tablet, at_work: bool) -> Result<()> {
    match tablet.tablet_type {
        TabletType::Replica | TabletType::Rdonly | TabletType::Spare | TabletType::Primary => {
            Ok(())
        }
        TabletType::Backup if at_work => Ok(()),
        TabletType::Backup | TabletType::Restore | TabletType::Drained => {
            Err(Error::refused(format!(
                "{} is of type {} and cannot become primary",
                tablet.alias, tablet.tablet_type
            ))
            .hint("Choose a replica; ListTablets shows them."))
        }
    }
}

fn check_no_reparent(state: &State, shard: &ShardId) -> Result<()> {
    match state.locks.exclusive_holder(Exclusive::Reparent, shard) {
        None => Ok(()),
        Some(operation) => Err(Error::refused(format!(
            "the primary of {shard} is being changed by operation {operation}"
        ))
        .hint("Wait until it has ended.")),
    }
}

fn backup_side(shard: &ShardId, reason: String, now_unix_ms: u64) -> Claim {
    Claim {
        side: Side::Backup,
        scope: Scope::Shard(shard.clone()),
        reason,
        now_unix_ms,
    }
}

fn delete_side(shard: &ShardId, reason: String, now_unix_ms: u64) -> Claim {
    Claim {
        side: Side::Delete,
        scope: Scope::Shard(shard.clone()),
        reason,
        now_unix_ms,
    }
}
