//! Takes the group's backups that schedules have begun, one after the other, beside all else.
//!
//! That one is being taken stands in the state: a new leader goes on with what the one before has
//! begun, in the same try. What it came to is told until the state knows it; only when the state has
//! called it off it is let go.

use seawall_common::{Error, Result};
use tokio::sync::watch;

use super::{changed, changes, now_unix_ms};
use crate::{
    operation::{
        Coordination,
        driver::Backoff,
        group_backup::{self, Taken},
    },
    state::{
        Command,
        schedules::{self, Try},
    },
};

/// Never returns while the office lasts.
pub async fn run(context: &Coordination) {
    let mut applied = context.group.applied();
    loop {
        let seen = changes(context);
        let begun = context
            .group
            .look(|state| state.schedules.being_taken().next());
        let Some((of, keep)) = begun else {
            changed(context, &mut applied, seen).await;
            continue;
        };
        tokio::select! {
            () = take(context, &of, keep) => {}
            () = called_off(context, &mut applied, &of) => {}
        }
    }
}

/// Takes it, and tells the state what it came to.
async fn take(context: &Coordination, of: &Try, keep: u32) {
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let taken = group_backup::take(context, keep).await;
    if let Err(e) = &taken {
        tracing::warn!(schedule = of.name, "the group's backup was not taken: {e}");
    }
    let (first, max) = context.patience.retry;
    let mut wait = Backoff::new(first, max);
    while is_being_taken(context, of) {
        if let Err(e) = tell(context, of, &taken).await {
            tracing::warn!(
                schedule = of.name,
                "what the group's backup came to is not known to the group yet: {e}"
            );
            wait.pause().await;
        }
    }
}

async fn tell(context: &Coordination, of: &Try, taken: &Result<Taken>) -> Result<()> {
    let taken = schedules::Command::Taken {
        of: Try {
            now_unix_ms: context.group.look(|state| now_unix_ms(context, state)),
            ..of.clone()
        },
        error: taken.as_ref().err().map(Error::to_string),
    };
    context.group.propose(Command::Schedules(taken)).await?;
    Ok(())
}

fn is_being_taken(context: &Coordination, of: &Try) -> bool {
    context.group.look(|state| state.schedules.are_taking(of))
}

/// Returns when the state waits no more for what it comes to.
async fn called_off(context: &Coordination, applied: &mut watch::Receiver<u64>, of: &Try) {
    while is_being_taken(context, of) {
        if applied.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests;
