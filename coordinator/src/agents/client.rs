//! How the leader calls an agent. The trait is there so that tests can play the agent.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream::BoxStream};
use seawall_common::{
    Error, Result,
    tls::{Dial, Dialer, ServerUrl, Whom, error_of},
};
use seawall_proto::v1::{self, agent_client::AgentClient};
use tonic::transport::Channel;

use crate::platform::connect;

const DIAL: Dial = Dial::within(Duration::from_secs(3))
    .keep_alive(Duration::from_secs(5), Duration::from_secs(10));
/// An agent answers at once; the step's own time is spent in the stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What an agent takes for a plan beyond the time in which it reads what it has: the lists.
const PLAN_MARGIN: Duration = Duration::from_secs(60);
/// Connections that are kept; when they are more, all begin anew.
const CHANNELS_MAX: usize = 1_000;

pub type Updates = BoxStream<'static, Result<v1::ExecuteUpdate>>;

#[async_trait]
pub trait AgentCalls: Send + Sync + 'static {
    async fn execute(&self, address: &str, request: v1::ExecuteRequest) -> Result<Updates>;

    async fn plan_fetch(
        &self,
        address: &str,
        request: v1::PlanFetchRequest,
    ) -> Result<v1::FetchPlan>;

    async fn transfer_status(
        &self,
        address: &str,
        request: v1::TransferStatusRequest,
    ) -> Result<v1::TransferReport>;

    async fn set_throttle(
        &self,
        address: &str,
        request: v1::SetThrottleRequest,
    ) -> Result<v1::TransferReport>;
}

/// Agents over gRPC, by the addresses that they registered.
pub struct GrpcAgents {
    dialer: Dialer,
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl GrpcAgents {
    pub fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            channels: Mutex::default(),
        }
    }

    fn channel(&self, address: &str) -> Result<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let url: ServerUrl = address.parse()?;
        let channel = connect(&self.dialer, &url, Whom::Agent, DIAL)?;
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

#[async_trait]
impl AgentCalls for GrpcAgents {
    async fn execute(&self, address: &str, request: v1::ExecuteRequest) -> Result<Updates> {
        let mut client = AgentClient::new(self.channel(address)?);
        let updates = within(address, ANSWER_TIMEOUT, client.execute(request)).await?;
        Ok(updates.map(|update| update.map_err(Error::from)).boxed())
    }

    async fn plan_fetch(
        &self,
        address: &str,
        request: v1::PlanFetchRequest,
    ) -> Result<v1::FetchPlan> {
        let mut client = AgentClient::new(self.channel(address)?);
        let limit = Duration::from_millis(request.limit_ms) + PLAN_MARGIN;
        within(address, limit, client.plan_fetch(request)).await
    }

    async fn transfer_status(
        &self,
        address: &str,
        request: v1::TransferStatusRequest,
    ) -> Result<v1::TransferReport> {
        let mut client = AgentClient::new(self.channel(address)?);
        within(address, ANSWER_TIMEOUT, client.transfer_status(request)).await
    }

    async fn set_throttle(
        &self,
        address: &str,
        request: v1::SetThrottleRequest,
    ) -> Result<v1::TransferReport> {
        let mut client = AgentClient::new(self.channel(address)?);
        within(address, ANSWER_TIMEOUT, client.set_throttle(request)).await
    }
}

async fn within<T>(
    address: &str,
    limit: Duration,
    answer: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    let answer = tokio::time::timeout(limit, answer).await.map_err(|_| {
        Error::unavailable(format!(
            "the agent at {address} did not answer within {} s",
            limit.as_secs()
        ))
    })?;
    let whom = format!("{} at {address}", Whom::Agent);
    Ok(answer
        .map_err(|status| error_of(status, &whom))?
        .into_inner())
}
