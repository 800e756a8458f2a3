//! A group of real coordinator processes on loopback, ended when dropped.

use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use seawall_proto::v1::{
    AddMemberRequest, ClusterStatusRequest, ClusterStatusResponse, FetchTimestampRequest,
    RemoveMemberRequest, cluster_client::ClusterClient, members_client::MembersClient,
    timestamps_client::TimestampsClient,
};
use seawall_tests::harness::ports::Port;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

const PROGRAM: &str = env!("CARGO_BIN_EXE_seawall-coordinator");
pub const PATIENCE: Duration = Duration::from_secs(40);

pub struct Member {
    pub id: u64,
    pub data_dir: PathBuf,
    pub address: String,
    http: String,
    pub repository: String,
    log: PathBuf,
    process: Option<Child>,
    _ports: [Port; 2],
}

pub struct Group {
    pub members: Vec<Member>,
    directory: TempDir,
}

/// Runs the program to its end; one that does not end is stopped after ten seconds.
pub fn run(args: &[&str]) -> Output {
    let child = Command::new(PROGRAM)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let (ended, wait) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if wait.recv_timeout(Duration::from_secs(10)).is_err() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    let _ = ended.send(());
    watchdog.join().unwrap();
    output
}

impl Member {
    pub fn start(&mut self, extra: &[&str]) {
        assert!(self.process.is_none(), "member {} runs", self.id);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let process = Command::new(PROGRAM)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen", &self.address, "--http-listen", &self.http])
            .args(["--repository", &self.repository])
            .args(extra)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    pub fn init(&self, peers: &str) -> Output {
        self.make_directory("init", peers)
    }

    pub fn join(&self, peers: &str) -> Output {
        self.make_directory("join", peers)
    }

    fn make_directory(&self, command: &str, peers: &str) -> Output {
        let data_dir = self.data_dir.to_str().unwrap();
        let id = self.id.to_string();
        run(&[
            command,
            "--data-dir",
            data_dir,
            "--id",
            &id,
            "--peers",
            peers,
        ])
    }

    /// Moves it to another address, which takes effect with its next start.
    pub fn move_elsewhere(&mut self) {
        let port = Port::reserve().unwrap();
        self.address = port.address();
        self._ports[0] = port;
    }

    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.wait_for_end()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.process.as_ref().unwrap().id();
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    pub fn wait_for_end(&mut self) -> i32 {
        let process = self.process.as_mut().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = process.try_wait().unwrap() {
                self.process = None;
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("member {} did not end: {}", self.id, self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_timeout(Duration::from_secs(1))
            .timeout(Duration::from_secs(15))
            .connect_lazy()
    }

    pub async fn status(&self) -> Option<ClusterStatusResponse> {
        let mut client = ClusterClient::new(self.channel());
        let answer = client.status(ClusterStatusRequest {}).await;
        Some(answer.ok()?.into_inner())
    }

    pub async fn fetch(&self, count: u32) -> Result<u64, tonic::Status> {
        let mut client = TimestampsClient::new(self.channel());
        let request = FetchTimestampRequest { count };
        Ok(client.fetch(request).await?.into_inner().first)
    }

    /// `AddMember`, asked of this member; until the new one votes.
    pub async fn add(&self, id: u64, address: &str) -> Result<(), tonic::Status> {
        let address = address.to_owned();
        let mut client = MembersClient::new(
            Endpoint::from_shared(format!("http://{}", self.address))
                .unwrap()
                .connect_lazy(),
        );
        let request = AddMemberRequest { id, address };
        let mut progress = client.add(request).await?.into_inner();
        while let Some(message) = progress.message().await? {
            if message.voter {
                return Ok(());
            }
        }
        panic!("the progress ended without an end")
    }

    pub async fn remove(&self, id: u64) -> Result<(), tonic::Status> {
        let mut client = MembersClient::new(
            Endpoint::from_shared(format!("http://{}", self.address))
                .unwrap()
                .connect_lazy(),
        );
        client.remove(RemoveMemberRequest { id }).await.map(drop)
    }

    /// Ids of the members that vote, as this one knows.
    pub async fn voters(&self) -> Vec<u64> {
        let status = self.status().await.unwrap();
        let voters = status.members.iter().filter(|member| member.voter);
        voters.map(|member| member.id).collect()
    }

    /// First line and body of the answer to an HTTP GET.
    pub async fn http(&self, path: &str) -> std::io::Result<String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&self.http).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.runs() {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("--- member {}:\n{}", self.id, self.log());
        }
    }
}

impl Group {
    /// Laid out, and nothing else.
    pub fn plan(size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut group = Self {
            members: Vec::new(),
            directory,
        };
        for id in 1..=size {
            group.plan_another(id);
        }
        group
    }

    /// Lays out a further member; its place in `members`.
    pub fn plan_another(&mut self, id: u64) -> usize {
        let ports = [(); 2].map(|()| Port::reserve().unwrap());
        let directory = self.directory.path();
        self.members.push(Member {
            id,
            address: ports[0].address(),
            http: ports[1].address(),
            _ports: ports,
            data_dir: directory.join(format!("data-{id}")),
            repository: format!("file://{}/repository", directory.display()),
            log: directory.join(format!("log-{id}")),
            process: None,
        });
        self.members.len() - 1
    }

    /// A further member, started on a directory that is told to join the group, and not added yet.
    pub async fn start_another(&mut self, id: u64) -> usize {
        let peers = self.peers();
        let at = self.plan_another(id);
        let made = self.members[at].join(&peers);
        assert!(made.status.success(), "{made:?}");
        self.members[at].start(&[]);
        eventually("the new member answers", || self.members[at].status()).await;
        at
    }

    /// The same, and added.
    pub async fn add_another(&mut self, via: usize, id: u64) -> usize {
        let at = self.start_another(id).await;
        let address = self.members[at].address.clone();
        let added = eventually("the new member is added", || async {
            match self.members[via].add(id, &address).await {
                // It has not found out yet which group it was told to join.
                Err(e) if e.code() == tonic::Code::Unavailable => None,
                other => Some(other),
            }
        });
        added.await.unwrap();
        at
    }

    /// Made with `init` and started; returns when all know a leader.
    pub async fn start(size: u64) -> Self {
        let mut group = Self::plan(size);
        let peers = group.peers();
        for member in &mut group.members {
            if size > 1 {
                let made = member.init(&peers);
                assert!(made.status.success(), "{made:?}");
            }
            member.start(&[]);
        }
        group.leader().await;
        group
    }

    pub fn repository_directory(&self) -> PathBuf {
        self.directory.path().join("repository")
    }

    pub fn peers(&self) -> String {
        let peers = self.members.iter();
        let peers = peers.map(|member| format!("{}={}", member.id, member.address));
        peers.collect::<Vec<_>>().join(",")
    }

    /// The place in `members` of the leader on whom all that run agree.
    pub async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut leaders = Vec::new();
            for member in self.members.iter().filter(|member| member.runs()) {
                leaders.push(member.status().await.map_or(0, |status| status.leader));
            }
            let found = self
                .members
                .iter()
                .position(|member| leaders.iter().all(|leader| *leader == member.id));
            if let Some(found) = found
                && self.members[found].runs()
            {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the members agree on no leader")
    }

    pub fn other_than(&self, member: usize) -> usize {
        (member + 1) % self.members.len()
    }
}

/// Tries until it works, for as long as patience lasts.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    attempt: impl Fn() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(done) = attempt().await {
            return done;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not in time: {what}")
}
