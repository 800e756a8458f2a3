//! MariaDB, through its own programs, its files and its SQL.
//!
//! What always holds: the server is started read-only and with replication stopped; every statement
//! has a limit, and what it waits for in the server ends before the agent stops waiting; nothing but
//! making the replication user, on a primary, enters the binary log; the server is never killed.

mod adopt;
mod blame;
mod check_tables;
mod configuration;
mod copy_set;
mod directory;
mod initialize;
mod locks;
mod pages;
mod replication;
mod scratch;
mod server;
mod settings;
mod sql;
mod status;
#[cfg(test)]
mod tests;
mod variables;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use seawall_common::{Error, Result, position::Position, repository::PageCheck};
use tokio::sync::Mutex;

use self::{
    configuration::Configuration,
    locks::Owner,
    settings::MariaDbSettings,
    sql::{Session, SqlError, denied},
};
use super::{
    Checksums, CopySet, DataState, Engine, EngineSettings, Flags, Health, ScratchGround,
    ScratchServer, Source, StoppedGuard, process::Launcher,
};

pub struct MariaDb {
    settings: MariaDbSettings,
    state_dir: PathBuf,
    launcher: Launcher,
    systemctl: String,
    /// As last read; read anew at each start.
    configuration: Mutex<Option<Arc<Configuration>>>,
    /// Starting, stopping and initialising take turns.
    turn: Mutex<()>,
}

impl MariaDb {
    pub fn open(settings: &EngineSettings, state_dir: &Path) -> Result<Self> {
        Ok(Self {
            settings: MariaDbSettings::check(settings)?,
            state_dir: state_dir.to_owned(),
            launcher: Launcher::new(state_dir),
            systemctl: "systemctl".to_owned(),
            configuration: Mutex::new(None),
            turn: Mutex::new(()),
        })
    }

    async fn configuration(&self) -> Result<Arc<Configuration>> {
        let mut known = self.configuration.lock().await;
        if let Some(configuration) = known.as_ref() {
            return Ok(configuration.clone());
        }
        let configuration = Arc::new(Configuration::read(&self.settings).await?);
        *known = Some(configuration.clone());
        Ok(configuration)
    }

    async fn refresh_configuration(&self) -> Result<Arc<Configuration>> {
        // What was known before stays when this cannot be read: the server still runs on it.
        let configuration = Arc::new(Configuration::read(&self.settings).await?);
        *self.configuration.lock().await = Some(configuration.clone());
        Ok(configuration)
    }

    fn roots_in(&self, configuration: &Configuration) -> Result<Vec<(String, PathBuf)>> {
        let roots = copy_set::roots(configuration, &self.settings.data_dir)?;
        Ok(roots
            .into_iter()
            .map(|root| (root.name, root.path))
            .collect())
    }

    async fn session(&self) -> Result<Session> {
        let options = self.settings.local()?;
        Session::open(options).await.map_err(|e| self.describe(e))
    }

    fn describe(&self, error: SqlError) -> Error {
        let whereto = format!("the database on {}", self.settings.socket.display());
        denied(error, self.settings.user(), whereto)
    }
}

#[async_trait]
impl Engine for MariaDb {
    fn kind(&self) -> &'static str {
        "mariadb"
    }

    fn replicates(&self) -> bool {
        true
    }

    fn address(&self) -> Option<Source> {
        Some(self.settings.address.clone())
    }

    async fn roots(&self) -> Result<Vec<(String, PathBuf)>> {
        self.roots_in(&*self.refresh_configuration().await?)
    }

    async fn known_roots(&self) -> Result<Vec<(String, PathBuf)>> {
        self.roots_in(&*self.configuration().await?)
    }

    async fn program_version(&self) -> Result<String> {
        Ok(self.configuration().await?.version().to_owned())
    }

    async fn data_state(&self) -> Result<DataState> {
        self.directory_state().await
    }

    async fn initialize(&self) -> Result<()> {
        self.initialize_directory().await
    }

    async fn is_running(&self) -> Result<bool> {
        self.server_is_running().await
    }

    async fn incarnation(&self) -> Result<Option<String>> {
        match self.owner().await? {
            Some(Owner::Server(Some(process))) => process.incarnation().map(Some),
            _ => Ok(None),
        }
    }

    async fn start(&self) -> Result<()> {
        self.start_server().await
    }

    async fn stop(&self) -> Result<()> {
        self.stop_server().await
    }

    async fn guard_stopped(&self) -> Result<Box<dyn StoppedGuard>> {
        let guard = self.guard_files().await?;
        Ok(Box::new(guard))
    }

    async fn health(&self) -> Result<Health> {
        self.look().await
    }

    async fn flags(&self) -> Result<Flags> {
        self.note_flags().await
    }

    async fn restore_flags(&self, flags: &Flags) -> Result<()> {
        self.put_flags_back(flags).await
    }

    async fn position(&self) -> Result<Position> {
        let mut session = self.session().await?;
        self.read_position(&mut session).await
    }

    async fn stop_replication(&self) -> Result<()> {
        let mut session = self.session().await?;
        Ok(self.stop_replication_threads(&mut session).await?)
    }

    async fn replicate_from(&self, source: &Source, run: bool) -> Result<()> {
        self.follow(source, run).await
    }

    async fn open_for_writes(&self) -> Result<()> {
        self.open_writes().await
    }

    async fn close_for_writes(&self) -> Result<Position> {
        self.close_writes().await
    }

    async fn ensure_replication_user(&self) -> Result<()> {
        self.make_replication_user().await
    }

    async fn position_of(&self, source: &Source) -> Result<Position> {
        self.position_of_other(source).await
    }

    async fn wait_for(&self, goal: &Position, limit: Duration) -> Result<bool> {
        self.await_position(goal, limit).await
    }

    async fn copy_set(&self) -> Result<CopySet> {
        self.read_copy_set().await
    }

    async fn page_check(&self) -> Result<Option<Arc<dyn PageCheck>>> {
        self.look_at_pages().await.map(Some)
    }

    async fn adopt(&self, position: &Position) -> Result<()> {
        self.adopt_history(position).await
    }

    async fn checksums(&self) -> Result<Checksums> {
        let budget = self.settings.checksum_time;
        match budget.is_zero() {
            true => Ok(Checksums::default()),
            false => self.note_checksums(budget).await,
        }
    }

    fn can_start_scratch(&self) -> bool {
        true
    }

    async fn start_scratch(&self, ground: &ScratchGround) -> Result<Box<dyn ScratchServer>> {
        Ok(Box::new(self.start_scratch_server(ground).await?))
    }
}
