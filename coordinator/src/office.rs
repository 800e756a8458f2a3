//! What a member does when it takes office as leader, and what all do about the repository's owner.

use std::{sync::Arc, time::Duration};

use seawall_common::{Error, ErrorKind, Result, repository::Repository};
use tokio_util::sync::CancellationToken;

use crate::{
    context::{Context, Ownership},
    state::{Command, State},
    timestamps::Recorder,
};

const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How often the repository is asked whose it is.
const OWNER_INTERVAL: Duration = Duration::from_secs(10);

/// Takes office whenever this member leads and leaves it when it does not, until the process ends.
pub async fn run(context: Arc<Context>) {
    let mut leadership = context.node.leadership();
    while !context.stop.is_cancelled() {
        let now = *leadership.borrow_and_update();
        if now.is_ours {
            let leave = context.stop.child_token();
            let office = tokio::spawn(hold(context.clone(), now.term, leave.clone()));
            let is_over = tokio::select! {
                later = leadership.wait_for(|later| *later != now) => later.is_err(),
                () = context.stop.cancelled() => true,
            };
            leave.cancel();
            if let Err(e) = office.await {
                tracing::error!("holding office in term {} ended badly: {e}", now.term);
            }
            if is_over {
                return;
            }
        } else {
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = context.stop.cancelled() => {}
            }
        }
    }
}

async fn hold(context: Arc<Context>, term: u64, leave: CancellationToken) {
    tracing::info!(term, "this coordinator leads the group");
    while let Err(e) = settle(&context).await {
        tracing::warn!("what an earlier leader has left is not settled: {e}");
        tokio::select! {
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
            () = leave.cancelled() => return,
        }
    }
    leave.cancelled().await;
    tracing::info!(term, "this coordinator no longer leads the group");
}

/// Names a new group, and finishes a change of the members that an earlier leader began.
async fn settle(context: &Context) -> Result<()> {
    name_group(context).await?;
    context.node.settle_members().await
}

async fn name_group(context: &Context) -> Result<()> {
    if context.node.read(|state| state.group_id.is_some()).await? {
        return Ok(());
    }
    let name = Command::NameGroup {
        group_id: uuid::Uuid::new_v4().to_string(),
        repository_id: context.repository.id().to_owned(),
    };
    context.node.propose(name).await?;
    Ok(())
}

/// Keeps an eye on whose the repository is: the leader claims it, all others look.
pub async fn watch_owner(context: Arc<Context>, recorder: Arc<Recorder>) {
    let mut leadership = context.node.leadership();
    let mut applied = context.node.applied();
    let mut take_over = context.settings.take_over_repository;
    loop {
        let is_ours = leadership.borrow_and_update().is_ours;
        let group_id = context.node.look(|state| state.group_id.clone());
        if let Some(group_id) = group_id {
            applied.mark_unchanged();
            let asked = match context
                .node
                .look(|s| check_repository(s, &context.repository))
            {
                Ok(()) => ask_owner(&context, &recorder, &group_id, is_ours, take_over).await,
                Err(e) => Ownership::Refused(e),
            };
            if is_ours && asked == Ownership::Ours {
                take_over = false;
            }
            if let Ownership::Refused(e) = &asked {
                tracing::warn!("the repository is not ours to write: {e}");
            }
            context.set_ownership(asked);
            tokio::select! {
                () = tokio::time::sleep(OWNER_INTERVAL) => {}
                changed = leadership.changed() => if changed.is_err() { return },
                () = context.stop.cancelled() => return,
            }
        } else {
            tokio::select! {
                _ = applied.changed() => {}
                () = context.stop.cancelled() => return,
            }
        }
    }
}

/// Another repository than the group's holds nothing of it: it is neither claimed nor written to. It
/// takes no bound of timestamps away, either: those stand in the group's own.
fn check_repository(state: &State, repository: &Repository) -> Result<()> {
    match &state.repository_id {
        Some(ours) if ours != repository.id() => Err(Error::refused(format!(
            "the repository {} is {}, that of this group is {ours}",
            repository.url(),
            repository.id()
        ))
        .hint("Look at repository.url, and whether its file system is mounted.")),
        _ => Ok(()),
    }
}

async fn ask_owner(
    context: &Context,
    recorder: &Recorder,
    group_id: &str,
    is_ours: bool,
    take_over: bool,
) -> Ownership {
    let asked = match is_ours {
        true => claim(&context.repository, recorder, group_id, take_over).await,
        false => context.repository.check_owner(group_id).await,
    };
    let is_there = asked.as_ref().map_or_else(is_refusal, |()| true);
    context.set_looked(asked.clone().err().filter(|_| !is_there));
    match asked {
        Ok(()) => Ownership::Ours,
        Err(e) if is_refusal(&e) => Ownership::Refused(e),
        Err(e) => {
            tracing::warn!("cannot find out whose the repository is: {e}");
            context.ownership()
        }
    }
}

fn is_refusal(error: &Error) -> bool {
    error.kind() == ErrorKind::Refused
}

/// Makes the repository this group's. The order matters when another group has it: that one may have
/// given out timestamps above ours, so none of ours is given out before their bounds have been read,
/// which happens once it is ours.
async fn claim(
    repository: &Repository,
    recorder: &Recorder,
    group_id: &str,
    take_over: bool,
) -> Result<()> {
    match repository.claim(group_id, false).await {
        Err(refused) if is_refusal(&refused) => {
            if let Err(e) = recorder.disown().await {
                tracing::warn!("it cannot be noted that another group has the repository: {e}");
                return Err(refused);
            }
            match take_over {
                true => repository.claim(group_id, true).await.map(drop),
                false => Err(refused),
            }
        }
        claimed => claimed.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use seawall_common::repository::RepositoryConfig;

    use super::*;
    use crate::timestamps::{AHEAD, bounds_tests::group_of_one};

    #[tokio::test]
    async fn i1_a_repository_is_not_taken_over_before_it_is_noted_that_another_group_had_it() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().join("repository").display());
        let repository = Repository::create_or_open(&RepositoryConfig::at(url)).await;
        let repository = repository.unwrap();
        repository.claim("another", false).await.unwrap();
        let data_dir = tempfile::tempdir().unwrap();
        let node = group_of_one(data_dir.path()).await;
        let recorder = Recorder::new(node.clone(), Arc::new(repository.clone()), AHEAD);
        let disowned = || node.look(|state| state.timestamps.disowned());

        let refused = claim(&repository, &recorder, "group", false).await;
        assert!(is_refusal(&refused.unwrap_err()));
        assert_eq!(disowned(), 1);
        // Nothing can be noted any more: the answer is the refusal, and the other group keeps it.
        node.stop().await;
        let refused = claim(&repository, &recorder, "group", true).await;
        assert!(is_refusal(&refused.unwrap_err()));
        repository.check_owner("another").await.unwrap();
    }
}
