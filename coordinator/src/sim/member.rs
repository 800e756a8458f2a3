//! Starts a member on a simulated host, as the program starts one on a machine.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use seawall_common::{
    Result,
    access::Access,
    clock,
    repository::Repository,
    tls::{Dialer, Tls},
};
use turmoil::net::TcpListener;

use super::network::incoming;
use crate::{
    config::{self, Request, Settings},
    context::Context,
    platform::files,
    raft::{Compaction, Identity, Members, Node, NodeOptions},
    server,
};

pub const PORT: u16 = 7601;
/// When the simulated world begins.
const EPOCH_UNIX_MS: u64 = 1_792_000_000_000;
/// Each host has files of its own; this one says which host it is.
const NAME_FILE: &str = "/name";
const HEARTBEAT: Duration = Duration::from_millis(100);
const ELECTION: Duration = Duration::from_millis(500);
/// Often, so that a run of a minute sees many.
const COMPACTION: Compaction = Compaction {
    snapshot_after_entries: 60,
    entries_kept: 20,
};

/// Who a member is: its number and its host.
#[derive(Clone)]
pub struct Member {
    pub id: u64,
    pub host: String,
    /// The addresses of those who form the group; of none for one that joins.
    pub members: BTreeMap<u64, String>,
    /// Where one that joins finds the group.
    pub join: Vec<String>,
}

impl Member {
    /// Each member has a disk of its own: another one on its host is there with another disk.
    fn data_dir(&self) -> PathBuf {
        PathBuf::from(format!("/data-of-member{}", self.id))
    }
}

/// What goes on at a member's host, set from outside.
#[derive(Default)]
pub struct Controls {
    disk_slow_ms: AtomicU64,
    clock_ahead_ms: AtomicI64,
}

/// The members that run, for [`states`].
static NODES: Mutex<BTreeMap<String, Node>> = Mutex::new(BTreeMap::new());

/// How far each member that runs has applied the log, and the state that it has come to.
pub fn states() -> Vec<(String, u64, String)> {
    let nodes = NODES.lock().unwrap_or_else(PoisonError::into_inner);
    let state = |node: &Node| node.look(|state| serde_json::to_string(state).unwrap_or_default());
    nodes
        .iter()
        .map(|(host, node)| (host.clone(), node.last_applied(), state(node)))
        .collect()
}

/// The host of the member that leads in the highest term, as it knows itself.
pub fn leader() -> Option<String> {
    let nodes = NODES.lock().unwrap_or_else(PoisonError::into_inner);
    let leads = nodes.iter().filter_map(|(host, node)| {
        let leadership = *node.leadership().borrow();
        leadership.is_ours.then_some((leadership.term, host))
    });
    leads.max().map(|(_, host)| host.clone())
}

fn note_node(host: &str, node: &Node) {
    let mut nodes = NODES.lock().unwrap_or_else(PoisonError::into_inner);
    nodes.insert(host.to_owned(), node.clone());
}

static CONTROLS: Mutex<BTreeMap<String, Arc<Controls>>> = Mutex::new(BTreeMap::new());

impl Controls {
    pub fn of(host: &str) -> Arc<Self> {
        let mut all = CONTROLS.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(host.to_owned()).or_default().clone()
    }

    pub fn set_disk_slow_ms(&self, slow_ms: u64) {
        self.disk_slow_ms.store(slow_ms, Relaxed);
    }

    pub fn set_clock_ahead_ms(&self, ahead_ms: i64) {
        self.clock_ahead_ms.store(ahead_ms, Relaxed);
    }

    pub(super) fn disk_slow_ms(&self) -> u64 {
        self.disk_slow_ms.load(Relaxed)
    }
}

/// Looks at the controls of the host on which this is called.
pub(super) fn here<T: Default>(look: impl FnOnce(&Controls) -> T) -> T {
    let name = match turmoil::in_simulation() {
        true => files::read(Path::new(NAME_FILE)),
        false => return T::default(),
    };
    match name {
        Ok(name) => look(&Controls::of(&String::from_utf8_lossy(&name))),
        // A host without a name is no member's.
        Err(_) => T::default(),
    }
}

/// The wall clock of this host.
fn wall_unix_ms() -> u64 {
    let elapsed = turmoil::sim_elapsed().unwrap_or_default();
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let ahead_ms = here(|controls| controls.clock_ahead_ms.load(Relaxed));
    (EPOCH_UNIX_MS + elapsed_ms).saturating_add_signed(ahead_ms)
}

fn settings(data_dir: &Path) -> Result<Settings> {
    let data_dir = data_dir.to_string_lossy();
    let matches = config::command().get_matches_from([
        "seawall-coordinator",
        "--data-dir",
        &data_dir,
        "--repository",
        "memory:///repository",
        "--listen",
        "0.0.0.0:7601",
        "--insecure",
    ]);
    match config::understand(&matches, |_| None)? {
        Request::Run(settings) => Ok(*settings),
        _ => Err(seawall_common::Error::internal("not a run")),
    }
}

fn identity(member: &Member) -> Result<Identity> {
    let data_dir = member.data_dir();
    if let Some(identity) = Identity::open(&data_dir)? {
        return Ok(identity);
    }
    files::create_directory(&data_dir)
        .map_err(|e| seawall_common::Error::io("create", &data_dir, &e))?;
    if member.members.is_empty() {
        return Identity::create_to_join(&data_dir, member.id, member.join.clone());
    }
    Identity::create(
        &data_dir,
        member.id,
        Members::from_iter(member.members.clone()),
    )
}

/// That of the group, before all hosts of this process.
pub async fn repository() -> Result<Repository> {
    Repository::create_or_open(&settings(Path::new("/"))?.repository).await
}

/// Runs the member until it can no longer take part; a crash drops it wherever it is.
pub async fn run(member: Member) -> Result<()> {
    clock::set_source(wall_unix_ms);
    let name = Path::new(NAME_FILE);
    files::write_synced(name, &[member.host.as_bytes()])
        .map_err(|e| seawall_common::Error::io("write", name, &e))?;
    let settings = settings(&member.data_dir())?;
    let repository = repository().await?;
    let tls = Tls::off()?;
    let dialer = Dialer::new(tls.clone());
    let options = NodeOptions {
        data_dir: member.data_dir(),
        heartbeat_interval: HEARTBEAT,
        election_timeout: ELECTION,
        compaction: COMPACTION,
        dialer: dialer.clone(),
    };
    let node = Node::open(identity(&member)?, options).await?;
    note_node(&member.host, &node);
    let listener = TcpListener::bind(("0.0.0.0", PORT))
        .await
        .map_err(|e| seawall_common::Error::unavailable(format!("cannot listen: {e}")))?;
    let access = Access::new(tls, settings.limits.calls());
    let context = Arc::new(Context::new(settings, node, repository));
    let mut works = server::start(&context, incoming(listener), access, dialer);
    Err(works.failed().await)
}
