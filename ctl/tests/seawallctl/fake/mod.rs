//! A coordinator that answers what a test tells it to and remembers what it was asked.

mod retention;
mod schedules;
mod services;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use seawall_proto::v1::{self, *};
use tokio::{net::TcpListener, process::Command, runtime::Runtime, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Status, transport::Server};

/// What the tests prepare, and what came in.
#[derive(Default)]
pub struct Script {
    /// Every request, in order, as `Service.Method {request}`.
    pub asked: Vec<String>,
    /// Answered, one after the other, before anything else.
    pub refusals: VecDeque<Status>,
    pub tablets: Vec<v1::Tablet>,
    pub backups: Vec<v1::Backup>,
    /// Why the repository was not read.
    pub not_read: String,
    /// What a started operation turns out as; its id is the client's.
    pub operation: Operation,
    pub start_backups: StartBackupsResponse,
    pub plan: PlanRestoreResponse,
    pub removal: PlanRemovalResponse,
    pub recipient_removal: PlanRecipientRemovalResponse,
    /// Every answer comes so much later.
    pub delay: Duration,
    /// The watches that are open, to be fed by the test.
    pub watches: Vec<(String, mpsc::Sender<Result<Operation, Status>>)>,
    pub cluster: ClusterStatusResponse,
    pub holds: ListHoldsResponse,
    pub transfers: TransferReport,
    pub next_timestamp: u64,
    pub notes: v1::TimestampNotesResponse,
    pub set_retention: SetRetentionResponse,
    pub retention: GetRetentionResponse,
    pub collection: PlanCollectionResponse,
    pub set_schedule: SetScheduleResponse,
}

pub struct Coordinator {
    pub address: SocketAddr,
    pub script: Arc<Mutex<Script>>,
    /// A runtime of its own, so that its connections die with it.
    runtime: Mutex<Option<Runtime>>,
}

/// The services' view of the script.
#[derive(Clone)]
pub struct Fake(Arc<Mutex<Script>>);

impl Coordinator {
    pub fn start(script: Script) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(script));
        let fake = Fake(script.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            Server::builder()
                .add_service(timestamps_server::TimestampsServer::new(fake.clone()))
                .add_service(locks_server::LocksServer::new(fake.clone()))
                .add_service(topology_server::TopologyServer::new(fake.clone()))
                .add_service(operations_server::OperationsServer::new(fake.clone()))
                .add_service(catalogue_server::CatalogueServer::new(fake.clone()))
                .add_service(transfers_server::TransfersServer::new(fake.clone()))
                .add_service(retention_server::RetentionServer::new(fake.clone()))
                .add_service(schedules_server::SchedulesServer::new(fake.clone()))
                .add_service(cluster_server::ClusterServer::new(fake))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self {
            address,
            script,
            runtime: Mutex::new(Some(runtime)),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn asked(&self) -> Vec<String> {
        self.script.lock().unwrap().asked.clone()
    }

    /// The one request of this method that came in.
    pub fn the_request(&self, method: &str) -> String {
        let asked = self.asked();
        let mut found = asked.iter().filter(|asked| asked.starts_with(method));
        let request = found
            .next()
            .unwrap_or_else(|| panic!("no {method} in {asked:#?}"));
        assert!(
            found.next().is_none(),
            "{method} more than once in {asked:#?}"
        );
        request.clone()
    }

    /// Takes the coordinator away, with every stream that it had open.
    pub fn die(&self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }

    /// Waits until somebody watches, and gives the end to speak into.
    pub async fn watched(&self) -> (String, mpsc::Sender<Result<Operation, Status>>) {
        for _ in 0..200 {
            if let Some(watch) = self.script.lock().unwrap().watches.last() {
                return watch.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("nobody watches: {:#?}", self.asked());
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.die();
    }
}

/// The program, ready to be run against some coordinators.
pub fn seawallctl(coordinators: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seawallctl"));
    command
        .env_remove("SEAWALL_COORDINATOR")
        .args(["--coordinator", coordinators])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// What was printed, when all went well.
    pub fn result(&self) -> &str {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout.trim_end()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.result()).unwrap()
    }

    /// The one line that it failed with, and nothing on standard output.
    pub fn failure(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:#?}");
        assert!(self.stderr.starts_with("seawallctl: "), "{self:#?}");
        self.stderr.trim_end()
    }
}

pub async fn run(coordinators: &str, args: &[&str]) -> Ended {
    seawallctl(coordinators, args)
        .output()
        .await
        .unwrap()
        .into()
}

pub fn commerce() -> ShardRef {
    ShardRef {
        keyspace: "commerce".into(),
        shard: "0".into(),
    }
}

/// A backup operation of zone1-102 in some state, at some step.
pub fn backup_operation(state: OperationState, step: &str) -> Operation {
    Operation {
        id: "0193f9b0-0000-7000-8000-000000000001".into(),
        spec: Some(OperationSpec {
            spec: Some(operation_spec::Spec::Backup(BackupSpec {
                alias: "zone1-102".into(),
                concurrency: 4,
                ..Default::default()
            })),
        }),
        shard: Some(commerce()),
        state: state.into(),
        attempt: 1,
        steps: vec![OperationStep {
            name: step.into(),
            started_unix_ms: 1_792_000_000_000,
            ..Default::default()
        }],
        created_unix_ms: 1_792_000_000_000,
        backup: "2026-10-14.174640.zone1-102".into(),
        ..Default::default()
    }
}

pub fn backup(name: &str, state: BackupState) -> v1::Backup {
    v1::Backup {
        name: name.into(),
        shard: Some(commerce()),
        alias: "zone1-102".into(),
        state: state.into(),
        engine: "mariadb".into(),
        engine_version: "10.11.19-MariaDB".into(),
        epoch: 2,
        position: "0-1-100".into(),
        started_unix_ms: 1_792_000_000_000,
        ended_unix_ms: 1_792_000_095_500,
        logical_bytes: 3 << 30,
        stored_bytes: 1 << 30,
        files: 412,
        manifest_hash: "ab12".into(),
        operation_id: "0193f9b0-0000-7000-8000-000000000001".into(),
        encrypted: true,
        note: String::new(),
        verified: None,
        tested: None,
        damaged_pages: 0,
        writer_key: "0b".repeat(32),
        pinned: false,
        pinned_until_unix_ms: 0,
    }
}
