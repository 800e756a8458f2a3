//! One member of the coordinator group.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use seawall_common::tls::{Dial, Dialer, ServerUrl, Tls, Whom};
use seawall_proto::v1::{self, cluster_client::ClusterClient};
use tokio::net::TcpStream;
use tonic::transport::Channel;

use super::{
    binary::binary,
    certificates::Certificates,
    config::Config,
    faults::Faults,
    http,
    ports::Port,
    process::Process,
    scratch::Scratch,
    wait::{PATIENCE, wait_until},
};

/// To connect, and for a call.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const DIAL: Dial = Dial::within(CONNECT_LIMIT).call_limit(Duration::from_secs(20));

pub struct Coordinator {
    pub id: u64,
    pub directory: PathBuf,
    pub config: Config,
    grpc: Port,
    http: Port,
    environment: Vec<(String, String)>,
    scheme: &'static str,
    dialer: Dialer,
    process: Option<Process>,
}

impl Coordinator {
    /// Reserves its ports and writes nothing yet.
    pub fn plan(scratch: &Scratch, name: &str, id: u64, repository: &str) -> Result<Self> {
        let directory = scratch.path().join(name);
        std::fs::create_dir_all(&directory)?;
        let (grpc, http) = (Port::reserve()?, Port::reserve()?);
        let mut config = Config::default();
        config
            .set("data_dir", directory.join("data").display().to_string())
            .set("listen", grpc.address())
            .set("http_listen", http.address())
            .set("repository.url", repository);
        Ok(Self {
            id,
            directory,
            config,
            grpc,
            http,
            environment: Vec::new(),
            scheme: "http",
            dialer: Dialer::new(Tls::off()?),
            process: None,
        })
    }

    /// Speaks TLS from its next start on, and is called as an operator calls it.
    pub fn certify(&mut self, certificates: &Certificates, operator: &str) -> Result<()> {
        certificates.configure(&format!("coordinator-{}", self.id), &mut self.config);
        self.scheme = "https";
        self.dialer = certificates.dialer(operator)?;
        Ok(())
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.grpc.address())
    }

    pub fn address(&self) -> String {
        self.grpc.address()
    }

    pub fn http_address(&self) -> String {
        self.http.address()
    }

    pub fn http_url(&self) -> String {
        format!("{}://{}", self.scheme, self.http.address())
    }

    pub fn faults(&self) -> Faults {
        Faults::at(&self.http_url())
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// `seawall-coordinator init`: makes the data directory of a member of a group of several.
    pub fn init(&self, peers: &str) -> Result<()> {
        let output = Command::new(binary("seawall-coordinator")?)
            .args(["init", "--data-dir"])
            .arg(self.data_dir())
            .args(["--id", &self.id.to_string(), "--peers", peers])
            .output()?;
        if !output.status.success() {
            bail!(
                "init of member {} failed: {}",
                self.id,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// `seawall-coordinator join`: makes the data directory of a member that is to be added.
    pub fn join(&self, peers: &str) -> Result<()> {
        let output = Command::new(binary("seawall-coordinator")?)
            .args(["join", "--data-dir"])
            .arg(self.data_dir())
            .args(["--id", &self.id.to_string(), "--peers", peers])
            .output()?;
        if !output.status.success() {
            bail!(
                "join of member {} failed: {}",
                self.id,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// Environment of its next start.
    pub fn environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn start(&mut self) -> Result<()> {
        let file = self.directory.join("coordinator.toml");
        self.config.write(&file)?;
        let mut command = Command::new(binary("seawall-coordinator")?);
        command.arg("--config").arg(&file);
        command.envs(self.environment.clone());
        let log = self.directory.join("coordinator.log");
        let name = format!("coordinator {}", self.id);
        self.process = Some(Process::start(&name, &mut command, &log)?);
        Ok(())
    }

    pub async fn wait_ready(&mut self) -> Result<()> {
        let url = format!("{}/readyz", self.http_url());
        wait_until("the coordinator is ready", PATIENCE, || async {
            Ok(http::status(&url).await? == 200)
        })
        .await
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    pub fn process(&mut self) -> Result<&mut Process> {
        let id = self.id;
        self.process
            .as_mut()
            .with_context(|| format!("coordinator {id} does not run"))
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill()?;
        self.process = None;
        Ok(())
    }

    /// SIGTERM, and a clean end.
    pub fn terminate(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate(Duration::from_secs(20))?;
        }
        Ok(())
    }

    pub fn leave_running(&mut self) {
        if let Some(process) = self.process.take() {
            process.leave_running();
        }
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.directory.join("coordinator.log")).unwrap_or_default()
    }

    pub async fn channel(&self) -> Result<Channel> {
        connect(&self.dialer, &self.url(), Whom::Coordinator).await
    }

    /// What this member itself knows of the group.
    pub async fn status(&self) -> Result<v1::ClusterStatusResponse> {
        let mut client = ClusterClient::new(self.channel().await?);
        Ok(client
            .status(v1::ClusterStatusRequest {})
            .await?
            .into_inner())
    }
}

/// Fails when nobody listens there.
pub async fn connect(dialer: &Dialer, url: &str, whom: Whom) -> Result<Channel> {
    let url: ServerUrl = url.parse()?;
    let tried = TcpStream::connect(url.authority());
    tokio::time::timeout(CONNECT_LIMIT, tried)
        .await
        .with_context(|| format!("{url} does not answer"))?
        .with_context(|| format!("cannot connect to {url}"))?;
    Ok(dialer.channel(&url, whom, DIAL)?)
}
