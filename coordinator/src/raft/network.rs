//! Calls to the other members: the Raft library's messages as JSON, each signed with who calls.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openraft::error::{RPCError, RaftError, RemoteError, Unreachable};
use seawall_common::{
    Error, Result,
    clock::now_unix_ms,
    tls::{Dial, Dialer, ServerUrl, Whom, error_of},
};
use seawall_proto::v1::{RaftRequest, RaftResponse, RaftSender, raft_client::RaftClient};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;
use tonic::{Response, Status, transport::Channel};

use super::{Identity, Seat, append_stream::AppendStream, identity::Hello};
use crate::platform::connect;

/// Largest message between members. Entries are sent by the mebibyte, snapshots in chunks of half a one,
/// which JSON makes four times as long at worst.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// What one client's stream may have sent that the client has not read, and what all may have: one
/// must not hold up the others.
const STREAM_WINDOW: u32 = 64 * 1024;
const STREAMS_WINDOW: u32 = 256 * 1024 * 1024;
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Names the instance that refuses a call, with the refusal.
pub(super) const INSTANCE_KEY: &str = "seawall-raft-instance";

/// Connections to other members, for each address one for their own calls, one for clients' calls and
/// one for clients' streams, opened when first used. What members have to say to each other is sent
/// from the thread on which this was made; so clients' calls, however many, hold none of it up.
///
/// One that was cut works again late after the network does, for what was lost is sent again at ever
/// longer intervals. So each is tried all the time and made anew when it has been silent for about as
/// long as a leader may be: whoever raises the one patience raises the other.
#[derive(Clone)]
pub struct Channels {
    dialer: Dialer,
    dial: Dial,
    thread: Handle,
    open: Open,
    open_for_calls: Open,
    open_for_streams: Open,
    /// Members that do not answer, each with since when.
    silent: Arc<Mutex<BTreeMap<u64, u64>>>,
}

type Open = Arc<Mutex<BTreeMap<String, Channel>>>;

impl Channels {
    pub fn new(dialer: Dialer, election_timeout: Duration) -> Self {
        Self {
            dialer,
            dial: Dial::within(CONNECT_LIMIT)
                .keep_alive(election_timeout, election_timeout)
                .also_idle(),
            thread: Handle::current(),
            open: Arc::default(),
            open_for_calls: Arc::default(),
            open_for_streams: Arc::default(),
            silent: Arc::default(),
        }
    }

    fn to(&self, address: &str) -> Result<Channel> {
        let _there = self.thread.enter();
        self.open(&self.open, address, self.dial)
    }

    pub fn for_calls_to(&self, address: &str) -> Result<Channel> {
        self.open(&self.open_for_calls, address, self.dial)
    }

    pub fn for_streams_to(&self, address: &str) -> Result<Channel> {
        let dial = self.dial.windows(STREAM_WINDOW, STREAMS_WINDOW);
        self.open(&self.open_for_streams, address, dial)
    }

    fn open(&self, open: &Open, address: &str, dial: Dial) -> Result<Channel> {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = open.get(address) {
            return Ok(channel.clone());
        }
        let url = ServerUrl::new(self.dialer.scheme(), address)?;
        let channel = connect(&self.dialer, &url, Whom::Coordinator, dial)?;
        open.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Since when a member has not answered.
    pub fn silent_since(&self, member: u64) -> Option<u64> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.get(&member).copied()
    }

    /// Logs when a member falls silent and when it is heard again, once each.
    fn note<T>(&self, member: u64, answer: &Result<T>) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(_) => {
                if silent.remove(&member).is_some() {
                    tracing::info!("member {member} answers again");
                }
            }
            Err(e) => {
                if let Entry::Vacant(new) = silent.entry(member) {
                    new.insert(now_unix_ms());
                    tracing::warn!("member {member} does not answer: {e}");
                }
            }
        }
    }
}

/// One other member.
#[derive(Clone)]
pub struct Peer {
    target: u64,
    address: String,
    identity: Identity,
    channels: Channels,
}

#[derive(Clone)]
pub(super) enum Call {
    Append,
    AppendOver(AppendStream),
    Vote,
    Snapshot,
    Hello,
}

impl Peer {
    pub fn new(target: u64, address: String, identity: Identity, channels: Channels) -> Self {
        Self {
            target,
            address,
            identity,
            channels,
        }
    }

    /// Tells the other who we are and learns whom it knows; answers who it is.
    pub async fn hello(&self) -> Result<RaftSender> {
        let (theirs, sender): (Hello, _) = self
            .call(Call::Hello, &self.identity.hello(), HELLO_TIMEOUT)
            .await?;
        let is_of_group = !sender.group_id.is_empty();
        self.identity.learn(&theirs, is_of_group).await?;
        Ok(sender)
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        call: Call,
        question: &Q,
        timeout: Duration,
    ) -> Result<(A, RaftSender)> {
        let payload = serde_json::to_vec(question)
            .map_err(|e| Error::internal(format!("cannot write a message: {e}")))?;
        let request = self.identity.request(self.target, payload);
        let client = RaftClient::new(self.channels.to(&self.address)?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let answer = tokio::time::timeout(timeout, send(client, call, request))
            .await
            .map_err(|_| {
                Error::timeout(format!(
                    "member {} at {} did not answer within {timeout:?}",
                    self.target, self.address
                ))
            })?;
        let answer = answer
            .map_err(|status| {
                let instance = status
                    .metadata()
                    .get(INSTANCE_KEY)
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
                    .to_owned();
                let error = error_of(status, "it");
                self.identity.heed(self.target, &instance, &error);
                error.context(format_args!("member {} at {}", self.target, self.address))
            })?
            .into_inner();
        self.identity
            .check_answer(self.target, answer.sender.as_ref())
            .await?;
        let read = serde_json::from_slice(&answer.payload).map_err(|e| {
            Error::corrupt(format!("cannot read member {}'s answer: {e}", self.target))
        })?;
        Ok((read, answer.sender.unwrap_or_default()))
    }

    /// A call whose answer is what the Raft library of the other member returned.
    pub(super) async fn ask<Q, A, E>(
        &self,
        call: Call,
        question: &Q,
        timeout: Duration,
    ) -> Result<A, RPCError<u64, Seat, RaftError<u64, E>>>
    where
        Q: Serialize,
        A: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        let answer: Result<(Result<A, RaftError<u64, E>>, _)> =
            self.call(call, question, timeout).await;
        self.channels.note(self.target, &answer);
        let (answer, _) = answer.map_err(|e| RPCError::Unreachable(Unreachable::new(&e)))?;
        answer.map_err(|e| RPCError::RemoteError(RemoteError::new(self.target, e)))
    }
}

async fn send(
    client: RaftClient<Channel>,
    call: Call,
    request: RaftRequest,
) -> Result<Response<RaftResponse>, Status> {
    #[cfg(feature = "sim")]
    if turmoil::in_simulation() {
        let deliver = move || deliver(client.clone(), call.clone(), request.clone());
        return crate::sim::network::meddled(deliver).await;
    }
    deliver(client, call, request).await
}

async fn deliver(
    mut client: RaftClient<Channel>,
    call: Call,
    request: RaftRequest,
) -> Result<Response<RaftResponse>, Status> {
    match call {
        Call::Append => client.append_entries(request).await,
        Call::AppendOver(stream) => stream.exchange(client, request).await,
        Call::Vote => client.vote(request).await,
        Call::Snapshot => client.install_snapshot(request).await,
        Call::Hello => client.hello(request).await,
    }
}
