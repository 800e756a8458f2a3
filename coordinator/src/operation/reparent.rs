//! Who is primary: a shard's first, and the orderly change to another.
//!
//! The point of no return is the new epoch in the log. Before it, the old primary is opened again;
//! after it, the new one is promoted, and its agent would open it even if this operation did not.

use seawall_common::{
    Error, Result,
    clock::now_unix_ms,
    ids::{Alias, ShardId},
    position::Position,
    repository::EpochRecord,
};
use seawall_proto::v1::{self, execute_request::Step};

use super::{backup, driver::Run, refresh};
use crate::state::{
    Command,
    epochs::{Epoch, NewEpoch},
    operations::{Effect, Operation, Outcome, Spec},
    topology,
};

pub async fn init(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::InitShardPrimary { shard, alias } = &operation.spec else {
        return Err(Error::internal("not an InitShardPrimary"));
    };
    check_may_begin(run, operation).await?;
    // Its database may still be on its way up: a shard's first primary is named early.
    let read = run
        .insist_agent_step("read_position", alias, Effect::None, read_position)
        .await?;
    decide(run, shard, alias, read.position).await?;
    begin_reign(run, shard, alias).await
}

pub async fn planned(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::PlannedReparent { shard, new_primary } = &operation.spec else {
        return Err(Error::internal("not a PlannedReparent"));
    };
    check_may_begin(run, operation).await?;
    // That it answers at all is found out before anybody's writes stop.
    run.agent_step("read_position", new_primary, read_position())
        .await?;
    let old_primary = newest_epoch(run, shard)?.alias;
    let demote = Step::Demote(v1::DemoteStep {});
    let ended = run.agent_step("demote", &old_primary, demote).await?;
    let left_ms = operation.deadline_unix_ms.saturating_sub(now_unix_ms());
    let reach = Step::ReachPosition(v1::ReachPositionStep {
        position: ended.position.to_string(),
        timeout_ms: left_ms,
    });
    run.agent_step("reach_position", new_primary, reach).await?;
    decide(run, shard, new_primary, ended.position).await?;
    let (reign, ()) = tokio::join!(
        begin_reign(run, shard, new_primary),
        release(run, &old_primary)
    );
    reign
}

/// Tells the old primary that the change is over for it, so that it is free for other operations.
/// One that does not hear it finds out by itself.
async fn release(run: &Run, old_primary: &Alias) {
    let released = tokio::time::timeout(
        run.context.patience.undo,
        run.insist_agent_step("release", old_primary, Effect::None, || {
            Step::PutBack(v1::PutBackStep {
                abandon_backup: String::new(),
                reason: "another tablet is the primary now".to_owned(),
                r#type: backup::wanted_type(run, old_primary).into(),
                discard: false,
            })
        }),
    );
    match released.await {
        Ok(Ok(_)) => {}
        Ok(Err(e)) => tracing::warn!(operation = %run.id, "cannot tell {old_primary} yet: {e}"),
        Err(_) => tracing::warn!(operation = %run.id, "{old_primary} has not answered yet"),
    }
}

/// Once the epoch is decided there is no way back: its record has a check, and a patience, of its own.
async fn check_may_begin(run: &Run, operation: &Operation) -> Result<()> {
    match operation.irrevocable {
        true => Ok(()),
        false => run.context.check_owner().await,
    }
}

fn read_position() -> Step {
    Step::ReadPosition(v1::ReadPositionStep {})
}

fn newest_epoch(run: &Run, shard: &ShardId) -> Result<Epoch> {
    let epoch = run
        .context
        .group
        .look(|state| state.topology.newest_epoch(shard).cloned());
    epoch.ok_or_else(|| Error::internal(format!("{shard} has no epoch")))
}

async fn decide(run: &Run, shard: &ShardId, alias: &Alias, start: Position) -> Result<()> {
    run.step("new_epoch", async {
        let newest = run
            .context
            .group
            .look(|state| state.topology.newest_epoch(shard).map(|e| e.number));
        let repository_epoch = match newest {
            // Backups of an epoch whose record was never written count as well.
            None => {
                refresh::refresh(&run.context, shard).await?;
                run.context.store.newest_epoch(shard).await?
            }
            Some(_) => 0,
        };
        let new = NewEpoch {
            operation: run.id,
            shard: shard.clone(),
            expected: newest.unwrap_or(0),
            alias: alias.clone(),
            start_position: start,
            repository_epoch,
            now_unix_ms: now_unix_ms(),
        };
        run.commit(Command::Topology(topology::Command::NewEpoch(new)))
            .await?;
        Ok((Outcome::default(), Effect::None))
    })
    .await?;
    Ok(())
}

/// Record and promotion do not wait for each other: a slow store must not keep writes away.
async fn begin_reign(run: &Run, shard: &ShardId, alias: &Alias) -> Result<String> {
    let record = run.insist(
        "epoch_record",
        || false,
        || async {
            run.context.check_owner().await?;
            let record = run.context.group.look(|state| {
                let line = state.topology.line(shard);
                let before = line.len().checked_sub(2).and_then(|index| line.get(index));
                line.last().map(|epoch| EpochRecord {
                    number: epoch.number,
                    alias: epoch.alias.clone(),
                    server_id: epoch.server_id,
                    start_position: epoch.start_position.clone(),
                    began_unix_ms: epoch.began_unix_ms,
                    before: before.map_or(0, |before| before.number),
                })
            });
            let record = record.ok_or_else(|| Error::internal(format!("{shard} has no epoch")))?;
            run.context.store.put_epoch(shard, &record).await?;
            Ok((Outcome::default(), Effect::None))
        },
    );
    let promotion = run.insist_agent_step("promote", alias, Effect::None, || {
        Step::Promote(v1::PromoteStep {})
    });
    let (recorded, promoted) = tokio::join!(record, promotion);
    promoted.map_err(|e| e.context("the new epoch is decided"))?;
    recorded.map_err(|e| e.context("the new epoch is decided, but its record is not written"))?;
    let number = newest_epoch(run, shard)?.number;
    Ok(format!("{alias} is the primary of {shard}, epoch {number}"))
}

/// Opens the old primary again, if it may have been closed. Should it not be reached, its agent
/// finds that the epoch is still its own and opens it by itself.
pub async fn undo(run: &Run, operation: &Operation) -> Result<String> {
    if operation.step("demote").is_none() {
        return Ok(String::new());
    }
    let old_primary = newest_epoch(run, &operation.shard)?.alias;
    let reopened = tokio::time::timeout(
        run.context.patience.undo,
        run.insist_agent_step("reopen", &old_primary, Effect::None, || {
            Step::Reopen(v1::ReopenStep {})
        }),
    );
    Ok(match reopened.await {
        Ok(Ok(_)) => format!("{old_primary} is open for writes again"),
        Ok(Err(e)) => format!("{old_primary} could not be told to open for writes again: {e}"),
        Err(_) => format!("{old_primary} has not opened for writes yet; it goes on by itself"),
    })
}
