//! The cold backup of one tablet.
//!
//! Its point of no return is the manifest in the repository: before it, everything is undone and
//! the backup given up (`removed` first, then the hold: I2); after it, the backup stands, and what
//! is left is to bring the tablet back.

use seawall_common::{
    Error, Result,
    ids::{Alias, BackupName, ShardId},
};
use seawall_proto::v1::{self, execute_request::Step};

use super::{
    agent_call,
    driver::{Run, outcome},
    removal, verify,
};
use crate::{
    service::convert,
    state::{
        State,
        catalogue::Facts,
        epochs::is_on_line,
        operations::{Effect, Operation, Outcome, Spec},
        references::Reference,
        topology::TabletType,
    },
};

pub async fn forward(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::Backup {
        alias,
        concurrency,
        no_wait,
        ..
    } = &operation.spec
    else {
        return Err(Error::internal("not a backup"));
    };
    run.agent_step("prepare", alias, prepare(operation)?)
        .await?;
    let drain = Step::Drain(v1::DrainStep {
        r#type: v1::TabletType::Backup.into(),
        drain_ms: None,
    });
    run.agent_step("drain", alias, drain).await?;
    let noted = run
        .agent_step("note", alias, Step::Note(v1::NoteStep {}))
        .await?;
    run.agent_step("stop", alias, Step::Stop(v1::StopStep {}))
        .await?;
    let copied = run
        .step("copy", copy(run, operation, alias, *concurrency))
        .await?;
    let no_wait = *no_wait || noted.replication_was_stopped;
    // The database is down: it waits for nothing.
    let (serving, ()) = tokio::join!(
        bring_back(run, alias, no_wait),
        mark_if_damaged(run, operation)
    );
    let serving = serving?;
    let name = operation.backup.as_ref().map(ToString::to_string);
    let mut result = format!("backup {} is complete", name.unwrap_or_default());
    for note in [copied.note, serving.note] {
        if !note.is_empty() {
            result.push_str(&format!("; {note}"));
        }
    }
    Ok(result)
}

/// It may refer to a pack that was found damaged since it began.
async fn mark_if_damaged(run: &Run, operation: &Operation) {
    if let Err(e) = verify::mark_reaching(run, &operation.shard).await {
        tracing::error!(operation = %run.id, "cannot see whether the backup needs what is damaged: {e}");
    }
}

/// Steps 6 to 9, which a restore ends with too.
pub async fn bring_back(run: &Run, alias: &Alias, no_wait: bool) -> Result<Outcome> {
    run.insist_agent_step("start", alias, Effect::None, || {
        Step::Start(v1::StartStep {})
    })
    .await?;
    run.insist_agent_step("reinstate", alias, Effect::None, || {
        Step::Reinstate(v1::ReinstateStep {})
    })
    .await?;
    run.insist_agent_step("catch_up", alias, Effect::WorkEnded, || {
        // With nobody to catch up with, waiting would keep the tablet from being elected.
        let no_wait = no_wait || !has_primary(run, alias);
        Step::CatchUp(v1::CatchUpStep { no_wait })
    })
    .await?;
    run.insist_agent_step("serve", alias, Effect::None, || {
        let r#type = wanted_type(run, alias).into();
        Step::Serve(v1::ServeStep { r#type })
    })
    .await
}

/// Whether the tablet's shard has ever had a primary.
fn has_primary(run: &Run, alias: &Alias) -> bool {
    run.context.group.look(|state| {
        let tablet = state.topology.tablet(alias);
        tablet.is_ok_and(|tablet| state.topology.newest_epoch(&tablet.shard).is_some())
    })
}

pub fn wanted_type(run: &Run, alias: &Alias) -> v1::TabletType {
    run.context.group.look(|state| {
        let tablet = state.topology.tablet(alias);
        let wanted = tablet.map_or(TabletType::Spare, |tablet| tablet.wanted_type);
        convert::tablet_type(wanted)
    })
}

fn prepare(operation: &Operation) -> Result<Step> {
    Ok(Step::Prepare(v1::PrepareStep {
        backup: own_name(operation)?.to_string(),
        may_refer_to: references(operation),
    }))
}

fn own_name(operation: &Operation) -> Result<&BackupName> {
    let name = operation.backup.as_ref();
    name.ok_or_else(|| Error::internal("a backup without a name"))
}

/// The same under every leader: they were named when the backup was granted.
fn references(operation: &Operation) -> Vec<v1::Reference> {
    let reference = |reference: &Reference| v1::Reference {
        backup: reference.backup.to_string(),
        manifest_hash: reference.manifest_hash.clone(),
    };
    operation.references.iter().map(reference).collect()
}

async fn copy(
    run: &Run,
    operation: &Operation,
    alias: &Alias,
    concurrency: u32,
) -> Result<(Outcome, Effect)> {
    let name = own_name(operation)?;
    let mut may_refer_to = references(operation);
    let (begun, damaged_packs) = run.context.group.look(|state| {
        let entry = state.catalogue.entry(&operation.shard, name)?;
        check_on_line(state, run, &operation.shard, entry.facts.epoch)?;
        let damaged = state.catalogue.damaged.of(&operation.shard);
        // Found since it was granted.
        let untold = &state.catalogue.untold_damage;
        if untold.may_concern(&operation.shard, name) {
            may_refer_to.clear();
        }
        Ok::<_, Error>((entry.facts.epoch, damaged.map(str::to_owned).collect()))
    })?;
    let step = Step::Copy(v1::CopyStep {
        backup: name.to_string(),
        epoch: begun,
        concurrency,
        may_refer_to,
        damaged_packs,
    });
    let done = agent_call::call(run, alias, step).await?;
    let copied = done
        .backup
        .as_ref()
        .ok_or_else(|| Error::internal(format!("{alias} copied, but did not say what")))?;
    let facts = convert::facts(copied)?;
    check_announced(run, operation, &facts)?;
    let effect = Effect::BackupComplete(Box::new(facts));
    Ok((outcome(alias, &done)?, effect))
}

/// A backup that began in one epoch and whose database went on into the next before it stopped
/// could never be restored under the epoch that it is labelled with.
fn check_on_line(state: &State, run: &Run, shard: &ShardId, epoch: u64) -> Result<()> {
    let stopped = state.operations.get(&run.id)?.outcome("stop");
    let position = stopped.map(|stopped| &stopped.position);
    match position {
        Some(at) if !is_on_line(state.topology.line(shard), epoch, at) => Err(Error::refused(
            format!("the primary of {shard} changed while the database was being stopped"),
        )
        .hint("Start the backup again.")),
        _ => Ok(()),
    }
}

/// The manifest that was put must be the one that was announced before.
fn check_announced(run: &Run, operation: &Operation, facts: &Facts) -> Result<()> {
    let name = own_name(operation)?;
    let announced = run.context.group.look(|state| {
        let entry = state.catalogue.entry(&operation.shard, name)?;
        Ok::<_, Error>(entry.facts.manifest_hash.clone())
    })?;
    if announced == facts.manifest_hash && !announced.is_empty() {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "the manifest that was put has hash {:?}, announced was {announced:?}",
        facts.manifest_hash
    )))
}

/// Gives the backup up, and has the agent put its database back: neither waits for the other.
pub async fn undo(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::Backup { alias, .. } = &operation.spec else {
        return Err(Error::internal("not a backup"));
    };
    let reason = operation
        .error
        .as_ref()
        .map_or("given up", |error| error.message.as_str());
    let name = operation.backup.as_ref().map(ToString::to_string);
    let step = v1::PutBackStep {
        abandon_backup: name.unwrap_or_default(),
        reason: reason.to_owned(),
        r#type: wanted_type(run, alias).into(),
        discard: false,
    };
    let (abandoned, complaint) =
        tokio::join!(abandon(run, operation, reason), put_back(run, alias, step));
    abandoned?;
    Ok(complaint)
}

/// Without the mark the hold cannot be let go of (I2): tried for as long as it takes.
async fn abandon(run: &Run, operation: &Operation, reason: &str) -> Result<()> {
    let name = own_name(operation)?;
    removal::put_mark(run, "abandon", &operation.shard, name, reason).await;
    Ok(())
}

/// Has the agent undo its attempt. An agent that cannot be reached does that by itself; what it
/// could not be made to say is answered.
pub async fn put_back(run: &Run, alias: &Alias, step: v1::PutBackStep) -> String {
    put_back_taking(run, alias, step, |done| {
        Ok((outcome(alias, done)?, Effect::None))
    })
    .await
}

/// The same, and `take` says what to record of the agent's answer.
pub async fn put_back_taking(
    run: &Run,
    alias: &Alias,
    step: v1::PutBackStep,
    take: impl Fn(&v1::StepDone) -> Result<(Outcome, Effect)>,
) -> String {
    let is_gone = || run.context.heartbeats.silence(alias) >= run.lease();
    let call = || async { take(&agent_call::call(run, alias, Step::PutBack(step.clone())).await?) };
    let insisting = run.insist("put_back", is_gone, call);
    let undone = tokio::time::timeout(run.context.patience.undo, insisting);
    match undone.await {
        Ok(Ok(_)) => String::new(),
        // The agent has undone it by itself, or has never heard of it.
        Ok(Err(e)) if is_nothing_to_undo(&e) => String::new(),
        Ok(Err(e)) => format!("{alias} did not say that it has put its database back: {e}"),
        Err(_) => format!("{alias} has not put its database back yet; it goes on by itself"),
    }
}

fn is_nothing_to_undo(error: &Error) -> bool {
    use seawall_common::ErrorKind::{Cancelled, Invalid, NotFound};
    matches!(error.kind(), Cancelled | Invalid | NotFound)
}

/// What a failure past the point of no return means.
pub fn stands(operation: &Operation, alias: &Alias, error: &Error) -> Error {
    let name = operation.backup.as_ref().map(ToString::to_string);
    let what = format!(
        "backup {} is complete, but {alias} does not serve again",
        name.unwrap_or_default()
    );
    error.clone().context(what)
}
