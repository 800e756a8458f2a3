//! Reads a backup back, or restores it aside, on an agent; and marks whatever the damage that was
//! found, then or by a restore, touches.
//!
//! It works under the backup side of the shard's lock, so that nothing is deleted that it reads.
//! What it finds is recorded together with the end of its step: a leader that takes over goes on
//! with the marks. It changes nothing that could be undone.

use std::collections::BTreeSet;

use seawall_common::{
    Error, ErrorKind, Result,
    clock::now_unix_ms,
    ids::{Alias, BackupName, ShardId},
    repository::packs_named_in,
};
use seawall_proto::v1::{self, execute_request::Step};
use uuid::Uuid;

use super::{
    agent_call, backup, choice,
    driver::{Run, outcome},
};
use crate::state::{
    Command,
    catalogue::Entry,
    operations::{Effect, Operation, Outcome, Spec},
    verification::{self, Verification},
};

/// Characters of what an agent says, as it stands on the entry.
const MESSAGE_CHARS_MAX: usize = 500;
/// Damaged packs of one verification that are taken in: a command has its bounds.
const DAMAGED_MAX: usize = 500;
/// Backups that one command marks.
const MARKED_AT_ONCE: usize = 20;

const DAMAGED: &str = "It is marked as broken, and so is every backup that needs a damaged pack: ListBackups shows them.";
const MUCH_DAMAGED: &str = "It is marked as broken. More packs are damaged than are remembered one by one: verify the other backups too. \
     The next backup refers to none of them and sends everything.";

pub async fn forward(run: &Run, operation: &Operation) -> Result<String> {
    let name = backup_of(operation)?;
    let chosen = run.step("choose", choose(run, operation)).await?;
    let alias = chosen
        .alias
        .ok_or_else(|| Error::internal("no tablet was chosen"))?;
    let what = step_name(operation);
    let done = run.step(what, look(run, operation, &alias)).await?;
    let result = done
        .verification
        .ok_or_else(|| Error::internal(format!("{alias} did not say what it found")))?;
    run.insist("mark", || false, || mark(run, operation, &result))
        .await?;
    let hint = match done.more_damaged {
        true => MUCH_DAMAGED,
        false => DAMAGED,
    };
    match result.passed {
        true => Ok(format!(
            "backup {name} passed on {alias}: {}",
            result.message
        )),
        false => {
            Err(Error::corrupt(format!("backup {name} is damaged: {}", result.message)).hint(hint))
        }
    }
}

fn backup_of(operation: &Operation) -> Result<&BackupName> {
    let name = operation.backup.as_ref();
    name.ok_or_else(|| Error::internal("a verification without a backup"))
}

fn step_name(operation: &Operation) -> &'static str {
    match operation.spec {
        Spec::TestRestore { .. } => "test_restore",
        _ => "verify",
    }
}

async fn choose(run: &Run, operation: &Operation) -> Result<(Outcome, Effect)> {
    let name = backup_of(operation)?;
    let alias = run.context.group.look(|state| {
        let entry = state.catalogue.entry(&operation.shard, name)?;
        choice::tablet_to_verify(state, &run.context.heartbeats, entry, &operation.spec)
    })?;
    let outcome = Outcome {
        alias: Some(alias),
        ..Outcome::default()
    };
    Ok((outcome, Effect::None))
}

async fn look(run: &Run, operation: &Operation, alias: &Alias) -> Result<(Outcome, Effect)> {
    let name = backup_of(operation)?;
    let hash = run.context.group.look(|state| {
        let entry = state.catalogue.entry(&operation.shard, name)?;
        Ok::<_, Error>(entry.facts.manifest_hash.clone())
    })?;
    let done = agent_call::call(run, alias, step(operation, name, hash)?).await?;
    let found = done
        .verification
        .as_ref()
        .ok_or_else(|| Error::internal(format!("{alias} did not say what it found")))?;
    Ok((with_findings(alias, &done, found)?, Effect::Verified))
}

fn with_findings(alias: &Alias, done: &v1::StepDone, found: &v1::Verification) -> Result<Outcome> {
    let mut outcome = outcome(alias, done)?;
    outcome.verification = Some(Verification {
        at_unix_ms: now_unix_ms(),
        passed: found.passed,
        percent: found.percent,
        seed: found.seed,
        message: found.message.chars().take(MESSAGE_CHARS_MAX).collect(),
        alias: alias.to_string(),
        bytes: found.bytes,
    });
    outcome.damaged_packs = damaged_packs(done);
    outcome.more_damaged =
        done.more_damaged || outcome.damaged_packs.len() < done.damaged_packs.len();
    Ok(outcome)
}

fn step(operation: &Operation, name: &BackupName, manifest_hash: String) -> Result<Step> {
    let shard = Some(operation.shard.to_proto());
    let backup = name.to_string();
    match &operation.spec {
        Spec::Verify {
            percent,
            concurrency,
            ..
        } => Ok(Step::Verify(v1::VerifyStep {
            shard,
            backup,
            manifest_hash,
            percent: *percent,
            // Another share each time, and the same one when a step is asked for again.
            seed: operation.created_unix_ms,
            concurrency: *concurrency,
        })),
        Spec::TestRestore { concurrency, .. } => Ok(Step::TestRestore(v1::TestRestoreStep {
            shard,
            backup,
            manifest_hash,
            concurrency: *concurrency,
        })),
        _ => Err(Error::internal("not a verification")),
    }
}

/// Only what can be the name of a pack.
fn damaged_packs(done: &v1::StepDone) -> Vec<String> {
    let is_name = |pack: &&String| {
        pack.len() == 32 && pack.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let packs = done.damaged_packs.iter().filter(is_name);
    packs.take(DAMAGED_MAX).cloned().collect()
}

/// Marks the other backups that need what is damaged; what was read as a whole is not damaged.
async fn mark(
    run: &Run,
    operation: &Operation,
    result: &Verification,
) -> Result<(Outcome, Effect)> {
    let shard = &operation.shard;
    let read_all = matches!(operation.spec, Spec::Verify { .. }) && result.percent >= 100;
    if result.passed && read_all {
        let begun = run.operation()?;
        let begun = begun.step(step_name(operation)).map(|s| s.started_unix_ms);
        forget_damage(run, shard, backup_of(operation)?, begun).await?;
    }
    mark_reaching(run, shard).await?;
    Ok((Outcome::default(), Effect::None))
}

async fn forget_damage(
    run: &Run,
    shard: &ShardId,
    name: &BackupName,
    begun_unix_ms: Option<u64>,
) -> Result<()> {
    let damaged = damaged(run, shard);
    let hash = run.context.group.look(|state| {
        let entry = state.catalogue.entry(shard, name);
        entry.map(|entry| entry.facts.manifest_hash.clone())
    })?;
    if damaged.is_empty() {
        return Ok(());
    }
    let needed = run.context.store.packs_of(shard, name, &hash).await?;
    let packs: Vec<String> = damaged
        .into_iter()
        .filter(|pack| needed.contains(pack))
        .take(DAMAGED_MAX)
        .collect();
    if packs.is_empty() {
        return Ok(());
    }
    let whole = verification::Command::Whole {
        shard: shard.clone(),
        packs,
        begun_unix_ms,
    };
    run.commit(Command::Verification(whole)).await.map(drop)
}

/// What nobody needs and is no longer there cannot be damaged any more.
pub async fn forget_gone(run: &Run, shard: &ShardId, gone: &BTreeSet<Uuid>) -> Result<()> {
    let gone: Vec<String> = gone.iter().map(|id| id.simple().to_string()).collect();
    for packs in gone.chunks(DAMAGED_MAX) {
        let whole = verification::Command::Whole {
            shard: shard.clone(),
            packs: packs.to_vec(),
            begun_unix_ms: None,
        };
        run.commit(Command::Verification(whole)).await?;
    }
    Ok(())
}

fn damaged(run: &Run, shard: &ShardId) -> Vec<String> {
    run.context.group.look(|state| {
        let packs = state.catalogue.damaged.of(shard);
        packs.map(str::to_owned).collect()
    })
}

/// Marks every complete backup of a shard that needs a pack which is known to be damaged.
pub async fn mark_reaching(run: &Run, shard: &ShardId) -> Result<()> {
    let damaged = damaged(run, shard);
    if damaged.is_empty() {
        return Ok(());
    }
    let complete: Vec<Entry> = run
        .context
        .group
        .look(|state| state.catalogue.complete_ones(shard).cloned().collect());
    let mut broken = Vec::new();
    for entry in complete {
        let hash = &entry.facts.manifest_hash;
        let why = match run.context.store.packs_of(shard, &entry.name, hash).await {
            Ok(needed) => damaged
                .iter()
                .find(|pack| needed.contains(*pack))
                .map(|pack| format!("it needs pack {pack}, which is damaged")),
            Err(e) if e.kind() == ErrorKind::Corrupt => Some(e.message().to_owned()),
            // Removed since.
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if let Some(why) = why {
            tracing::error!(%shard, backup = %entry.name, "marked as broken: {why}");
            broken.push((entry.name, shortened(&why)));
        }
    }
    for broken in broken.chunks(MARKED_AT_ONCE) {
        commit_damage(run, shard, Vec::new(), broken.to_vec()).await?;
    }
    Ok(())
}

fn shortened(why: &str) -> String {
    why.chars().take(MESSAGE_CHARS_MAX).collect()
}

async fn commit_damage(
    run: &Run,
    shard: &ShardId,
    packs: Vec<String>,
    broken: Vec<(BackupName, String)>,
) -> Result<()> {
    let damage = verification::Command::Damage {
        shard: shard.clone(),
        packs,
        broken,
        now_unix_ms: now_unix_ms(),
    };
    run.commit(Command::Verification(damage)).await.map(drop)
}

/// A restore met damage: its backup, and all that need the same pack, are not chosen again.
pub async fn note_failed_restore(run: &Run, operation: &Operation) -> Result<()> {
    let Some(name) = &operation.backup else {
        return Ok(());
    };
    let fetch = operation.step("fetch").and_then(|step| step.error.as_ref());
    let is_corrupt = operation
        .error
        .as_ref()
        .is_some_and(|error| error.kind == ErrorKind::Corrupt.name());
    let Some(why) = fetch.filter(|_| is_corrupt) else {
        return Ok(());
    };
    let shard = &operation.shard;
    tracing::error!(%shard, backup = %name, "marked as broken by a restore: {why}");
    let broken = vec![(name.clone(), shortened(why))];
    commit_damage(run, shard, packs_named_in(why), broken).await?;
    mark_reaching(run, shard).await
}

/// Calls the agent off, when it may still be at it. The damage that it has found by then counts.
pub async fn undo(run: &Run, operation: &Operation) -> Result<String> {
    let alias = operation
        .outcome("choose")
        .and_then(|chosen| chosen.alias.clone());
    let begun = operation.step(step_name(operation)).is_some();
    let ended = operation.outcome(step_name(operation)).is_some();
    let Some(alias) = alias.filter(|_| begun && !ended) else {
        return Ok(String::new());
    };
    let reason = operation.error.as_ref().map(|error| error.message.clone());
    let step = v1::PutBackStep {
        abandon_backup: String::new(),
        reason: reason.unwrap_or_default(),
        discard: false,
        r#type: backup::wanted_type(run, &alias).into(),
    };
    let complaint = backup::put_back_taking(run, &alias, step, |done| match &done.verification {
        Some(found) if !found.passed => {
            Ok((with_findings(&alias, done, found)?, Effect::DamageFound))
        }
        _ => Ok((outcome(&alias, done)?, Effect::None)),
    })
    .await;
    match found_by_then(run)? {
        Some(damage) => mark_found_by_then(run, operation, &damage).await,
        None => Ok(complaint),
    }
}

fn found_by_then(run: &Run) -> Result<Option<Verification>> {
    let operation = run.operation()?;
    let put_back = operation.outcome("put_back");
    Ok(put_back.and_then(|outcome| outcome.verification.clone()))
}

async fn mark_found_by_then(
    run: &Run,
    operation: &Operation,
    damage: &Verification,
) -> Result<String> {
    let (shard, name) = (&operation.shard, backup_of(operation)?);
    let what = format!("backup {name} is damaged all the same: {}", damage.message);
    tracing::error!(%shard, backup = %name, "marked as broken: {}", damage.message);
    match mark_reaching(run, shard).await {
        Ok(()) => Ok(what),
        Err(e) => Ok(format!(
            "{what}; which other backups need what is damaged could not be looked up: {e}"
        )),
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
