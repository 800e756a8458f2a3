//! One agent with its database server.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use seawall_common::tls::{Dialer, Tls, Whom};
use seawall_proto::v1::{self, agent_client::AgentClient};
use toml::Value;

use super::{
    binary::binary,
    certificates::Certificates,
    config::{Config, list},
    coordinator::connect,
    faults::Faults,
    http,
    mariadb::Server,
    ports::Port,
    process::Process,
    scratch::Scratch,
};

/// What lies in the data directory before the agent's first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// No data directory at all.
    Nothing,
    /// A server that was installed and never used.
    Installed,
}

/// What is special about a tablet.
#[derive(Clone, Debug)]
pub struct TabletPlan {
    pub alias: String,
    pub keyspace: String,
    pub shard: String,
    pub data: Data,
    /// Keys of the agent's configuration beside the least that a file holds.
    pub settings: Vec<(String, Value)>,
    /// Pause points armed from the first moment on: `agent.fetch.middle=pause;...`.
    pub faults: String,
    pub environment: Vec<(String, String)>,
    /// A file that the agent finds open under a number of its own.
    pub descriptor: Option<(u32, PathBuf)>,
}

impl TabletPlan {
    /// A tablet of `commerce/0` with an installed, empty server.
    pub fn new(alias: &str) -> Self {
        Self {
            alias: alias.to_owned(),
            keyspace: "commerce".to_owned(),
            shard: "0".to_owned(),
            data: Data::Installed,
            settings: Vec::new(),
            faults: String::new(),
            environment: Vec::new(),
            descriptor: None,
        }
    }

    /// Of `documents/0`, whose engine is a directory; its "server" is a program that has the file
    /// `open` in it open for ever. Nothing lies there yet.
    #[must_use]
    pub fn directory(self, data: &Path, open: &str) -> Self {
        let open = data.join(open).display().to_string();
        let mut plan = self
            .set("keyspace", "documents")
            .set("engine.kind", "files")
            .set(
                "engine.start_command",
                super::config::list(["tail", "-f", &open]),
            );
        plan.data = Data::Nothing;
        "documents".clone_into(&mut plan.keyspace);
        plan
    }

    #[must_use]
    pub fn shard(mut self, shard: &str) -> Self {
        shard.clone_into(&mut self.shard);
        self
    }

    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// No data directory, and told to restore one.
    #[must_use]
    pub fn restored(mut self) -> Self {
        self.data = Data::Nothing;
        self.set("restore_from_backup", true)
    }

    #[must_use]
    pub fn faults(mut self, faults: &str) -> Self {
        faults.clone_into(&mut self.faults);
        self
    }
}

pub struct Tablet {
    pub alias: String,
    pub directory: PathBuf,
    pub server: Server,
    pub config: Config,
    grpc: Port,
    http: Port,
    faults: String,
    environment: Vec<(String, String)>,
    descriptor: Option<(u32, PathBuf)>,
    scheme: &'static str,
    dialer: Dialer,
    process: Option<Process>,
}

impl Tablet {
    /// Lays out files and ports; starts nothing.
    pub fn prepare(
        scratch: &Scratch,
        plan: &TabletPlan,
        coordinators: &[String],
        repository: &str,
    ) -> Result<Self> {
        let uid = plan.alias.rsplit_once('-').map_or("0", |(_, uid)| uid);
        let server = Server::configure(scratch, &plan.alias, uid.parse()?)?;
        if plan.data == Data::Installed {
            server.install()?;
        }
        let directory = server.directory.clone();
        let password_file = directory.join("repl.password");
        std::fs::write(&password_file, "replicate-me\n")?;
        let (grpc, http) = (Port::reserve()?, Port::reserve()?);
        let mut config = Config::default();
        config
            .set("alias", plan.alias.as_str())
            .set("keyspace", plan.keyspace.as_str())
            .set("shard", plan.shard.as_str())
            .set("coordinators", list(coordinators.iter().cloned()))
            .set("listen", grpc.address())
            .set("http_listen", http.address())
            .set("state_dir", directory.join("state").display().to_string())
            .set("repository.url", repository)
            .set("engine.kind", "mariadb")
            .set(
                "engine.defaults_file",
                server.defaults_file().display().to_string(),
            )
            .set("engine.data_dir", server.data_dir().display().to_string())
            .set("engine.socket", server.socket.display().to_string())
            .set("engine.user", "root")
            .set("engine.start_command", list(server.start_command()?))
            .set("engine.replication.user", "repl")
            .set(
                "engine.replication.password_file",
                password_file.display().to_string(),
            )
            .set("engine.replication.host", "127.0.0.1")
            .set("engine.replication.port", i64::from(server.port()));
        for (key, value) in &plan.settings {
            config.set(key, value.clone());
        }
        Ok(Self {
            alias: plan.alias.clone(),
            directory,
            server,
            config,
            grpc,
            http,
            faults: plan.faults.clone(),
            environment: plan.environment.clone(),
            descriptor: plan.descriptor.clone(),
            scheme: "http",
            dialer: Dialer::new(Tls::off()?),
            process: None,
        })
    }

    /// Speaks TLS from its next start on, and is called as the first coordinator calls it.
    pub fn certify(&mut self, certificates: &Certificates) -> Result<()> {
        certificates.configure(&format!("agent-{}", self.alias), &mut self.config);
        self.scheme = "https";
        self.dialer = certificates.dialer("coordinator-1")?;
        Ok(())
    }

    pub fn start(&mut self) -> Result<()> {
        let file = self.config_file();
        self.config.write(&file)?;
        let mut command = self.command()?;
        command.arg("--config").arg(&file);
        command.env("SEAWALL_FAULTS", &self.faults);
        command.envs(self.environment.clone());
        let log = self.directory.join("agent.log");
        let name = format!("agent {}", self.alias);
        self.process = Some(Process::start(&name, &mut command, &log)?);
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let program = binary("seawall-agent")?;
        let Some((number, file)) = &self.descriptor else {
            return Ok(Command::new(program));
        };
        let mut shell = Command::new("bash");
        let line = format!("file=\"$1\"; shift; exec \"$0\" \"$@\" {number}< \"$file\"");
        shell.arg("-c").arg(line).arg(program).arg(file);
        Ok(shell)
    }

    /// Pause points armed at its next starts.
    pub fn faults_at_start(&mut self, faults: &str) {
        faults.clone_into(&mut self.faults);
    }

    pub fn process(&mut self) -> Result<&mut Process> {
        let alias = self.alias.clone();
        self.process
            .as_mut()
            .with_context(|| format!("the agent of {alias} does not run"))
    }

    /// kill -9 of the agent; its database goes on.
    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill()?;
        self.process = None;
        Ok(())
    }

    /// SIGTERM of the agent, and a clean end; its database goes on.
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

    pub fn config_file(&self) -> PathBuf {
        self.directory.join("agent.toml")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
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

    /// Status of `/serving`, as a load balancer asks: 200 or 503.
    pub async fn serving_status(&self) -> Result<u16> {
        http::status(&format!("{}/serving", self.http_url())).await
    }

    pub async fn is_serving(&self) -> Result<bool> {
        Ok(self.serving_status().await? == 200)
    }

    pub fn grpc_url(&self) -> String {
        format!("{}://{}", self.scheme, self.grpc.address())
    }

    pub async fn agent(&self) -> Result<AgentClient<tonic::transport::Channel>> {
        let channel = connect(&self.dialer, &self.grpc_url(), Whom::Agent).await?;
        Ok(AgentClient::new(channel))
    }

    pub async fn status(&self) -> Result<v1::TabletStatus> {
        let mut agent = self.agent().await?;
        Ok(agent.status(v1::AgentStatusRequest {}).await?.into_inner())
    }

    /// A counter or gauge of the agent, by its name and labels as they stand in `/metrics`; 0 where
    /// it is not there yet.
    pub async fn metric(&self, name: &str) -> Result<u64> {
        let text = http::get(&format!("{}/metrics", self.http_url())).await?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(Ok(0), |value| Ok(value.parse()?))
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.directory.join("agent.log")).unwrap_or_default()
    }
}
