//! The delete side of a shard's backup lock, for whoever deletes: taken as soon as nobody holds the
//! other side. A shard that is hardly ever idle has gaps of moments only, which looking now and then
//! would miss for hours.

use seawall_common::{Result, clock::now_unix_ms, ids::ShardId};
use tokio::time::Instant;

use super::{Coordination, driver::Run};
use crate::state::{
    Command,
    locks::{Scope, Side},
    operations,
};

/// The operation holds it when this returns; since when it may have had it. Who watches is told whom
/// it waits for.
pub async fn take(run: &Run, shard: &ShardId) -> Instant {
    let mut wait = run.backoff();
    if let Err(held) = check_free(&run.context, shard) {
        tracing::info!(operation = %run.id, %shard, "the deletion waits: {held}");
    }
    loop {
        until_free(run, shard).await;
        let asked_at = Instant::now();
        let take = operations::Command::TakeDeleteSide {
            id: run.id,
            now_unix_ms: now_unix_ms(),
        };
        let Err(e) = run.commit(Command::Operations(take)).await else {
            return asked_at;
        };
        // Most often somebody was faster, and is waited for.
        if check_free(&run.context, shard).is_ok() {
            tracing::warn!(operation = %run.id, %shard, "the deletion waits: {e}");
            run.say(format!("waits: {e}"));
            wait.pause().await;
        }
    }
}

/// The error says who holds the other side.
fn check_free(context: &Coordination, shard: &ShardId) -> Result<()> {
    let scope = Scope::Shard(shard.clone());
    context
        .group
        .look(|state| state.locks.check_other_side(Side::Delete, &scope))
}

async fn until_free(run: &Run, shard: &ShardId) {
    let mut applied = run.context.group.applied();
    while let Err(held) = check_free(&run.context, shard) {
        run.say(format!("waits: {held}"));
        if applied.changed().await.is_err() {
            // The member goes down, and whoever waits here with it.
            std::future::pending::<()>().await;
        }
    }
}
