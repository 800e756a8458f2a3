//! The delete side of a shard's backup lock, for whoever deletes: taken as soon as nobody holds the
//! other side. A shard that is hardly ever idle has gaps of moments only, which looking now and then
//! would miss for hours.

use seawall_common::{Result, clock::now_unix_ms, ids::ShardId};

use super::{Coordination, driver::Run};
use crate::state::{
    Command,
    locks::{Scope, Side},
    operations,
};

/// The operation holds it when this returns.
pub async fn take(run: &Run, shard: &ShardId) {
    let mut wait = run.backoff();
    if let Err(held) = check_free(&run.context, shard) {
        tracing::info!(operation = %run.id, %shard, "the deletion waits: {held}");
    }
    loop {
        until_free(&run.context, shard).await;
        let take = operations::Command::TakeDeleteSide {
            id: run.id,
            now_unix_ms: now_unix_ms(),
        };
        let Err(e) = run.commit(Command::Operations(take)).await else {
            return;
        };
        // Most often somebody was faster, and is waited for.
        if check_free(&run.context, shard).is_ok() {
            tracing::warn!(operation = %run.id, %shard, "the deletion waits: {e}");
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

async fn until_free(context: &Coordination, shard: &ShardId) {
    let mut applied = context.group.applied();
    while check_free(context, shard).is_err() {
        if applied.changed().await.is_err() {
            // The member goes down, and whoever waits here with it.
            std::future::pending::<()>().await;
        }
    }
}
