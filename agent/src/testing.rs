//! A small world for the tests of the agent's core: a fake database, coordinators that only take
//! notes, a real repository and journal in a temporary directory.
//!
//! The world outlives agents: [`World::agent`] makes one from what the state directory holds, as a
//! new process would; dropping its runtime in the middle of a step is what kill -9 is to it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use seawall_common::{
    Error, Result,
    config::load,
    ids::{BackupName, OperationId, ShardId},
    position::Position,
    repository::{MayReferTo, Repository, RepositoryConfig, StoredState},
};
use seawall_proto::v1;
use tempfile::TempDir;

use crate::{
    call::{Action, Call, StepCall},
    config::{self, Settings},
    coordinators::{Coordinator, Session},
    engine::fake::FakeEngine,
    execute::{Answer, Executor},
    instance::Instance,
    journal::{Operation, OperationKind, Step},
    tablet::Tablet,
};

pub const ALIAS: &str = "zone1-102";
pub const PRIMARY: &str = "zone1-101";
pub const PORT: u16 = 3102;
pub const PRIMARY_PORT: u16 = 3101;
pub const ROWS: &[u8] = b"one order and another";
pub const HOLD: &str = "hold";

/// Long enough for anything that happens at all.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn position(text: &str) -> Position {
    text.parse().unwrap()
}

pub fn backup_name() -> BackupName {
    "2026-11-21.031500.zone1-102".parse().unwrap()
}

/// The shard in an epoch that `alias` leads.
pub fn view(epoch: u64, alias: &str, port: u16) -> v1::ShardView {
    v1::ShardView {
        epoch: Some(v1::Epoch {
            number: epoch,
            alias: alias.into(),
            ..Default::default()
        }),
        primary: Some(v1::DatabaseAddress {
            host: "127.0.0.1".into(),
            port: port.into(),
            server_id: port.into(),
        }),
    }
}

#[derive(Default)]
pub struct Notes {
    pub announced: Vec<v1::AnnounceManifestRequest>,
    pub refuse_announcements: bool,
    pub hang_announcements: bool,
    /// Whether a coordinator answers at all.
    pub away: bool,
    pub operations: BTreeMap<String, v1::Operation>,
    pub started: Vec<v1::StartOperationRequest>,
    pub sessions: Vec<v1::BeginSession>,
    pub heartbeats: Vec<v1::Heartbeat>,
    /// Said goodbye so many times.
    pub goodbyes: usize,
    /// The session that there is breaks off at the next heartbeat.
    pub break_off: bool,
    /// What every heartbeat is answered with.
    pub refuse_heartbeats: Option<Error>,
    pub lost_holds: Vec<String>,
    pub view: v1::ShardView,
    pub repository_id: String,
    pub refuse_alias: bool,
}

#[derive(Default)]
pub struct FakeCoordinator(Arc<Mutex<Notes>>);

impl FakeCoordinator {
    pub fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.0.lock().unwrap()
    }

    fn check_there(&self) -> Result<()> {
        match self.notes().away {
            true => Err(Error::unavailable("no coordinator is there")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Coordinator for FakeCoordinator {
    async fn register(&self, _request: v1::RegisterRequest) -> Result<v1::RegisterResponse> {
        self.check_there()?;
        if self.notes().refuse_alias {
            return Err(Error::conflict("the alias belongs to another instance"));
        }
        Ok(v1::RegisterResponse {
            group_id: "group".into(),
            repository_id: self.notes().repository_id.clone(),
        })
    }

    async fn session(&self, begin: v1::BeginSession) -> Result<Box<dyn Session>> {
        self.check_there()?;
        self.notes().sessions.push(begin);
        Ok(Box::new(Self(self.0.clone())))
    }

    async fn announce(&self, request: v1::AnnounceManifestRequest) -> Result<()> {
        self.check_there()?;
        let hangs = {
            let mut notes = self.notes();
            notes.announced.push(request);
            if notes.refuse_announcements {
                return Err(Error::fenced("the hold is gone"));
            }
            notes.hang_announcements
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn start_operation(&self, request: v1::StartOperationRequest) -> Result<v1::Operation> {
        self.check_there()?;
        self.notes().started.push(request);
        Ok(v1::Operation::default())
    }

    async fn operation(&self, id: String) -> Result<v1::Operation> {
        self.check_there()?;
        let known = self.notes().operations.get(&id).cloned();
        known.ok_or_else(|| Error::not_found("no such operation"))
    }
}

#[async_trait]
impl Session for FakeCoordinator {
    async fn heartbeat(&mut self, heartbeat: v1::Heartbeat) -> Result<v1::HeartbeatAnswer> {
        self.check_there()?;
        let mut notes = self.notes();
        if std::mem::take(&mut notes.break_off) {
            return Err(Error::unavailable("the leader has gone"));
        }
        if let Some(refusal) = notes.refuse_heartbeats.clone() {
            return Err(refusal);
        }
        notes.heartbeats.push(heartbeat);
        Ok(v1::HeartbeatAnswer {
            view: Some(notes.view.clone()),
            r#type: v1::TabletType::Replica.into(),
            lost_holds: notes.lost_holds.clone(),
        })
    }

    async fn leave(self: Box<Self>) -> Result<()> {
        self.notes().goodbyes += 1;
        Ok(())
    }
}

pub struct World {
    pub directory: TempDir,
    pub engine: Arc<FakeEngine>,
    pub coordinator: Arc<FakeCoordinator>,
    /// Settings beyond the least, as flags.
    pub flags: Vec<String>,
}

pub struct Agent {
    pub tablet: Arc<Tablet>,
    pub executor: Arc<Executor>,
    _instance: Instance,
}

impl World {
    /// A replica with data, and a repository.
    pub async fn new() -> Self {
        let world = Self::empty().await;
        world.engine.fill(ROWS);
        world.engine.run_as_replica(PRIMARY_PORT);
        let mut server = world.engine.server();
        server.position = position("0-1-10");
        server.others.insert(PRIMARY_PORT, position("0-1-20"));
        server.variables = vec![("event_scheduler".into(), "ON".into())];
        drop(server);
        world
    }

    /// A tablet without a data directory, and a repository.
    pub async fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("repository")).unwrap();
        let engine = FakeEngine::new(directory.path().join("data"), PORT);
        let world = Self {
            engine: Arc::new(engine),
            coordinator: Arc::default(),
            flags: Vec::new(),
            directory,
        };
        let repository = Repository::create_or_open(&world.repository_config())
            .await
            .unwrap();
        repository.claim("group", false).await.unwrap();
        world.coordinator.notes().repository_id = repository.id().to_owned();
        world.coordinator.notes().view = view(1, PRIMARY, PRIMARY_PORT);
        let removed = world.directory.path().join(format!(
            "repository/keyspaces/commerce/0/backups/{}/removed",
            backup_name()
        ));
        *world.engine.watched.lock().unwrap() = Some(removed);
        world
            .agent()
            .tablet
            .shard
            .forget("group".into())
            .await
            .unwrap();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn repository_config(&self) -> RepositoryConfig {
        RepositoryConfig::at(format!("file://{}", self.path("repository").display()))
    }

    pub async fn repository(&self) -> Repository {
        Repository::open(&self.repository_config()).await.unwrap()
    }

    pub fn shard(&self) -> ShardId {
        "commerce/0".parse().unwrap()
    }

    /// How the repository shows the backup that the tests write.
    pub async fn stored(&self) -> Option<StoredState> {
        self.repository()
            .await
            .scan(&self.shard())
            .await
            .unwrap()
            .into_iter()
            .find(|backup| backup.name == backup_name())
            .map(|backup| backup.state)
    }

    fn settings(&self) -> Settings {
        let all = config::settings();
        let mut args = vec![
            "seawall-agent".to_owned(),
            format!("--alias={ALIAS}"),
            "--keyspace=commerce".into(),
            "--shard=0".into(),
            "--coordinators=http://127.0.0.1:1".into(),
            "--drain-time=0s".into(),
            "--engine-kind=files".into(),
            format!("--state-dir={}", self.path("state").display()),
            format!("--repository={}", self.repository_config().url),
            "--repository-retry-limit=1s".into(),
        ];
        args.extend(self.flags.iter().cloned());
        let matches =
            seawall_common::config::with_settings(clap::Command::new("seawall-agent"), &all)
                .args_override_self(true)
                .get_matches_from(args);
        load::<Settings>(&all, &matches, |_| None).unwrap().settings
    }

    /// The agent that a new process would be; what an earlier one left is not looked at yet.
    pub fn agent(&self) -> Agent {
        let instance = Instance::take(&self.path("state")).unwrap();
        let tablet = Arc::new(
            Tablet::new(
                self.settings(),
                &instance,
                self.engine.clone(),
                self.coordinator.clone(),
            )
            .unwrap(),
        );
        Agent {
            executor: Executor::new(tablet.clone()),
            tablet,
            _instance: instance,
        }
    }

    /// Runs an agent in a process of its own, so to say, and kills it once `until` holds.
    pub fn run_and_kill<F, Fut>(&self, act: F, until: impl Fn(&World) -> bool)
    where
        F: FnOnce(Agent) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        runtime.spawn(act(self.agent()));
        drop(entered);
        let began = std::time::Instant::now();
        while !until(self) {
            assert!(began.elapsed() < PATIENCE, "it never came so far");
            std::thread::sleep(Duration::from_millis(5));
        }
        runtime.shutdown_timeout(Duration::from_secs(5));
    }

    pub fn hang(&self, method: &str) {
        self.engine.server().hanging.insert(method.to_owned());
    }

    pub fn has_called(&self, method: &str) -> bool {
        self.engine.server().calls.iter().any(|call| call == method)
    }

    pub fn calls(&self) -> Vec<String> {
        self.engine.server().calls.clone()
    }

    /// Nothing hangs or fails any more, and nothing has been called yet.
    pub fn mend(&self) {
        let mut server = self.engine.server();
        server.hanging.clear();
        server.failing.clear();
        server.calls.clear();
    }
}

/// The commands of one operation, as a leader of term 5 sends them.
#[derive(Clone, Copy)]
pub struct Driver {
    pub id: OperationId,
    pub attempt: u32,
    pub term: u64,
}

impl Driver {
    pub fn new() -> Self {
        Self {
            id: OperationId::generate(),
            attempt: 1,
            term: 5,
        }
    }

    pub fn call(&self, action: Action) -> Call {
        Call {
            operation: self.id,
            attempt: self.attempt,
            term: self.term,
            token: 7,
            hold_id: HOLD.into(),
            view: view(1, PRIMARY, PRIMARY_PORT),
            action,
        }
    }

    pub async fn step(&self, agent: &Agent, step: StepCall) -> Answer {
        match agent.executor.execute(self.call(Action::Run(step))).await {
            Ok(run) => run.end().await,
            Err(error) => Answer::Failed(error),
        }
    }

    pub async fn put_back(&self, agent: &Agent, abandon: bool) -> Answer {
        self.give_up(agent, abandon.then(backup_name), false).await
    }

    /// As after a cancellation by the operator.
    pub async fn call_off(&self, agent: &Agent) -> Answer {
        self.give_up(agent, None, true).await
    }

    async fn give_up(&self, agent: &Agent, abandon: Option<BackupName>, discard: bool) -> Answer {
        let action = Action::PutBack {
            abandon,
            reason: "cancelled".into(),
            discard,
        };
        match agent.executor.execute(self.call(action)).await {
            Ok(run) => run.end().await,
            Err(error) => Answer::Failed(error),
        }
    }

    /// Runs steps in order; the first that fails ends it.
    pub async fn steps(&self, agent: &Agent, steps: Vec<StepCall>) -> Answer {
        let mut last = Answer::Failed(Error::invalid("no steps"));
        for step in steps {
            last = self.step(agent, step).await;
            if !matches!(last, Answer::Done(_)) {
                break;
            }
        }
        last
    }
}

pub fn drain(kind: OperationKind) -> StepCall {
    StepCall::Drain { kind, drain: None }
}

pub fn prepare() -> StepCall {
    StepCall::Prepare {
        backup: backup_name(),
        may_refer_to: Vec::new(),
    }
}

pub fn copy() -> StepCall {
    StepCall::Copy {
        backup: backup_name(),
        epoch: 1,
        concurrency: 2,
        may_refer_to: MayReferTo::default(),
    }
}

/// A backup's steps in order, each with its name.
pub fn backup_steps() -> Vec<StepCall> {
    vec![
        prepare(),
        drain(OperationKind::Backup),
        StepCall::Note,
        StepCall::Stop,
        copy(),
        StepCall::Start,
        StepCall::Reinstate,
        StepCall::CatchUp { no_wait: false },
        StepCall::Serve,
    ]
}

pub fn restore_steps(manifest_hash: &str) -> Vec<StepCall> {
    vec![
        drain(OperationKind::Restore),
        StepCall::Fetch {
            backup: backup_name(),
            manifest_hash: manifest_hash.into(),
            concurrency: Some(2),
        },
        StepCall::Install,
        StepCall::Start,
        StepCall::Reinstate,
        StepCall::CatchUp { no_wait: false },
        StepCall::Serve,
    ]
}

impl Agent {
    pub fn operation(&self, id: OperationId) -> Operation {
        self.tablet.journal.read().operation(id).unwrap().clone()
    }

    pub fn has_done(&self, id: OperationId, step: Step) -> bool {
        self.operation(id).has_done(step)
    }

    /// Waits until no operation has the database.
    pub async fn until_free(&self) {
        self.until("the database is free", |agent| {
            agent.tablet.journal.read().owner().is_none()
        })
        .await;
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Agent) -> bool) {
        let began = std::time::Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "never: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A heartbeat was answered with this view.
    pub async fn hear(&self, view: &v1::ShardView) {
        self.tablet.shard.learn(view, true).await.unwrap();
        self.tablet.live.see_shard(std::time::Instant::now());
    }
}

pub fn is_done(answer: &Answer) -> bool {
    matches!(answer, Answer::Done(_))
}

pub fn error_of(answer: Answer) -> Error {
    match answer {
        Answer::Failed(error) | Answer::Undone(error) => error,
        Answer::Done(outcome) => panic!("it was done: {outcome:?}"),
    }
}
