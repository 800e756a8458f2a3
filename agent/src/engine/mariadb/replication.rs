//! Following a primary by global transaction id.

use std::time::{Duration, Instant};

use seawall_common::{Error, Result, position::Position};
use secrecy::ExposeSecret;

use super::{
    MariaDb,
    sql::{LOCK_LIMIT, QUERY_LIMIT, Session, SqlError, SqlResult, code, denied, quote},
    status::{Connection, POSITION_QUERY, Reached, connection, reached},
};
use crate::engine::Source;

/// A transaction under way on a table without rollback is finished before replication stops.
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// How long a replica waits before it tries its source again.
const RETRY_SECONDS: u32 = 2;
/// How often a wait for a position looks whether replication still works.
const WAIT_SLICE: Duration = Duration::from_secs(1);

impl MariaDb {
    pub(super) async fn stop_replication_threads(&self, session: &mut Session) -> SqlResult<()> {
        session.run_within("STOP SLAVE", STOP_LIMIT).await
    }

    pub(super) async fn follow(&self, source: &Source, run: bool) -> Result<()> {
        if *source == self.settings.address {
            return Err(Error::refused(format!(
                "a server cannot replicate from itself ({}:{})",
                source.host, source.port
            )));
        }
        let mut session = self.session().await?;
        let now = connection(&mut session).await?;
        let pointed = now.as_ref().is_some_and(|now| {
            now.source == *source
                && now.user == self.settings.replication_user
                && now.by_slave_position
                && !now.is_refused()
        });
        let running = now
            .as_ref()
            .is_some_and(|now| now.receiving_wanted && now.applying);
        let wanted = now.as_ref().is_some_and(Connection::wanted);
        let follows = now.is_some();
        if pointed && running == run && wanted == run {
            return Ok(());
        }
        if wanted {
            self.stop_replication_threads(&mut session).await?;
        }
        settle_applied_position(&mut session, follows).await?;
        let statement = (!pointed).then_some(source);
        match self.point_and_run(&mut session, statement, run).await {
            Err(Pointing::Unreadable(error)) => {
                // Its notes about relay logs do not fit the files that are there. Nothing in them is
                // needed: what was not applied is fetched again.
                tracing::warn!(%error, "forgetting replication state that cannot be read");
                session.run("RESET SLAVE ALL").await?;
                self.point_and_run(&mut session, Some(source), run).await?;
                Ok(())
            }
            other => Ok(other?),
        }
    }

    async fn point_and_run(
        &self,
        session: &mut Session,
        point_to: Option<&Source>,
        run: bool,
    ) -> Result<(), Pointing> {
        if let Some(source) = point_to {
            let password = self.settings.replication_password()?;
            let statement = format!(
                "CHANGE MASTER TO master_host={}, master_port={}, master_user={}, \
                 master_password={}, master_use_gtid=slave_pos, \
                 master_connect_retry={RETRY_SECONDS}",
                quote(&source.host),
                source.port,
                quote(&self.settings.replication_user),
                quote(password.expose_secret()),
            );
            session.run_secret(&statement, &password).await?;
            tracing::info!(
                host = source.host,
                port = source.port,
                "pointed to a source"
            );
        }
        if run {
            session.run("START SLAVE").await?;
        }
        Ok(())
    }

    pub(super) async fn position_of_other(&self, source: &Source) -> Result<Position> {
        let whereto = format!("database {}:{}", source.host, source.port);
        let read = async {
            let options = self.settings.remote(source).map_err(SqlError::Setting)?;
            let mut session = Session::open(options).await?;
            session.row(POSITION_QUERY).await
        };
        match read.await {
            Ok(row) => Ok(Reached::try_from(&row)?.with_log),
            Err(error) => Err(denied(error, &self.settings.replication_user, whereto)),
        }
    }

    pub(super) async fn await_position(&self, goal: &Position, limit: Duration) -> Result<bool> {
        let begin = Instant::now();
        loop {
            let mut session = self.session().await?;
            let now = connection(&mut session).await?;
            let reached = reached(&mut session).await?;
            // On a replica the binary log runs a moment ahead of what can be read.
            let readable = match now {
                Some(_) => reached.applied,
                None => reached.with_log,
            };
            if readable.covers(goal) {
                return Ok(true);
            }
            if let Some(error) = now.as_ref().and_then(Connection::fatal_error) {
                return Err(Error::refused(format!("replication has stopped: {error}"))
                    .hint("See SHOW ALL SLAVES STATUS on this tablet."));
            }
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            let slice = left.min(WAIT_SLICE);
            let query = format!(
                "SELECT MASTER_GTID_WAIT({}, {:.3})",
                quote(&goal.to_string()),
                slice.as_secs_f64()
            );
            session.rows_within(&query, slice + QUERY_LIMIT).await?;
        }
    }

    /// Only on a primary: what a closed server wrote would be its own history, not the shard's.
    pub(super) async fn make_replication_user(&self) -> Result<()> {
        let mut session = self.session().await?;
        if session.value("SELECT @@global.read_only").await? != "0" {
            return Err(Error::refused(
                "the replication user can be made only on a server that is open for writes",
            ));
        }
        let user = quote(&self.settings.replication_user);
        let accounts = session
            .rows(&format!(
                "SELECT Host, Repl_slave_priv FROM mysql.user WHERE User = {user}"
            ))
            .await?;
        if accounts
            .iter()
            .any(|row| row.text("Repl_slave_priv") == "Y")
        {
            return Ok(());
        }
        let mut hosts: Vec<String> = accounts.iter().map(|row| quote(row.text("Host"))).collect();
        if hosts.is_empty() {
            let password = self.settings.replication_password()?;
            let statement = format!(
                "CREATE USER {user}@'%' IDENTIFIED BY {}",
                quote(password.expose_secret())
            );
            session.run_secret(&statement, &password).await?;
            hosts.push(quote("%"));
        }
        for host in hosts {
            session
                .run(&format!("GRANT REPLICATION SLAVE ON *.* TO {user}@{host}"))
                .await?;
        }
        tracing::info!(
            user = self.settings.replication_user,
            "made the replication user"
        );
        Ok(())
    }

    /// Open for writes, following nobody.
    pub(super) async fn open_writes(&self) -> Result<()> {
        let mut session = self.session().await?;
        self.stop_replication_threads(&mut session).await?;
        session.run("RESET SLAVE ALL").await?;
        session.run("SET GLOBAL read_only = 0").await?;
        Ok(())
    }

    /// Closed for writes. The server lets write statements and commits under way end first, and
    /// refuses the commit of every transaction that is still open afterwards. A user who may write
    /// on a read-only server (READ ONLY ADMIN, as root has it) is not kept out: applications must not
    /// come as such a user.
    pub(super) async fn close_writes(&self) -> Result<Position> {
        let mut session = self.session().await?;
        session
            .run_within("SET GLOBAL read_only = 1", LOCK_LIMIT + QUERY_LIMIT)
            .await
            .map_err(|e| Error::from(e).context("cannot close the database for writes"))?;
        self.read_position(&mut session).await
    }
}

/// Why a server could not be pointed to its source.
enum Pointing {
    /// What it keeps about an earlier one is damaged.
    Unreadable(SqlError),
    Failed(Error),
}

impl From<SqlError> for Pointing {
    fn from(error: SqlError) -> Self {
        if error.code() == Some(code::MASTER_INFO) {
            Pointing::Unreadable(error)
        } else {
            Pointing::Failed(error.into())
        }
    }
}

impl From<Error> for Pointing {
    fn from(error: Error) -> Self {
        Pointing::Failed(error)
    }
}

impl From<Pointing> for Error {
    fn from(error: Pointing) -> Self {
        match error {
            Pointing::Unreadable(error) => error.into(),
            Pointing::Failed(error) => error,
        }
    }
}

/// Makes the position from which replication goes on contain everything this server has: one that
/// was primary would otherwise ask its successor for what it wrote itself. To be called while
/// replication stands.
async fn settle_applied_position(session: &mut Session, follows: bool) -> Result<()> {
    let reached = reached(session).await?;
    let applied = reached.applied.clone();
    let position = reached.position(follows);
    if applied == position {
        return Ok(());
    }
    set_applied_position(session, &position).await
}

pub(super) async fn set_applied_position(session: &mut Session, position: &Position) -> Result<()> {
    let statement = format!(
        "SET GLOBAL gtid_slave_pos = {}",
        quote(&position.to_string())
    );
    match session.run(&statement).await {
        Err(error) if error.code() == Some(code::SLAVE_MUST_STOP) => {
            session.run_within("STOP SLAVE", STOP_LIMIT).await?;
            session.run(&statement).await?;
        }
        other => other?,
    }
    Ok(())
}
