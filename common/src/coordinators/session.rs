//! An agent's talk with the coordinators, from its side.

use std::time::Duration;

use seawall_proto::v1::{
    AgentMessage, BeginSession, Heartbeat, HeartbeatAnswer, Nothing, agent_message::Message,
    agents_client::AgentsClient,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming, transport::Channel};

/// Bytes of a message of an agent: what it says of its tablet, its holds, or a backup. A larger one is
/// refused, so whatever may be long is cut by the agent.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Holds that one message names.
pub const HOLDS_MAX: usize = 64;
/// How long a heartbeat may wait for its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// One stream; dropping it ends it.
pub struct Session {
    messages: mpsc::Sender<AgentMessage>,
    answers: Streaming<HeartbeatAnswer>,
    /// What the answers so far come to.
    told: HeartbeatAnswer,
}

fn say(message: Message) -> AgentMessage {
    AgentMessage {
        message: Some(message),
    }
}

impl Session {
    pub async fn begin(channel: Channel, begin: BeginSession) -> Result<Response<Self>, Status> {
        // The first message, and one that follows it.
        let (messages, said) = mpsc::channel(2);
        let begun = messages.try_send(say(Message::Begin(begin)));
        begun.map_err(|e| Status::internal(format!("cannot begin a session: {e}")))?;
        let mut client = AgentsClient::new(channel);
        let answered = client.session(ReceiverStream::new(said)).await?;
        Ok(answered.map(|answers| Self {
            messages,
            answers,
            told: HeartbeatAnswer::default(),
        }))
    }

    /// Says how the tablet is, and answers all that is known of it then. After an error the session
    /// is over.
    pub async fn heartbeat(&mut self, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, Status> {
        self.send(Message::Heartbeat(heartbeat)).await?;
        let answer = timeout(ANSWER_LIMIT, self.answers.message()).await;
        let answer = answer.map_err(|_| {
            Status::deadline_exceeded("a coordinator did not answer a heartbeat in time")
        })?;
        let news = answer?.ok_or_else(has_ended)?;
        let told = &mut self.told;
        told.lost_holds = news.lost_holds;
        if news.view.is_some() {
            told.view = news.view;
        }
        if news.r#type != 0 {
            told.r#type = news.r#type;
        }
        Ok(told.clone())
    }

    /// Says that the agent ends, and waits until it was heard.
    pub async fn leave(mut self) -> Result<(), Status> {
        self.send(Message::Goodbye(Nothing {})).await?;
        // A heartbeat may still be answered before.
        let ended = async {
            while self.answers.message().await?.is_some() {}
            Ok(())
        };
        timeout(GOODBYE_LIMIT, ended)
            .await
            .map_err(|_| Status::deadline_exceeded("the goodbye was not answered"))?
    }

    async fn send(&self, message: Message) -> Result<(), Status> {
        let sent = timeout(ANSWER_LIMIT, self.messages.send(say(message))).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(has_ended()),
        }
    }
}

fn has_ended() -> Status {
    Status::unavailable("the session has ended")
}

#[cfg(test)]
mod tests;
