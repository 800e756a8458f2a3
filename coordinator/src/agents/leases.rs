//! Lets holds taken by hand run out: by a command in the log, from the leader.

use std::time::Duration;

use seawall_common::clock::now_unix_ms;

use crate::{
    group::Group,
    state::{Command, locks},
};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs for as long as this member leads; the caller ends it with the office.
pub async fn watch(group: &dyn Group) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let now_unix_ms = now_unix_ms();
        if !group.look(|state| state.locks.has_expired(now_unix_ms)) {
            continue;
        }
        let expire = Command::Locks(locks::Command::Expire { now_unix_ms });
        match group.propose(expire).await {
            Ok(_) => tracing::info!("a hold of the backup lock has run out"),
            Err(e) => tracing::warn!("cannot release a hold that has run out: {e}"),
        }
    }
}
