//! The members of the group: real processes, each in a namespace and, where that can be had, on a
//! disk of its own.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use futures::future::{join_all, select_all};
use seawall_proto::v1::{
    ClusterStatusRequest, FetchTimestampRequest, cluster_client::ClusterClient,
    timestamps_client::TimestampsClient,
};
use seawall_tests::harness::{
    binary::binary,
    process::Process,
    small_disk::{Filler, SmallDisk},
};
use tonic::transport::{Channel, Endpoint};

use crate::namespaces::{Namespaces, address};

const DISK_MIB: u64 = 192;
const PORT: u16 = 7601;
const CALL_TIMEOUT: Duration = Duration::from_millis(500);
const ELECTED_WITHIN: Duration = Duration::from_secs(30);

pub struct Member {
    pub id: u64,
    namespace: String,
    data_dir: PathBuf,
    log: PathBuf,
    repository: String,
    disk: Option<SmallDisk>,
    process: Option<Process>,
}

fn channel(id: u64) -> Result<Channel> {
    Ok(
        Endpoint::from_shared(format!("http://{}:{PORT}", address(id)))?
            .connect_timeout(Duration::from_secs(1))
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(Duration::from_secs(1))
            .keep_alive_while_idle(true)
            .connect_lazy(),
    )
}

impl Member {
    pub async fn plan(id: u64, network: &Namespaces, directory: &std::path::Path) -> Result<Self> {
        let own = directory.join(format!("member{id}"));
        std::fs::create_dir_all(&own)?;
        let disk = SmallDisk::mount(DISK_MIB).await?;
        if let Some(disk) = &disk {
            disk.link(&own.join("disk"))?;
        }
        Ok(Self {
            id,
            namespace: network.name(id),
            data_dir: own.join("disk").join("data"),
            log: own.join("log"),
            repository: format!("file://{}", directory.join("repository").display()),
            disk,
            process: None,
        })
    }

    pub fn init(&self, ids: &[u64]) -> Result<()> {
        let peers: Vec<String> = ids
            .iter()
            .map(|id| format!("{id}={}:{PORT}", address(*id)))
            .collect();
        let output = Command::new(binary("seawall-coordinator")?)
            .args(["init", "--data-dir"])
            .arg(&self.data_dir)
            .args(["--id", &self.id.to_string(), "--peers", &peers.join(",")])
            .output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Starts it, unless it runs.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace])
            .arg(binary("seawall-coordinator")?)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen", &format!("{}:{PORT}", address(self.id))])
            .args(["--repository", &self.repository, "--insecure"]);
        let name = format!("member {}", self.id);
        self.process = Some(Process::start(&name, &mut command, &self.log)?);
        Ok(())
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    pub fn pause(&self) -> Result<()> {
        self.process.as_ref().map_or(Ok(()), Process::pause)
    }

    pub fn resume(&self) -> Result<()> {
        self.process.as_ref().map_or(Ok(()), Process::resume)
    }

    /// Takes all that is free on its disk; nothing where it has none of its own.
    pub fn fill_disk(&self) -> Result<Option<Filler>> {
        self.disk.as_ref().map(SmallDisk::fill).transpose()
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

pub fn channels(ids: &[u64]) -> Result<Vec<Channel>> {
    ids.iter().map(|id| channel(*id)).collect()
}

/// Waits until most members say of one that it leads, in one term, and it says so itself.
pub async fn wait_for_leader(channels: &[Channel], ids: &[u64]) -> Result<u64> {
    let until = Instant::now() + ELECTED_WITHIN;
    while Instant::now() < until {
        let said = join_all(channels.iter().map(leadership)).await;
        for (id, own) in ids.iter().zip(&said) {
            let agree = said.iter().filter(|other| *other == own).count();
            if own.is_some_and(|(leader, _)| leader == *id) && agree * 2 > ids.len() {
                return Ok(*id);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("no member leads {ELECTED_WITHIN:?} after everything was healed")
}

/// Who leads, and the term, as a member says.
async fn leadership(channel: &Channel) -> Option<(u64, u64)> {
    let mut client = ClusterClient::new(channel.clone());
    let asked = client.status(ClusterStatusRequest {});
    let answer = tokio::time::timeout(CALL_TIMEOUT, asked).await;
    let status = answer.ok()?.ok()?.into_inner();
    Some((status.leader, status.term))
}

/// How long it takes until some member answers with a timestamp.
pub async fn time_to_answer(channels: &[Channel], limit: Duration) -> Result<Duration> {
    let began = Instant::now();
    let asked = channels
        .iter()
        .map(|channel| Box::pin(until_answered(channel)));
    match tokio::time::timeout(limit, select_all(asked)).await {
        Ok(_) => Ok(began.elapsed()),
        Err(_) => bail!("nobody has answered within {limit:?} of a leader's election"),
    }
}

async fn until_answered(channel: &Channel) {
    loop {
        let mut client = TimestampsClient::new(channel.clone());
        let asked = client.fetch(FetchTimestampRequest { count: 1 });
        if let Ok(Ok(_)) = tokio::time::timeout(CALL_TIMEOUT, asked).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
