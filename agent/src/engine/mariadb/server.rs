//! Starting and stopping the server, and telling whether it runs.

use std::time::{Duration, Instant};

use seawall_common::{Error, Result};

use super::{
    MariaDb,
    configuration::{Configuration, same_path},
    locks::{self, Owner},
    settings::Start,
    sql::{Session, SqlError},
};
use crate::engine::{
    process::{self, Launched, POLL, ProcessId, wait_until},
    settings::find_program,
};

/// What the agent demands of every start: the agent alone opens the database for writes and lets
/// replication run.
pub(super) const START_ARGUMENTS: [&str; 2] = ["--read-only", "--skip-slave-start"];
/// How long a start command that has ended well may take until the server that it left behind shows.
const DAEMON_GRACE: Duration = Duration::from_secs(5);

impl MariaDb {
    /// Whoever has the data directory open, or was started by the agent and is about to.
    pub(super) async fn owner(&self) -> Result<Option<Owner>> {
        let configuration = self.configuration().await?;
        if let Some(owner) = locks::owner(&configuration.locked_files())? {
            return Ok(Some(owner));
        }
        Ok(self.launcher.process().map(|p| Owner::Server(Some(p))))
    }

    pub(super) async fn server_is_running(&self) -> Result<bool> {
        Ok(matches!(self.owner().await?, Some(Owner::Server(_))))
    }

    pub(super) async fn start_server(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        match self.owner().await? {
            Some(Owner::Guard) => Err(Error::refused(format!(
                "the files in {} are held for copying",
                self.settings.data_dir.display()
            ))),
            Some(Owner::Server(owner)) => self.await_answer(&Awaited::Found(owner)).await,
            None => {
                // Not before: reading it touches the data directory, which may be held for copying.
                let configuration = self.refresh_configuration().await?;
                if !self.settings.data_dir.is_dir() {
                    return Err(Error::not_found(format!(
                        "there is no data directory {}",
                        self.settings.data_dir.display()
                    )));
                }
                match &self.settings.start {
                    Start::Command { program, arguments } => {
                        let mut arguments = arguments.clone();
                        arguments.extend(START_ARGUMENTS.map(str::to_owned));
                        let launched = self.launcher.launch(program, &arguments)?;
                        self.await_answer(&Awaited::Launched(launched)).await?;
                    }
                    Start::Unit(unit) => {
                        demand_closed_start(&configuration, unit)?;
                        self.systemctl("start", unit, self.settings.start_timeout)
                            .await?;
                        self.await_answer(&Awaited::Unit).await?;
                    }
                }
                self.check_closed().await
            }
        }
    }

    /// Waits until our socket answers for our data directory.
    async fn await_answer(&self, awaited: &Awaited) -> Result<()> {
        let begin = Instant::now();
        let mut ended_since: Option<Instant> = None;
        loop {
            let silence = match self.check_identity().await {
                Ok(()) => return Ok(()),
                Err(Identity::NotYet(error)) => error,
                Err(Identity::Wrong(error)) => return Err(error),
            };
            match awaited {
                Awaited::Launched(launched) => {
                    if let Some(status) = launched.ended() {
                        let since = *ended_since.get_or_insert_with(Instant::now);
                        let left_something = status.success()
                            && (since.elapsed() < DAEMON_GRACE || self.owner().await?.is_some());
                        if !left_something {
                            return Err(self.start_failed(launched, status).await);
                        }
                    }
                }
                // It may have been on its way down when it was found.
                Awaited::Found(_) if self.owner().await?.is_none() => {
                    return Err(Error::unavailable(
                        "the database that was found running ended before it answered",
                    ));
                }
                Awaited::Found(_) | Awaited::Unit => {}
            }
            if begin.elapsed() >= self.settings.start_timeout {
                return Err(self.no_answer(awaited, &silence));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn start_failed(&self, launched: &Launched, status: std::process::ExitStatus) -> Error {
        let line = match launched.last_line() {
            Some(line) => Some(line),
            // The server may log to a file of its own.
            None => match self.configuration().await {
                Ok(configuration) => configuration
                    .value("log-error")
                    .and_then(|log| process::last_line(&configuration.resolve(log), 0)),
                Err(_) => None,
            },
        };
        Error::refused(format!(
            "the database ended at once ({status}){}",
            line.map(|line| format!(": {line}")).unwrap_or_default()
        ))
        .hint(format!(
            "Look at engine.start_command and at {}.",
            launched.log().display()
        ))
    }

    fn no_answer(&self, awaited: &Awaited, silence: &SqlError) -> Error {
        let socket = self.settings.socket.display();
        let limit = self.settings.start_timeout;
        if let Awaited::Found(Some(owner)) = awaited {
            return Error::refused(format!(
                "process {} holds {} but does not answer on {socket} within {limit:?}",
                owner.pid,
                self.settings.data_dir.display()
            ))
            .hint("Another server may run on this data directory, or engine.socket be wrong.");
        }
        let line = match awaited {
            Awaited::Launched(launched) => launched.last_line(),
            Awaited::Found(_) | Awaited::Unit => None,
        };
        Error::timeout(format!(
            "the database does not answer on {socket} within {limit:?} ({silence}){}",
            line.map(|line| format!("; its log ends with: {line}"))
                .unwrap_or_default()
        ))
        .hint("A long crash recovery may need a longer engine.start_timeout.")
    }

    /// Whether the server on our socket serves our data directory.
    async fn check_identity(&self) -> Result<(), Identity> {
        let options = self.settings.local().map_err(Identity::Wrong)?;
        let found = async {
            let mut session = Session::open(options).await?;
            session.value("SELECT @@global.datadir").await
        }
        .await;
        match found {
            Ok(directory) if same_path(directory.as_ref(), &self.settings.data_dir) => Ok(()),
            Ok(directory) => Err(Identity::Wrong(Error::refused(format!(
                "the server on {} serves {directory}, not {}",
                self.settings.socket.display(),
                self.settings.data_dir.display()
            )))),
            Err(error) if error.is_access_denied() => Err(Identity::Wrong(self.describe(error))),
            Err(error) => Err(Identity::NotYet(error)),
        }
    }

    /// A server that came up open is closed at once, and the start is an error all the same: its
    /// configuration is to be mended.
    async fn check_closed(&self) -> Result<()> {
        let mut session = self.session().await?;
        let read_only = session.value("SELECT @@global.read_only").await? == "1";
        let replicates = session
            .rows("SHOW ALL SLAVES STATUS")
            .await?
            .iter()
            .any(|row| row.text("Slave_IO_Running") != "No" || row.flag("Slave_SQL_Running"));
        if read_only && !replicates {
            return Ok(());
        }
        session.run("SET GLOBAL read_only = 1").await?;
        self.stop_replication_threads(&mut session).await?;
        Err(Error::refused(format!(
            "the database did not start {}",
            if read_only {
                "with replication stopped"
            } else {
                "read-only"
            }
        ))
        .hint(
            "The start command must pass on --read-only and --skip-slave-start; a systemd unit's \
             server must have them in its configuration.",
        ))
    }

    pub(super) async fn stop_server(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        let begin = Instant::now();
        let Some(Owner::Server(owner)) = self.owner().await? else {
            return Ok(());
        };
        match &self.settings.start {
            Start::Unit(unit) => {
                self.systemctl("stop", unit, self.settings.stop_timeout)
                    .await?;
            }
            Start::Command { .. } => self.ask_to_end(owner).await?,
        }
        // The locks go before the last files are written: the end of the process is what counts.
        let files = self.configuration().await?.locked_files();
        let mut trouble = None;
        let left = self.settings.stop_timeout.saturating_sub(begin.elapsed());
        let ended = wait_until(left, || {
            let locked = locks::owner(&files).unwrap_or_else(|e| {
                trouble = Some(e);
                None
            });
            let launched = self.launcher.process();
            trouble.is_some()
                || (locked.is_none()
                    && launched.is_none()
                    && !owner.is_some_and(ProcessId::is_alive))
        })
        .await;
        if let Some(error) = trouble {
            return Err(error);
        }
        if ended {
            return Ok(());
        }
        Err(Error::timeout(format!(
            "the database{} did not end within {:?}",
            owner
                .map(|p| format!(" (process {})", p.pid))
                .unwrap_or_default(),
            self.settings.stop_timeout
        ))
        .hint("It was asked to end and may still do so; it is never killed."))
    }

    /// By a statement, which works whoever runs the server; by a signal when it does not answer.
    async fn ask_to_end(&self, owner: Option<ProcessId>) -> Result<()> {
        let asked = match self.check_identity().await {
            Ok(()) => self.shut_down().await,
            Err(Identity::Wrong(error)) => Err(error),
            Err(Identity::NotYet(error)) => Err(error.into()),
        };
        match (asked, owner) {
            (Ok(()), _) => Ok(()),
            (Err(error), Some(process)) => {
                tracing::warn!(%error, pid = process.pid, "ending the database by a signal");
                process.terminate()
            }
            (Err(error), None) => Err(error.context("cannot shut the database down")),
        }
    }

    async fn shut_down(&self) -> Result<()> {
        let mut session = self.session().await?;
        // Anything beyond 1 would leave the end of the work to a crash recovery.
        let fast = session
            .value("SELECT @@global.innodb_fast_shutdown")
            .await?;
        if !matches!(fast.as_str(), "0" | "1") {
            session.run("SET GLOBAL innodb_fast_shutdown = 1").await?;
        }
        match session.run("SHUTDOWN").await {
            // It may be gone before the answer.
            Ok(()) | Err(SqlError::Gone(_)) => Ok(()),
            Err(error) => Err(self.describe(error)),
        }
    }

    async fn systemctl(&self, verb: &str, unit: &str, limit: Duration) -> Result<()> {
        let program = find_program(&self.systemctl)
            .ok_or_else(|| Error::invalid(format!("there is no program {}", self.systemctl)))?;
        let arguments = [verb.to_owned(), "--".to_owned(), unit.to_owned()];
        process::run(&program, &arguments, limit)
            .await
            .map_err(|e| e.hint(format!("Look at: systemctl status {unit}")))?;
        Ok(())
    }
}

/// Under systemd nobody can add arguments: so they must be in the server's configuration.
fn demand_closed_start(configuration: &Configuration, unit: &str) -> Result<()> {
    for name in ["read-only", "skip-slave-start"] {
        if !configuration.flag(name) {
            return Err(Error::refused(format!(
                "the configuration of {unit} does not set {name}"
            ))
            .hint(format!(
                "Add the line {name} to the [mariadbd] section: the agent opens the database itself."
            )));
        }
    }
    Ok(())
}

/// The server whose answer is waited for.
enum Awaited {
    Launched(Launched),
    /// Whoever had the data directory open already; its process where it can be seen from here.
    Found(Option<ProcessId>),
    Unit,
}

/// Why the server on our socket is not, or not yet, ours.
enum Identity {
    NotYet(SqlError),
    Wrong(Error),
}
