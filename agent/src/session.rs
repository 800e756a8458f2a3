//! The agent's talk with the coordinators: registers, and then sends a heartbeat each second, all in
//! one session, which it begins anew when that breaks off.
//!
//! Each answer tells the shard's newest epoch and this tablet's type; work under a hold that it
//! calls lost is given up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use seawall_common::{
    Error, ErrorKind, Result, coordinators::HOLDS_MAX, ids::Alias, repository::Repository,
};
use seawall_proto::v1::{self, TabletType};
use tokio_util::sync::CancellationToken;

use crate::{
    coordinators::Session,
    execute::Executor,
    journal::{Operation, OperationKind, Step},
    status,
    tablet::Tablet,
};

const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
const REGISTER_AGAIN: Duration = Duration::from_secs(1);

/// Runs until the agent leaves, and says goodbye then; an error: this agent must not go on under its
/// alias or its repository.
pub async fn run(
    tablet: &Tablet,
    executor: &Arc<Executor>,
    leave: &CancellationToken,
) -> Result<()> {
    let mut last_trouble = String::new();
    while !leave.is_cancelled() {
        let registered = leave.run_until_cancelled(register(tablet));
        let server_id = match registered.await {
            Some(Ok(server_id)) => server_id,
            None => break,
            Some(Err(error)) if is_final(&error) => return Err(error),
            Some(Err(error)) => {
                let trouble = error.to_string();
                if trouble != last_trouble {
                    tracing::warn!("cannot register yet: {trouble}");
                    last_trouble = trouble;
                }
                let pause = tokio::time::sleep(REGISTER_AGAIN);
                leave.run_until_cancelled(pause).await;
                continue;
            }
        };
        last_trouble.clear();
        tracing::info!("registered as {}", tablet.alias);
        tablet.live.set_registered(server_id);
        heartbeats(tablet, executor, server_id, leave).await;
    }
    Ok(())
}

/// What nobody but an operator can mend.
fn is_final(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Refused
            | ErrorKind::Denied
            | ErrorKind::Conflict
            | ErrorKind::Invalid
            | ErrorKind::Exhausted
            | ErrorKind::NotFound
    )
}

/// Registers, and compares repositories. Answers the server id that was told.
async fn register(tablet: &Tablet) -> Result<u32> {
    let server_id = server_id(tablet);
    let database = tablet.engine.address().map(|source| v1::DatabaseAddress {
        host: source.host,
        port: source.port.into(),
        server_id,
    });
    let sent = Instant::now();
    let registered = tablet
        .coordinator
        .register(v1::RegisterRequest {
            alias: tablet.alias.to_string(),
            shard: Some(tablet.shard_id.to_proto()),
            instance: tablet.instance.clone(),
            agent_address: tablet.settings.agent_address(),
            database,
            engine: tablet.engine.kind().to_owned(),
            replace: tablet.settings.replace,
            writer_key: tablet.writer_key.public().to_string(),
        })
        .await
        .map_err(|e| explained(&tablet.alias, e))?;
    tablet.live.hear(sent);
    check_repository(tablet, &registered.repository_id).await?;
    check_group(tablet, registered.group_id).await?;
    Ok(server_id)
}

/// Whether nobody answers, or somebody does, and refuses.
fn explained(alias: &Alias, error: Error) -> Error {
    match error.is_retryable() {
        true => error.context("no coordinator answers"),
        false => error.context(format_args!("the coordinator refuses {alias}")),
    }
}

/// 0 until the database has been seen running.
fn server_id(tablet: &Tablet) -> u32 {
    tablet
        .live
        .observed()
        .and_then(|observed| observed.health)
        .map_or(0, |health| health.server_id)
}

/// One that is not mounted yet, or not readable, must not end the agent: its database may be down.
async fn repository(tablet: &Tablet) -> Result<&Repository> {
    let opened = tablet.repository().await;
    opened.map_err(|e| Error::unavailable(format!("the repository cannot be opened yet: {e}")))
}

async fn check_repository(tablet: &Tablet, theirs: &str) -> Result<()> {
    let ours = repository(tablet).await?;
    if ours.id() == theirs {
        return Ok(());
    }
    Err(Error::refused(format!(
        "the repository {} is {}, that of the coordinators is {theirs}",
        ours.url(),
        ours.id()
    ))
    .hint("Give agent and coordinators the same repository.url."))
}

/// Epochs and terms of another group begin anew, but only if that group has taken the repository
/// over: otherwise it is not the one that this tablet belongs to.
async fn check_group(tablet: &Tablet, group_id: String) -> Result<()> {
    let known = tablet.journal.read().shard.group_id.clone();
    if known == group_id {
        return Ok(());
    }
    if !known.is_empty() {
        let owner = repository(tablet).await?.check_owner(&group_id).await;
        owner.map_err(|e| {
            Error::unavailable(format!(
                "the coordinators are group {group_id}, this tablet belongs to group {known}: {e}"
            ))
        })?;
        tracing::warn!("coordinator group {group_id} has taken over from {known}");
    }
    tablet.shard.forget(group_id).await
}

/// Until the coordinator does not know this tablet any more, or there is news to register, or the
/// agent leaves.
async fn heartbeats(
    tablet: &Tablet,
    executor: &Arc<Executor>,
    told_server_id: u32,
    leave: &CancellationToken,
) {
    let mut ticks = tokio::time::interval(HEARTBEAT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut trouble = Trouble::default();
    let mut talk = Talk::default();
    while leave.run_until_cancelled(ticks.tick()).await.is_some() {
        let server_id = server_id(tablet);
        if server_id != 0 && server_id != told_server_id {
            return;
        }
        let Some(beat) = leave
            .run_until_cancelled(heartbeat(tablet, executor, &mut talk))
            .await
        else {
            break;
        };
        match beat {
            Ok(()) => trouble.ends(),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => {
                tracing::warn!("the coordinator does not know this agent: {error}");
                return;
            }
            Err(error) => {
                trouble.is(&tablet.alias, error);
                // Not all agents at once, when it was the leader that went.
                ticks.reset_after(HEARTBEAT_EVERY.mul_f64(rand::random_range(0.2..1.0)));
            }
        }
    }
    talk.leave().await;
}

/// Why heartbeats are not taken, told once each time: a refusal when it is another one, silence,
/// which has ever other words, when it begins.
#[derive(Default)]
struct Trouble(Option<Error>);

impl Trouble {
    fn is(&mut self, alias: &Alias, error: Error) {
        let is_known = self
            .0
            .as_ref()
            .is_some_and(|known| *known == error || (known.is_retryable() && error.is_retryable()));
        if !is_known {
            tracing::warn!("{}", explained(alias, error.clone()));
            self.0 = Some(error);
        }
    }

    fn ends(&mut self) {
        if self.0.take().is_some() {
            tracing::info!("a coordinator answers again");
        }
    }
}

/// The session, while there is one.
#[derive(Default)]
struct Talk(Option<Box<dyn Session>>);

impl Talk {
    /// In the session that there is, or, when that has broken off meanwhile, in another one. Whoever
    /// is refused is not heard any better in another one: that is left to the next time.
    async fn say(&mut self, tablet: &Tablet) -> Result<v1::HeartbeatAnswer> {
        if let Some(session) = &mut self.0 {
            match session.heartbeat(beat(tablet)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    self.0 = None;
                    if !has_broken_off(&error) {
                        return Err(error);
                    }
                    tracing::debug!("the session has broken off: {error}");
                }
            }
        }
        let begin = v1::BeginSession {
            alias: tablet.alias.to_string(),
            instance: tablet.instance.clone(),
        };
        let session = self.0.insert(tablet.coordinator.session(begin).await?);
        let answer = session.heartbeat(beat(tablet)).await;
        if answer.is_err() {
            self.0 = None;
        }
        answer
    }

    async fn leave(self) {
        if let Some(session) = self.0
            && let Err(error) = session.leave().await
        {
            tracing::debug!("no coordinator has heard that this agent leaves: {error}");
        }
    }
}

fn has_broken_off(error: &Error) -> bool {
    error.is_retryable() || error.kind() == ErrorKind::Cancelled
}

fn beat(tablet: &Tablet) -> v1::Heartbeat {
    v1::Heartbeat {
        status: Some(status::status(tablet)),
        holds: holds(tablet),
    }
}

async fn heartbeat(tablet: &Tablet, executor: &Arc<Executor>, talk: &mut Talk) -> Result<()> {
    let sent = Instant::now();
    let answer = talk.say(tablet).await?;
    tablet.live.hear(sent);
    if let Some(view) = &answer.view {
        tablet.shard.learn(view, true).await?;
        tablet.live.see_shard(sent);
    }
    remember_type(tablet, answer.r#type).await?;
    for hold in &answer.lost_holds {
        lose_hold(tablet, executor, hold).await?;
    }
    Ok(())
}

/// Holds under which work goes on, or a mark is still to be put: as many as a heartbeat names. Last
/// are those of marks, which are put whatever is said of their holds.
pub(crate) fn holds(tablet: &Tablet) -> Vec<v1::HeldToken> {
    let contents = tablet.journal.read();
    let aside = contents
        .operations
        .iter()
        .filter(|operation| operation.is_at_work_aside());
    let mut holds: Vec<v1::HeldToken> = contents
        .owner()
        .into_iter()
        .chain(aside)
        .map(|operation| (operation.hold_id.clone(), operation.token))
        .chain(
            contents
                .pending_marks
                .iter()
                .map(|mark| (mark.hold_id.clone(), mark.token)),
        )
        .filter(|(hold_id, _)| !hold_id.is_empty())
        .map(|(hold_id, token)| v1::HeldToken { hold_id, token })
        .collect();
    holds.dedup();
    holds.truncate(HOLDS_MAX);
    holds
}

/// The type that the tablet has when no operation is at work with it. That one is, the journal knows
/// better: so an agent that puts its database back while no coordinator answers can serve again.
async fn remember_type(tablet: &Tablet, tablet_type: i32) -> Result<()> {
    let known = tablet.journal.read().shard.tablet_type;
    let at_work = [TabletType::Backup, TabletType::Restore].map(i32::from);
    if tablet_type == 0 || known == tablet_type || at_work.contains(&tablet_type) {
        return Ok(());
    }
    tablet
        .journal
        .update(move |contents| {
            contents.shard.tablet_type = tablet_type;
            Ok(())
        })
        .await
}

const HOLD_IS_GONE: &str = "the hold that it worked under is gone";

pub(crate) async fn lose_hold(tablet: &Tablet, executor: &Arc<Executor>, hold: &str) -> Result<()> {
    let contents = tablet.journal.read();
    let aside = contents
        .operations
        .iter()
        .find(|operation| operation.hold_id == hold && operation.is_at_work_aside());
    if let Some(operation) = aside {
        return executor.call_off(operation.id, HOLD_IS_GONE).await;
    }
    let Some(operation) = contents
        .owner()
        .filter(|operation| operation.hold_id == hold && needs_hold(operation))
    else {
        return Ok(());
    };
    executor.give_up(operation.id, HOLD_IS_GONE).await.map(drop)
}

/// A backup needs its hold until its manifest is put, a restore until all is fetched.
pub fn needs_hold(operation: &Operation) -> bool {
    match operation.kind {
        OperationKind::Backup => !operation.has_done(Step::Copy),
        OperationKind::Restore => !operation.has_done(Step::Fetch),
        OperationKind::Reparent => false,
        OperationKind::Aside => true,
    }
}

#[cfg(test)]
mod tests;
