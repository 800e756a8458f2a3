//! A database that exists only in a test: it keeps the promises of [`Engine`], outlives the agent,
//! tells what was done to it, and can be made to hang or fail in any of its methods.
//!
//! Its data directory is real, so that copies and restores are. Replication is a look at what the
//! test says of other servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use seawall_common::{
    Error, Result,
    position::Position,
    repository::{FilePages, PageCheck, PageFile, PagesSeen},
};

use super::{
    Checked, Checksums, CopyRoot, CopySet, DataState, Engine, Flags, Health, Replication, Say,
    ScratchGround, ScratchServer, Source, StoppedGuard,
};

/// File that makes a directory more than system schemas.
const USER_DATA: &str = "commerce/orders.ibd";
const SYSTEM: &str = "mysql/user.frm";

#[derive(Default)]
pub struct Server {
    pub running: bool,
    pub read_only: bool,
    pub replication: Replication,
    pub position: Position,
    pub variables: Vec<(String, String)>,
    pub adopted: Vec<Position>,
    /// Every call that changes something, in order.
    pub calls: Vec<String>,
    /// Replication runs and applies nothing.
    pub stuck: bool,
    /// How often it was started.
    pub runs: u32,
    /// Running, and gone as soon as its answer is waited for.
    pub dying: bool,
    /// Methods that never return, and those that fail.
    pub hanging: BTreeSet<String>,
    pub failing: BTreeSet<String>,
    /// What other servers, by port, have written.
    pub others: BTreeMap<u16, Position>,
    /// What is noted as the checksum of the rows, whatever they are.
    pub planted: Option<String>,
    /// Pages of each chunk that carry nothing to check them by; none: nothing is checked.
    pub pages_not_checked: Option<u64>,
    /// Whether the `removed` mark was there when the server was started last.
    pub saw_at_start: Vec<bool>,
}

impl Server {
    /// As a start leaves it, whoever starts it.
    pub fn come_up(&mut self) {
        self.running = true;
        self.runs += 1;
        self.read_only = true;
        self.replication.running = false;
        self.replication.wanted = false;
    }
}

pub struct FakeEngine {
    pub data_dir: PathBuf,
    pub address: Source,
    server: Arc<Mutex<Server>>,
    /// A file whose being there is noted at each start.
    pub watched: Mutex<Option<PathBuf>>,
}

impl FakeEngine {
    pub fn new(data_dir: PathBuf, port: u16) -> Self {
        Self {
            data_dir,
            address: source(port),
            server: Arc::default(),
            watched: Mutex::new(None),
        }
    }

    pub fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A data directory with somebody's rows in it.
    pub fn fill(&self, rows: &[u8]) {
        for (name, bytes) in [(SYSTEM, &b"system"[..]), (USER_DATA, rows)] {
            let path = self.data_dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    pub fn rows(&self) -> Option<Vec<u8>> {
        std::fs::read(self.data_dir.join(USER_DATA)).ok()
    }

    /// Running, read-only, and replicating from the server at `port`.
    pub fn run_as_replica(&self, port: u16) {
        let mut server = self.server();
        server.running = true;
        server.read_only = true;
        server.replication = replicating_from(port);
    }

    async fn called(&self, method: &str) -> Result<()> {
        let hangs = {
            let mut server = self.server();
            server.calls.push(method.to_owned());
            if server.failing.contains(method) {
                return Err(Error::internal(format!("{method} was made to fail")));
            }
            server.hanging.contains(method)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    fn check_running(&self) -> Result<()> {
        match self.server().running {
            true => Ok(()),
            false => Err(Error::unavailable("the database is down")),
        }
    }
}

pub fn source(port: u16) -> Source {
    Source {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

fn replicating_from(port: u16) -> Replication {
    Replication {
        configured: true,
        running: true,
        wanted: true,
        source: Some(source(port)),
        lag: Some(Duration::ZERO),
        error: None,
    }
}

#[async_trait]
impl Engine for FakeEngine {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn replicates(&self) -> bool {
        true
    }

    fn address(&self) -> Option<Source> {
        Some(self.address.clone())
    }

    async fn roots(&self) -> Result<Vec<(String, PathBuf)>> {
        self.called("roots").await?;
        self.known_roots().await
    }

    async fn known_roots(&self) -> Result<Vec<(String, PathBuf)>> {
        Ok(vec![("data".to_owned(), self.data_dir.clone())])
    }

    async fn program_version(&self) -> Result<String> {
        Ok("10.11.19".to_owned())
    }

    async fn data_state(&self) -> Result<DataState> {
        Ok(if self.data_dir.join(USER_DATA).exists() {
            DataState::UserData
        } else if self.data_dir.join(SYSTEM).exists() {
            DataState::SystemOnly
        } else {
            DataState::Empty
        })
    }

    async fn initialize(&self) -> Result<()> {
        self.called("initialize").await?;
        let path = self.data_dir.join(SYSTEM);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"system").unwrap();
        Ok(())
    }

    async fn is_running(&self) -> Result<bool> {
        Ok(self.server().running)
    }

    async fn incarnation(&self) -> Result<Option<String>> {
        let server = self.server();
        Ok(server.running.then(|| format!("run {}", server.runs)))
    }

    async fn start(&self) -> Result<()> {
        {
            let mut server = self.server();
            if std::mem::take(&mut server.dying) {
                server.running = false;
                return Err(Error::unavailable("it ended before it answered"));
            }
            if server.running {
                return Ok(());
            }
        }
        self.called("start").await?;
        if self.data_state().await? == DataState::Empty {
            return Err(Error::internal("no database to start"));
        }
        let saw = self
            .watched
            .lock()
            .unwrap()
            .as_ref()
            .is_some_and(|p| p.exists());
        let mut server = self.server();
        server.saw_at_start.push(saw);
        server.come_up();
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        self.called("stop").await?;
        self.server().running = false;
        Ok(())
    }

    async fn guard_stopped(&self) -> Result<Box<dyn StoppedGuard>> {
        if self.server().running {
            return Err(Error::refused("it runs"));
        }
        Ok(Box::new(Guard(self.server.clone())))
    }

    async fn health(&self) -> Result<Health> {
        self.check_running()?;
        let server = self.server();
        Ok(Health {
            version: "1.0-fake".to_owned(),
            server_id: u32::from(self.address.port),
            read_only: server.read_only,
            position: server.position.clone(),
            replication: server.replication.clone(),
            log_kept: None,
        })
    }

    async fn flags(&self) -> Result<Flags> {
        self.called("flags").await?;
        let server = self.server();
        Ok(Flags {
            read_only: server.read_only,
            variables: server.variables.clone(),
        })
    }

    async fn restore_flags(&self, flags: &Flags) -> Result<()> {
        self.called("restore_flags").await?;
        self.server().variables.clone_from(&flags.variables);
        Ok(())
    }

    async fn position(&self) -> Result<Position> {
        self.check_running()?;
        Ok(self.server().position.clone())
    }

    async fn stop_replication(&self) -> Result<()> {
        self.called("stop_replication").await?;
        let mut server = self.server();
        server.replication.running = false;
        server.replication.wanted = false;
        Ok(())
    }

    async fn replicate_from(&self, source: &Source, run: bool) -> Result<()> {
        self.called("replicate_from").await?;
        self.check_running()?;
        let mut replication = replicating_from(source.port);
        replication.running = run;
        replication.wanted = run;
        self.server().replication = replication;
        Ok(())
    }

    async fn open_for_writes(&self) -> Result<()> {
        self.called("open_for_writes").await?;
        self.check_running()?;
        let mut server = self.server();
        server.replication = Replication::default();
        server.read_only = false;
        Ok(())
    }

    async fn close_for_writes(&self) -> Result<Position> {
        self.called("close_for_writes").await?;
        let mut server = self.server();
        server.read_only = true;
        Ok(server.position.clone())
    }

    async fn ensure_replication_user(&self) -> Result<()> {
        Ok(())
    }

    async fn position_of(&self, source: &Source) -> Result<Position> {
        self.called("position_of").await?;
        let other = self.server().others.get(&source.port).cloned();
        other.ok_or_else(|| Error::unavailable("no such server"))
    }

    async fn wait_for(&self, goal: &Position, limit: Duration) -> Result<bool> {
        self.called("wait_for").await?;
        let reached = {
            let mut server = self.server();
            let followed = server
                .replication
                .source
                .clone()
                .filter(|_| server.replication.running && !server.stuck)
                .and_then(|source| server.others.get(&source.port).cloned());
            if let Some(position) = followed {
                server.position = position;
            }
            server.position.covers(goal)
        };
        if !reached {
            tokio::time::sleep(limit).await;
        }
        Ok(reached)
    }

    async fn copy_set(&self) -> Result<CopySet> {
        self.called("copy_set").await?;
        Ok(CopySet {
            roots: vec![CopyRoot {
                name: "data".to_owned(),
                path: self.data_dir.clone(),
                exclude: Vec::new(),
            }],
            details: Vec::new(),
        })
    }

    async fn adopt(&self, position: &Position) -> Result<()> {
        self.called("adopt").await?;
        let mut server = self.server();
        server.replication = Replication::default();
        server.position = position.clone();
        server.adopted.push(position.clone());
        Ok(())
    }

    async fn checksums(&self) -> Result<Checksums> {
        self.called("checksums").await?;
        let rows = self.rows().unwrap_or_default();
        let planted = self.server().planted.clone();
        Ok(Checksums {
            noted: vec![(
                CHECKSUM.to_owned(),
                planted.unwrap_or_else(|| checksum(&rows)),
            )],
            guard: None,
        })
    }

    fn can_start_scratch(&self) -> bool {
        true
    }

    async fn page_check(&self) -> Result<Option<Arc<dyn PageCheck>>> {
        let not_checked = self.server().pages_not_checked;
        Ok(not_checked.map(|pages| Arc::new(NotChecked(pages)) as Arc<dyn PageCheck>))
    }

    async fn start_scratch(&self, ground: &ScratchGround) -> Result<Box<dyn ScratchServer>> {
        self.called("start_scratch").await?;
        Ok(Box::new(FakeScratch {
            ground: ground.clone(),
            server: self.server.clone(),
        }))
    }
}

const CHECKSUM: &str = "checksum commerce.orders";

fn checksum(rows: &[u8]) -> String {
    rows.iter()
        .map(|byte| u64::from(*byte))
        .sum::<u64>()
        .to_string()
}

struct FakeScratch {
    ground: ScratchGround,
    server: Arc<Mutex<Server>>,
}

#[async_trait]
impl ScratchServer for FakeScratch {
    /// What it is made to fail or hang of comes after what it finds.
    async fn check(&self, checked: &mut Checked, say: Say<'_>) -> Result<()> {
        let rows = std::fs::read(self.ground.root("data")?.join(USER_DATA)).unwrap_or_default();
        if self.ground.detail(CHECKSUM) != Some(&checksum(&rows)) {
            checked.problem("table commerce.orders has another checksum".to_owned());
        }
        say("checking".to_owned());
        let (hangs, fails) = {
            let mut server = self.server.lock().unwrap();
            server.calls.push("check_scratch".to_owned());
            let is_in = |methods: &BTreeSet<String>| methods.contains("check_scratch");
            (is_in(&server.hanging), is_in(&server.failing))
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if fails {
            return Err(Error::refused("check_scratch was made to fail"));
        }
        "1 checksum compared".clone_into(&mut checked.summary);
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        let (hangs, fails) = {
            let mut server = self.server.lock().unwrap();
            server.calls.push("stop_scratch".to_owned());
            let is_in = |methods: &BTreeSet<String>| methods.contains("stop_scratch");
            (is_in(&server.hanging), is_in(&server.failing))
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        match fails {
            true => Err(Error::internal("stop_scratch was made to fail")),
            false => Ok(()),
        }
    }
}

struct Guard(Arc<Mutex<Server>>);

#[async_trait]
impl StoppedGuard for Guard {
    async fn check(&self) -> Result<()> {
        let hangs = {
            let mut server = self.0.lock().unwrap();
            server.calls.push("guard_check".to_owned());
            if server.running {
                return Err(Error::refused("a server has been on the files"));
            }
            server.hanging.contains("guard_check")
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// Finds nothing, and cannot tell of so many pages of each chunk.
#[derive(Clone, Copy, Debug)]
struct NotChecked(u64);

impl PageCheck for NotChecked {
    fn concerns(&self, _root: &str, _path: &[u8]) -> bool {
        true
    }

    fn open(&self, _file: &PageFile<'_>) -> Option<Box<dyn FilePages>> {
        Some(Box::new(*self))
    }
}

impl FilePages for NotChecked {
    fn check(
        &self,
        _offset: u64,
        _chunk: &[u8],
        _damaged: &mut dyn FnMut(u64, &dyn std::fmt::Display),
    ) -> PagesSeen {
        PagesSeen {
            checked: 1,
            not_checked: self.0,
        }
    }
}
