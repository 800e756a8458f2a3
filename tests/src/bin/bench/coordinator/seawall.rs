//! Three coordinators, with their own settings, as they come.

use std::time::Duration;

use anyhow::{Context as _, Result};
use seawall_common::{
    timestamps::Timestamps,
    tls::{Dialer, Tls},
};
use seawall_proto::v1::{
    AcquireHoldRequest, FetchTimestampRequest, LockScope, ReleaseHoldRequest,
    locks_client::LocksClient, timestamps_client::TimestampsClient,
};
use seawall_tests::harness::{
    Cluster, ClusterPlan,
    wait::{PATIENCE, wait_until},
};
use tonic::transport::Channel;

use super::{
    channels,
    load::Caller,
    recovery::{Contender, Probe},
};

const TIMESTAMP_PATIENCE: Duration = Duration::from_secs(10);

/// A hold that nobody has let go of goes by itself.
const HOLD_MS: u64 = 10_000;

pub struct Seawall {
    pub cluster: Cluster,
    /// Rounds that have taken holds: each of keyspaces of its own.
    rounds: usize,
}

impl Seawall {
    pub async fn start() -> Result<Self> {
        let plan = ClusterPlan::new("bench-coordinators").coordinators(3);
        let mut cluster = plan.start().await?;
        cluster.leader().await?;
        Ok(Self { cluster, rounds: 0 })
    }

    async fn leader_url(&mut self) -> Result<String> {
        let leader = self.cluster.leader().await?;
        Ok(self.cluster.coordinators[leader].url())
    }

    /// Each takes a hold of the backup lock and lets go of it, in turn: each is a command in the log.
    pub async fn commands(&mut self, callers: usize) -> Result<Vec<Holder>> {
        let channels = channels(&self.leader_url().await?, callers)?;
        self.rounds += 1;
        let round = self.rounds;
        let of = |(number, channel)| Holder::new(channel, &format!("k{round}-{number}"));
        Ok(channels.into_iter().enumerate().map(of).collect())
    }

    /// Each sends requests of its own, for so many timestamps.
    pub async fn fetchers(&mut self, callers: usize, count: u32) -> Result<Vec<Fetcher>> {
        let channels = channels(&self.leader_url().await?, callers)?;
        let of = |channel| Fetcher {
            client: TimestampsClient::new(channel),
            count,
        };
        Ok(channels.into_iter().map(of).collect())
    }

    /// All share one client, which merges what they ask for.
    pub async fn merged(&mut self, callers: usize, count: u32) -> Result<Vec<Merged>> {
        let addresses = [self.leader_url().await?];
        let dialer = Dialer::new(Tls::off()?);
        let client = Timestamps::of_coordinators(&addresses, &dialer, TIMESTAMP_PATIENCE)?;
        let of = |_| Merged {
            client: client.clone(),
            count,
        };
        Ok((0..callers).map(of).collect())
    }
}

/// One that takes a hold and lets go of it.
pub struct Holder {
    client: LocksClient<Channel>,
    scope: LockScope,
    held: Option<String>,
}

impl Holder {
    fn new(channel: Channel, keyspace: &str) -> Self {
        Self {
            client: LocksClient::new(channel),
            scope: LockScope {
                keyspace: keyspace.to_owned(),
                shard: String::new(),
            },
            held: None,
        }
    }

    async fn acquire(&mut self, id: &str) -> Result<()> {
        let request = AcquireHoldRequest {
            id: id.to_owned(),
            scope: Some(self.scope.clone()),
            owner: "bench".to_owned(),
            reason: "how fast is it?".to_owned(),
            duration_ms: HOLD_MS,
            ..AcquireHoldRequest::default()
        };
        self.client.acquire(request).await?;
        Ok(())
    }
}

impl Caller for Holder {
    async fn call(&mut self) -> Result<()> {
        match self.held.take() {
            None => {
                let id = uuid::Uuid::new_v4().to_string();
                self.acquire(&id).await?;
                self.held = Some(id);
            }
            Some(id) => {
                let scope = Some(self.scope.clone());
                self.client
                    .release(ReleaseHoldRequest { id, scope })
                    .await?;
            }
        }
        Ok(())
    }
}

pub struct Fetcher {
    client: TimestampsClient<Channel>,
    count: u32,
}

impl Caller for Fetcher {
    async fn call(&mut self) -> Result<()> {
        let count = self.count;
        self.client.fetch(FetchTimestampRequest { count }).await?;
        Ok(())
    }
}

pub struct Merged {
    client: Timestamps,
    count: u32,
}

impl Caller for Merged {
    async fn call(&mut self) -> Result<()> {
        self.client.fetch_range(self.count).await?;
        Ok(())
    }
}

/// One hold is asked for each time: after the first, a command in the log that changes nothing.
#[derive(Clone)]
pub struct Asker {
    channel: Channel,
    id: uuid::Uuid,
}

impl Probe for Asker {
    async fn ask(&self) -> Result<()> {
        let id = self.id.to_string();
        Holder::new(self.channel.clone(), &format!("probe-{}", &id[..8]))
            .acquire(&id)
            .await
    }
}

impl Contender for Seawall {
    type Probe = Asker;

    async fn leader(&mut self) -> Result<usize> {
        self.cluster.leader().await
    }

    async fn probes(&self, without: usize) -> Result<Vec<Asker>> {
        // Of each kill another: the one before may have run out.
        let id = uuid::Uuid::new_v4();
        let others = self.cluster.coordinators.iter().enumerate();
        let others = others.filter(|(index, _)| *index != without);
        others
            .map(|(_, member)| {
                let channel = channels(&member.url(), 1)?.pop().context("no channel")?;
                Ok(Asker { channel, id })
            })
            .collect()
    }

    fn kill(&mut self, member: usize) -> Result<()> {
        self.cluster.coordinators[member].kill()
    }

    async fn bring_back(&mut self, member: usize) -> Result<()> {
        self.cluster.coordinators[member].start()?;
        self.cluster.coordinators[member].wait_ready().await?;
        let leader = self.cluster.leader().await?;
        wait_until("all follow", PATIENCE, || async {
            let status = self.cluster.coordinators[leader].status().await?;
            let last = status.last_log_index;
            Ok(status.leader == leader as u64 + 1
                && status.members.iter().all(|member| {
                    member.silent_since_unix_ms.is_none() && member.matched_index == Some(last)
                }))
        })
        .await
    }
}
