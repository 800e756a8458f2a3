//! The gRPC services: each checks what comes in, proposes or reads, and answers.
//!
//! They run on the leader only: the layer in front of them passes calls on. A call that asks for it
//! (`seawall-stale`) is answered from what this member has applied.

pub mod agents;
pub mod catalogue;
pub mod cluster;
pub mod convert;
pub mod locks;
pub mod members;
pub mod operations;
mod plans;
pub mod retention;
mod schedule_view;
pub mod schedules;
pub mod session;
pub mod tablet_view;
pub mod timestamps;
pub mod topology;
pub mod transfers;
pub mod watch;
mod watch_serving;

#[cfg(test)]
mod catalogue_tests;
#[cfg(test)]
mod plans_tests;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod schedule_view_tests;
#[cfg(test)]
mod schedules_tests;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, time::Duration};

use seawall_common::{Error, Result, coordinators::HOLDS_MAX};
use seawall_proto::v1;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::{
    context::{STALE_KEY, is_stale},
    operation::Coordination,
    state::{
        Response, State,
        locks::{Scope, Side},
    },
};

/// Characters of a reason or an owner.
const TEXT_MAX: usize = 512;

fn check_holds(holds: &[v1::HeldToken]) -> Result<()> {
    if holds.len() > HOLDS_MAX {
        let count = holds.len();
        return Err(Error::invalid(format!(
            "{count} holds are named, at most {HOLDS_MAX} at once"
        )));
    }
    Ok(())
}

/// Whether a hold stands with the token that its holder says.
fn is_held(state: &State, held: &v1::HeldToken) -> bool {
    #[cfg(feature = "sim")]
    if crate::sim::is_planted(crate::sim::Bug::OldToken) {
        return true;
    }
    state.locks.is_valid(&held.hold_id, held.token)
}

fn lost_holds(state: &State, holds: &[v1::HeldToken]) -> BTreeSet<String> {
    let lost = holds.iter().filter(|held| !is_held(state, held));
    lost.map(|held| held.hold_id.clone()).collect()
}

/// Looks at the state as it is now, or, when the caller asks for it, as this member has it.
pub(crate) async fn read<T>(
    context: &Coordination,
    metadata: &MetadataMap,
    look: impl FnOnce(&State) -> T,
) -> Result<T> {
    if wants_stale(metadata) {
        return Ok(context.group.look(look));
    }
    context.group.read(look).await
}

fn wants_stale(metadata: &MetadataMap) -> bool {
    is_stale(metadata.get(STALE_KEY).map(|value| value.as_bytes()))
}

fn check_text(what: &str, text: &str) -> Result<()> {
    if text.len() > TEXT_MAX {
        return Err(Error::invalid(format!(
            "the {what} is longer than {TEXT_MAX} characters"
        )));
    }
    if let Some(bad) = text.chars().find(|c| c.is_control()) {
        return Err(Error::invalid(format!(
            "{bad:?} is not allowed in the {what}"
        )));
    }
    Ok(())
}

fn check_given(what: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(Error::invalid(format!("no {what} is given")));
    }
    check_text(what, text)
}

/// An answer of the state machine that the command cannot have.
fn unexpected(response: &Response) -> Error {
    Error::internal(format!("unexpected answer {response:?}"))
}

/// How long a start waits for a deleter that is at work in its scope.
const DELETERS_PATIENCE: Duration = Duration::from_secs(15);
const DELETERS_LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits while something is being deleted in a scope: deleters let go within moments, and nobody
/// should have to try again by hand. Whoever comes in between is refused by the state machine.
async fn wait_for_deleters(context: &Coordination, scope: &Scope) {
    let until = Instant::now() + DELETERS_PATIENCE;
    let is_deleting = || {
        context.group.look(|state| {
            let mut holds = state.locks.holds();
            holds.any(|hold| hold.side == Side::Delete && hold.scope.overlaps(scope))
        })
    };
    while is_deleting() && Instant::now() < until {
        tokio::time::sleep(DELETERS_LOOK_EVERY).await;
    }
}
