//! What stands between the agent and a database.
//!
//! Jobs speak to a database only through [`Engine`] and know none by name. An engine is one folder
//! here and one line in the registry. Every method may be called again after a crash at any
//! moment: each one makes sure of an end state, and none assumes how it is reached.

#[cfg(test)]
pub mod fake;
mod files;
mod mariadb;
mod output;
mod process;
mod registry;
mod scratch;
mod settings;

pub use registry::open;
pub use scratch::{Checked, Say, ScratchGround, ScratchServer, end_all_in};
pub use settings::{ENGINE_SETTINGS, EngineSettings};

use std::{any::Any, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use seawall_common::{Result, position::Position, repository::PageCheck};
use serde::{Deserialize, Serialize};

/// What lies in the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataState {
    /// No data directory, an empty one, or leftovers that no server has ever been started on.
    Empty,
    /// A server was initialised here, and holds nothing but its own system schemas.
    SystemOnly,
    /// Somebody's data. Never touched but by a restore that was asked for.
    UserData,
}

/// Settings of a running database that a backup must leave as it found them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    pub read_only: bool,
    /// Engine's own names and values, as noted and to be put back (semi-sync, event scheduler, ...).
    pub variables: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replication {
    /// It has somewhere to replicate from.
    pub configured: bool,
    /// Both the receiving and the applying side run.
    pub running: bool,
    /// One of the two sides has been told to run (a connection that keeps trying counts).
    pub wanted: bool,
    pub source: Option<Source>,
    /// Unknown while it does not run.
    pub lag: Option<Duration>,
    /// The last error of either side.
    pub error: Option<String>,
}

/// Where a database server is reached by other tablets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub host: String,
    pub port: u16,
}

/// A running database, in one look.
#[derive(Clone, Debug)]
pub struct Health {
    pub version: String,
    pub server_id: u32,
    pub read_only: bool,
    pub position: Position,
    pub replication: Replication,
    /// How long it keeps its log before it lets go of it; zero: for ever. None: not known.
    pub log_kept: Option<Duration>,
}

/// What to copy: everything below the roots but what is excluded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySet {
    pub roots: Vec<CopyRoot>,
    /// Server version and whatever else the manifest should keep about the server.
    pub details: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRoot {
    /// `data`, or `redo`, `undo`, `log`, ... where the engine's files lie elsewhere.
    pub name: String,
    pub path: PathBuf,
    /// Files that must not be copied, relative to the root. A trailing `*` stands for any ending.
    pub exclude: Vec<String>,
}

/// Checksums of parts of the database, for its restore tests.
#[derive(Default)]
pub struct Checksums {
    /// Names and values, as they stand in a manifest's details.
    pub noted: Vec<(String, String)>,
    /// While this lives nothing changes what they were made of.
    pub guard: Option<Box<dyn Any + Send>>,
}

#[async_trait]
pub trait Engine: Send + Sync {
    /// As it stands in configurations and manifests.
    fn kind(&self) -> &'static str;

    /// Whether this engine replicates at all: one that does not has no primary to follow.
    fn replicates(&self) -> bool;

    /// Where other tablets reach this server; nothing when the engine does not replicate.
    fn address(&self) -> Option<Source>;

    /// Where each root of a backup goes on this server: name and directory, from its
    /// configuration, whether or not it runs or has ever run. Not to be asked during a copy.
    async fn roots(&self) -> Result<Vec<(String, PathBuf)>>;

    /// The same, as last read: looks at nothing once it is known.
    async fn known_roots(&self) -> Result<Vec<(String, PathBuf)>> {
        self.roots().await
    }

    /// Version of the server program that is installed here, whether or not it runs; empty: not known.
    async fn program_version(&self) -> Result<String>;

    async fn data_state(&self) -> Result<DataState>;

    /// Makes a new, empty database where there is none: a second call, also after a crash in the
    /// first, makes sure that it is whole. Refused where there is user data.
    async fn initialize(&self) -> Result<()>;

    /// Whether a server process has the data directory open, whoever started it.
    async fn is_running(&self) -> Result<bool>;

    /// Tells this run of the server from every other one, also over boots of the machine; nothing
    /// when none runs or its process cannot be seen from here.
    async fn incarnation(&self) -> Result<Option<String>>;

    /// Starts the server read-only and without replication, as a process that outlives the agent;
    /// returns once it answers. One that runs already is only waited for: an error at once when it
    /// ends instead.
    async fn start(&self) -> Result<()>;

    /// Shuts the server down cleanly; returns once no process has the data directory open.
    async fn stop(&self) -> Result<()>;

    /// Keeps any server from starting on the data directory while the guard lives. An error when one
    /// runs, or when the last one did not end cleanly.
    async fn guard_stopped(&self) -> Result<Box<dyn StoppedGuard>>;

    async fn health(&self) -> Result<Health>;

    async fn flags(&self) -> Result<Flags>;

    /// Puts noted variables back. Leaves `read_only` alone: who may write is decided by the epoch.
    /// To be called before replication runs again: some can be set only while it stands.
    async fn restore_flags(&self, flags: &Flags) -> Result<()>;

    async fn position(&self) -> Result<Position>;

    async fn stop_replication(&self) -> Result<()>;

    /// Follows `source` by global position, from where this server is; running or only pointed.
    /// Nothing when it does so already.
    async fn replicate_from(&self, source: &Source, run: bool) -> Result<()>;

    /// Forgets replication altogether and opens for writes.
    async fn open_for_writes(&self) -> Result<()>;

    /// Closes for writes, waits for those under way, answers the last position.
    async fn close_for_writes(&self) -> Result<Position>;

    /// On the primary: makes the user that replicas come as, where it is missing.
    async fn ensure_replication_user(&self) -> Result<()>;

    /// The position of another server, read from it now.
    async fn position_of(&self, source: &Source) -> Result<Position>;

    /// Waits until this server has applied `goal`; false when the time ran out first, an error at
    /// once when replication has stopped with one.
    async fn wait_for(&self, goal: &Position, limit: Duration) -> Result<bool>;

    /// Read from the running server, before it is stopped.
    async fn copy_set(&self) -> Result<CopySet>;

    /// How the pages of the stopped server's files are checked while they are copied; nothing where
    /// its files have no pages that carry a checksum.
    async fn page_check(&self) -> Result<Option<Arc<dyn PageCheck>>> {
        Ok(None)
    }

    /// After the first start on restored files: forgets whom the copied server replicated from and
    /// makes this server's own history go on from `position`.
    async fn adopt(&self, position: &Position) -> Result<()>;

    /// Makes checksums, smallest parts first, as far as that goes in the time that the engine is given for it. On a database
    /// that nobody else changes any more; before it is stopped.
    async fn checksums(&self) -> Result<Checksums>;

    /// Whether restored files can be looked at aside.
    fn can_start_scratch(&self) -> bool;

    /// Starts a server on restored files apart from the tablet's own. [`seawall_common::ErrorKind::Corrupt`]:
    /// these files are what keeps it from starting.
    async fn start_scratch(&self, ground: &ScratchGround) -> Result<Box<dyn ScratchServer>>;
}

/// Held while files are copied.
#[async_trait]
pub trait StoppedGuard: Send + Sync {
    /// An error when a server has been on the files since the guard was taken.
    async fn check(&self) -> Result<()>;
}
