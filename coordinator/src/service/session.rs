//! The talk with one agent: a heartbeat in, an answer out, one at a time.
//!
//! A heartbeat counts only after a quorum round that began after it came: so that what its answer
//! says of epochs and holds was true while the agent waited. All that come within a moment share one
//! round. Nothing of it goes into the log but what is new there: that a tablet has caught up.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use seawall_common::{
    Error, Result,
    access::{Caller, unreadable},
    clock::now_unix_ms,
    ids::Alias,
};
use seawall_proto::v1::{self, agent_message::Message};
use tokio::time::Instant;
use tonic::Status;

use super::{check_holds, convert, lost_holds};
use crate::{
    agents::heartbeats::{Heard, SEEN_WITHIN, SessionId},
    operation::Coordination,
    state::{
        Command, State,
        topology::{self, Tablet},
    },
};

/// Heartbeats wait for so long at most for others to share a round with.
const GATHER: Duration = Duration::from_millis(50);

pub type Answers = Pin<Box<dyn Stream<Item = Result<v1::HeartbeatAnswer, Status>> + Send>>;
type Received = Result<v1::AgentMessage, Status>;

struct Session<S> {
    context: Arc<Coordination>,
    alias: Alias,
    instance: String,
    id: SessionId,
    messages: S,
    /// What the answers so far have told.
    told: (Option<v1::ShardView>, v1::TabletType),
}

/// Reads the first message, and answers the heartbeats that follow it as they are read.
pub async fn begin<S>(context: Arc<Coordination>, caller: Caller, messages: S) -> Result<Answers>
where
    S: Stream<Item = Received> + Unpin + Send + 'static,
{
    let mut messages = messages;
    let first = next(&mut messages).await?;
    let Some(Message::Begin(begin)) = first else {
        return Err(Error::invalid("a session that does not begin with `begin`"));
    };
    caller.check_alias(&begin.alias)?;
    let alias: Alias = begin.alias.parse()?;
    let is_known = context.group.read(|state| {
        let known = registered(state, &alias, &begin.instance);
        known.map(drop)
    });
    is_known.await??;
    let session = Session {
        id: context.heartbeats.begin_session(&alias, &begin.instance),
        instance: begin.instance,
        alias,
        messages,
        told: (None, v1::TabletType::Unspecified),
        context,
    };
    let answers = stream::unfold(Some(session), |session| async {
        let mut session = session?;
        match session.answer().await {
            Ok(Some(answer)) => Some((Ok(answer), Some(session))),
            Ok(None) => None,
            Err(error) => Some((Err(error.into()), None)),
        }
    });
    Ok(answers.boxed())
}

/// The next message; none: the agent says no more.
async fn next<S>(messages: &mut S) -> Result<Option<Message>>
where
    S: Stream<Item = Received> + Unpin,
{
    let next = tokio::time::timeout(SEEN_WITHIN, messages.next()).await;
    let next = next.map_err(|_| {
        Error::timeout(format!(
            "nothing was heard of the agent for {} s",
            SEEN_WITHIN.as_secs()
        ))
    })?;
    match next {
        None => Ok(None),
        Some(message) => match message.map_err(unreadable)?.message {
            Some(message) => Ok(Some(message)),
            None => Err(Error::invalid("a message of no kind that is known")),
        },
    }
}

/// The tablet, if the agent that talks is the one that has registered.
fn registered<'a>(state: &'a State, alias: &Alias, instance: &str) -> Result<&'a Tablet> {
    let tablet = state.topology.tablet(alias)?;
    if tablet.instance.as_deref() == Some(instance) {
        return Ok(tablet);
    }
    Err(
        Error::conflict(format!("{alias} belongs to another instance"))
            .hint("Stop this agent, or register again."),
    )
}

impl<S> Session<S>
where
    S: Stream<Item = Received> + Unpin,
{
    async fn answer(&mut self) -> Result<Option<v1::HeartbeatAnswer>> {
        match next(&mut self.messages).await? {
            None => Ok(None),
            Some(Message::Heartbeat(beat)) => self.hear(beat).await.map(Some),
            Some(Message::Goodbye(v1::Nothing {})) => {
                self.context.heartbeats.leave(&self.alias, self.id)?;
                Ok(None)
            }
            Some(Message::Begin(_)) => Err(Error::invalid("the session has begun already")),
        }
    }

    async fn hear(&mut self, beat: v1::Heartbeat) -> Result<v1::HeartbeatAnswer> {
        let status = beat
            .status
            .ok_or_else(|| Error::invalid("a heartbeat without a status"))?;
        check_holds(&beat.holds)?;
        let heard = Heard {
            instance: self.instance.clone(),
            at: Instant::now(),
            at_unix_ms: now_unix_ms(),
            status,
        };
        tokio::time::sleep_until(self.context.heartbeats.gathered(GATHER)).await;
        let group = &self.context.group;
        let is_caught_up = heard.status.caught_up;
        let is_news = group
            .read(|state| {
                let tablet = registered(state, &self.alias, &self.instance)?;
                Ok::<_, Error>(is_caught_up && tablet.promote_when_caught_up)
            })
            .await??;
        self.context.heartbeats.hear(&self.alias, self.id, heard)?;
        if is_news {
            let alias = self.alias.clone();
            let caught_up = topology::Command::CaughtUp { alias };
            group.propose(Command::Topology(caught_up)).await?;
        }
        let (view, tablet_type, lost_holds) = group.look(|state| {
            let tablet = registered(state, &self.alias, &self.instance)?;
            Ok::<_, Error>((
                convert::view(state, &tablet.shard),
                convert::tablet_type(tablet.tablet_type),
                lost_holds(state, &beat.holds),
            ))
        })?;
        Ok(v1::HeartbeatAnswer {
            lost_holds: lost_holds.into_iter().collect(),
            ..self.news(view, tablet_type)
        })
    }

    /// What the answers before have not told.
    fn news(&mut self, view: v1::ShardView, tablet_type: v1::TabletType) -> v1::HeartbeatAnswer {
        let mut answer = v1::HeartbeatAnswer::default();
        if self.told.1 != tablet_type {
            self.told.1 = tablet_type;
            answer.set_type(tablet_type);
        }
        if self.told.0.as_ref() != Some(&view) {
            self.told.0 = Some(view.clone());
            answer.view = Some(view);
        }
        answer
    }
}

#[cfg(test)]
mod tests;
