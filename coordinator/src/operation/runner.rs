//! Keeps a driver going for every open operation while this member leads.
//!
//! Drivers belong to one term of office: losing it ends them all, wherever they are, and whoever
//! leads next repeats the step that each was in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use seawall_common::ids::OperationId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Coordination, clock,
    driver::{self, Backoff, Run},
    retention, schedules,
};
use crate::agents::serving;

/// Before an operation whose driver panicked is given another.
const RESPAWN_AFTER: Duration = Duration::from_secs(5);

pub async fn run(context: Arc<Coordination>, stop: CancellationToken) {
    tokio::select! {
        () = clock::follow(&context) => {}
        () = take_offices(&context, stop) => {}
    }
}

async fn take_offices(context: &Arc<Coordination>, stop: CancellationToken) {
    let mut leadership = context.group.leadership();
    loop {
        let now = *leadership.borrow_and_update();
        let in_office = async {
            if now.is_ours {
                hold_office(context).await;
            } else {
                context.heartbeats.leave_office();
                context.serving.forget();
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = in_office => {}
            changed = leadership.wait_for(|next| {
                (next.is_ours, next.term) != (now.is_ours, now.term)
            }) => {
                if changed.is_err() {
                    return;
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

/// Never returns while the office lasts; dropping it ends all drivers.
async fn hold_office(context: &Arc<Coordination>) {
    context.heartbeats.take_office();
    context.serving.forget();
    context.collections.take_office();
    let (first, max) = context.patience.retry;
    let mut wait = Backoff::new(first, max);
    let term = loop {
        match context.group.prove_leadership().await {
            Ok(term) => break term,
            Err(e) => {
                tracing::warn!("not yet in office: {e}");
                wait.pause().await;
            }
        }
    };
    tracing::info!(term, "in office: taking up the open operations");
    tokio::join!(
        drive_all(context, term),
        context.leases.watch(context),
        serving::run(context),
        retention::run(context),
        schedules::run(context)
    );
}

async fn drive_all(context: &Arc<Coordination>, term: u64) {
    let mut applied = context.group.applied();
    let mut tasks: JoinSet<OperationId> = JoinSet::new();
    let mut driven: BTreeMap<tokio::task::Id, OperationId> = BTreeMap::new();
    loop {
        applied.mark_unchanged();
        let open: BTreeSet<OperationId> = context
            .group
            .look(|state| state.operations.open().map(|o| o.id).collect());
        let at_work: BTreeSet<OperationId> = driven.values().copied().collect();
        for id in open.difference(&at_work).copied() {
            let run = Run {
                context: context.clone(),
                term,
                id,
            };
            let task = tasks.spawn(async move {
                driver::drive(run).await;
                id
            });
            driven.insert(task.id(), id);
        }
        tokio::select! {
            changed = applied.changed() => {
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            Some(ended) = tasks.join_next_with_id() => {
                match ended {
                    Ok((task, _)) => drop(driven.remove(&task)),
                    Err(e) => {
                        tracing::error!("a driver ended badly: {e}");
                        if let Some(id) = driven.remove(&e.id()) {
                            let rest = tasks.spawn(async move {
                                tokio::time::sleep(RESPAWN_AFTER).await;
                                id
                            });
                            driven.insert(rest.id(), id);
                        }
                    }
                }
            }
        }
    }
}
