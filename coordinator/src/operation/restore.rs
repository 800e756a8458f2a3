//! Restores a tablet from the newest backup that fits, or a named one.
//!
//! Its point of no return is the new data directory in its place. Before it, nothing of the
//! tablet's has changed; after it, what is left is to start, replicate and catch up.

use seawall_common::{Error, Result, ids::Alias};
use seawall_proto::v1::{self, execute_request::Step};

use super::{
    agent_call, backup, choice,
    driver::{Run, outcome},
    refresh, verify,
};
use crate::state::{
    catalogue::Entry,
    operations::{Effect, Operation, Outcome, Spec},
};

/// How many backups that were passed over are named: a step's note has its bounds.
const SKIPPED_NAMED: usize = 10;
/// What a restore at an empty start says when the shard has no backup at all.
pub const STARTS_EMPTY: &str = "no backup: starts empty";

pub async fn forward(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::Restore {
        alias, concurrency, ..
    } = &operation.spec
    else {
        return Err(Error::internal("not a restore"));
    };
    let chosen_outcome = run.step("choose", choose(run, operation)).await?;
    let Some(entry) = chosen(run)? else {
        return Ok(STARTS_EMPTY.to_owned());
    };
    let drain = Step::Drain(v1::DrainStep {
        r#type: v1::TabletType::Restore.into(),
        drain_ms: None,
    });
    run.agent_step("drain", alias, drain).await?;
    let fetch = Step::Fetch(v1::FetchStep {
        backup: entry.name.to_string(),
        manifest_hash: entry.facts.manifest_hash.clone(),
        concurrency: *concurrency,
    });
    run.agent_step("fetch", alias, fetch).await?;
    run.agent_step("install", alias, Step::Install(v1::InstallStep {}))
        .await?;
    // Until a server has come up on what was restored, the old data can come back.
    run.step("start", start(run, alias)).await?;
    let serving = backup::bring_back(run, alias, false).await?;
    let mut result = format!("{alias} is restored from {}", entry.name);
    let passed_over = &chosen_outcome.note;
    for note in [passed_over, &serving.note] {
        if !note.is_empty() {
            result.push_str(&format!("; {note}"));
        }
    }
    Ok(result)
}

/// The repository decides what there is: read anew before anything is chosen.
async fn choose(run: &Run, operation: &Operation) -> Result<(Outcome, Effect)> {
    let Spec::Restore {
        alias,
        backup,
        empty_start,
        allow_broken,
        ..
    } = &operation.spec
    else {
        return Err(Error::internal("not a restore"));
    };
    let shard = &operation.shard;
    refresh::refresh(&run.context, shard).await?;
    let choice = run.context.group.look(|state| {
        let heartbeats = &run.context.heartbeats;
        choice::for_tablet(state, heartbeats, alias, backup.as_ref(), *allow_broken)
    })?;
    for skipped in &choice.skipped {
        tracing::warn!(operation = %run.id, %shard, "passed over for the restore: {skipped}");
    }
    let note = if choice.skipped.is_empty() {
        String::new()
    } else {
        let named = choice.skipped.iter().take(SKIPPED_NAMED).cloned();
        let named: Vec<_> = named.collect();
        format!("passed over {}: {}", choice.skipped.len(), named.join("; "))
    };
    let outcome = Outcome {
        note,
        ..Outcome::default()
    };
    match choice.chosen {
        Some(entry) => Ok((outcome, Effect::Chosen(entry.name))),
        None if *empty_start => Ok((outcome, Effect::None)),
        None => Err(choice::no_backup(shard)),
    }
}

fn chosen(run: &Run) -> Result<Option<Entry>> {
    run.context.group.look(|state| {
        let operation = state.operations.get(&run.id)?;
        let name = operation.backup.as_ref();
        name.map(|name| state.catalogue.entry(&operation.shard, name).cloned())
            .transpose()
    })
}

async fn start(run: &Run, alias: &Alias) -> Result<(Outcome, Effect)> {
    let step = Step::Start(v1::StartStep {});
    let done = agent_call::call(run, alias, step).await?;
    Ok((outcome(alias, &done)?, Effect::PointOfNoReturn))
}

pub async fn undo(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::Restore { alias, .. } = &operation.spec else {
        return Err(Error::internal("not a restore"));
    };
    if operation.step("drain").is_none() {
        return Ok(String::new());
    }
    let reason = operation.error.as_ref().map(|error| error.message.clone());
    let step = v1::PutBackStep {
        abandon_backup: String::new(),
        reason: reason.unwrap_or_default(),
        r#type: backup::wanted_type(run, alias).into(),
        // After a failure the next try goes on with what has been fetched.
        discard: operation.cancelled,
    };
    let (noted, complaint) = tokio::join!(
        verify::note_failed_restore(run, operation),
        backup::put_back(run, alias, step)
    );
    if let Err(e) = noted {
        // The tablet goes before: a verification finds it as well.
        tracing::error!(operation = %run.id, "cannot mark what is damaged: {e}");
    }
    Ok(complaint)
}
