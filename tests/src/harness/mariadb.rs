//! MariaDB servers: configuration, data directories, SQL over the socket.
//!
//! Servers are small (32 MB of buffers, 16 MB of redo log) and durable as Seawall demands. The data
//! directory of a new server is a copy of a template that is made once a machine.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use mysql_async::{Conn, OptsBuilder, prelude::*};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    binary::{system_program, target_directory},
    ports::Port,
    scratch::Scratch,
};

/// No statement of a test runs longer.
const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// One database server. The agent starts and stops it; a test looks at it, and kills it at times.
#[derive(Debug)]
pub struct Server {
    pub server_id: u32,
    pub directory: PathBuf,
    pub socket: PathBuf,
    port: Port,
}

impl Server {
    /// Writes the server's configuration; makes no data directory.
    pub fn configure(scratch: &Scratch, name: &str, server_id: u32) -> Result<Self> {
        let directory = scratch.path().join(name);
        std::fs::create_dir_all(directory.join("tmp"))?;
        let server = Self {
            server_id,
            socket: scratch.socket(name),
            directory,
            port: Port::reserve()?,
        };
        std::fs::write(server.defaults_file(), server.my_cnf()?)?;
        Ok(server)
    }

    /// A directory for temporary files of its own: a server that starts deletes those of others.
    fn my_cnf(&self) -> Result<String> {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid())?.context("who am I?")?;
        Ok(format!(
            "[mariadbd]\n\
             user = {user}\n\
             datadir = {data}\n\
             socket = {socket}\n\
             pid-file = {directory}/mariadbd.pid\n\
             log-error = {directory}/mariadbd.log\n\
             tmpdir = {directory}/tmp\n\
             bind-address = 127.0.0.1\n\
             port = {port}\n\
             server-id = {server_id}\n\
             skip-name-resolve\n\
             log-bin = bin\n\
             relay-log = relay\n\
             binlog-format = ROW\n\
             log-slave-updates = 1\n\
             gtid-strict-mode = 1\n\
             sync-binlog = 1\n\
             innodb-flush-log-at-trx-commit = 1\n\
             innodb-log-file-size = 16M\n\
             innodb-buffer-pool-size = 32M\n\
             aria-pagecache-buffer-size = 8M\n\
             key-buffer-size = 8M\n\
             table-open-cache = 200\n\
             performance-schema = OFF\n",
            user = user.name,
            data = self.data_dir().display(),
            socket = self.socket.display(),
            directory = self.directory.display(),
            port = self.port.number(),
            server_id = self.server_id,
        ))
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn defaults_file(&self) -> PathBuf {
        self.directory.join("my.cnf")
    }

    pub fn start_command(&self) -> Result<Vec<String>> {
        let program = system_program("mariadbd")?;
        Ok(vec![
            program.display().to_string(),
            format!("--defaults-file={}", self.defaults_file().display()),
        ])
    }

    /// Gives it a data directory with nothing but the system schemas.
    pub fn install(&self) -> Result<()> {
        copy_tree(&template()?, &self.data_dir())
    }

    pub async fn connect(&self) -> Result<Conn> {
        let options = OptsBuilder::default()
            .socket(Some(self.socket.display().to_string()))
            .user(Some("root"))
            .max_allowed_packet(Some(16 << 20))
            .wait_timeout(Some(600));
        let connected = tokio::time::timeout(Duration::from_secs(5), Conn::new(options)).await;
        connected
            .context("connecting took too long")?
            .with_context(|| format!("cannot connect to {}", self.socket.display()))
    }

    /// All rows of one statement, over a connection of its own.
    pub async fn query<T: FromRow + Send + 'static>(&self, statement: &str) -> Result<Vec<T>> {
        let mut connection = self.connect().await?;
        let rows = tokio::time::timeout(STATEMENT_LIMIT, connection.query(statement))
            .await
            .with_context(|| format!("too slow: {statement}"))?
            .with_context(|| format!("failed: {statement}"))?;
        connection.disconnect().await?;
        Ok(rows)
    }

    /// Runs statements one after the other, over one connection.
    pub async fn execute(&self, statements: &[&str]) -> Result<()> {
        let mut connection = self.connect().await?;
        for statement in statements {
            tokio::time::timeout(STATEMENT_LIMIT, connection.query_drop(*statement))
                .await
                .with_context(|| format!("too slow: {statement}"))?
                .with_context(|| format!("failed: {statement}"))?;
        }
        connection.disconnect().await?;
        Ok(())
    }

    /// The one value that a statement answers.
    pub async fn value<T>(&self, statement: &str) -> Result<T>
    where
        T: mysql_async::prelude::FromValue + Send + 'static,
    {
        let rows: Vec<(T,)> = self.query(statement).await?;
        let (value,) = rows
            .into_iter()
            .next()
            .with_context(|| format!("no row from: {statement}"))?;
        Ok(value)
    }

    pub async fn variable(&self, name: &str) -> Result<String> {
        self.value(&format!("SELECT CONVERT(@@global.{name}, CHAR)"))
            .await
    }

    /// The next shutdown leaves nothing to purge. Purging takes the transaction's number out of every
    /// new row: a copy from before it and the same tables afterwards have no page in common.
    pub async fn purge_at_shutdown(&self) -> Result<()> {
        self.execute(&["SET GLOBAL innodb_fast_shutdown = 0"]).await
    }

    pub async fn is_read_only(&self) -> Result<bool> {
        let value: i64 = self.value("SELECT @@global.read_only").await?;
        Ok(value != 0)
    }

    /// One column of SHOW SLAVE STATUS; `None` when no replication is configured.
    pub async fn replication(&self, column: &str) -> Result<Option<String>> {
        let rows: Vec<mysql_async::Row> = self.query("SHOW SLAVE STATUS").await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let value: mysql_async::Value = row
            .get(column)
            .with_context(|| format!("SHOW SLAVE STATUS has no {column}"))?;
        Ok(Some(match value {
            mysql_async::Value::NULL => String::new(),
            mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            mysql_async::Value::Int(number) => number.to_string(),
            mysql_async::Value::UInt(number) => number.to_string(),
            other => format!("{other:?}"),
        }))
    }

    pub async fn is_replicating(&self) -> Result<bool> {
        let yes = |value: Option<String>| value.as_deref() == Some("Yes");
        Ok(yes(self.replication("Slave_IO_Running").await?)
            && yes(self.replication("Slave_SQL_Running").await?))
    }

    /// `CHECKSUM TABLE ... EXTENDED` of every table that is not the server's own.
    pub async fn checksums(&self) -> Result<BTreeMap<String, Option<u64>>> {
        let tables: Vec<String> = self
            .query(
                "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') \
                 FROM information_schema.tables WHERE table_type = 'BASE TABLE' \
                 AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')",
            )
            .await?;
        if tables.is_empty() {
            return Ok(BTreeMap::new());
        }
        let statement = format!("CHECKSUM TABLE {} EXTENDED", tables.join(", "));
        Ok(self.query(&statement).await?.into_iter().collect())
    }

    /// The process that has the data directory open, if any.
    pub fn process(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.directory.join("mariadbd.pid")).ok()?;
        let pid = text.trim().parse().ok()?;
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours = format!("--defaults-file={}", self.defaults_file().display());
        String::from_utf8_lossy(&command)
            .contains(&ours)
            .then(|| Pid::from_raw(pid))
    }

    /// kill -9, and gone when this returns.
    pub async fn kill(&self) -> Result<()> {
        let pid = self.process().context("the server does not run")?;
        kill(pid, Signal::SIGKILL)?;
        super::wait::wait_until("the killed server is gone", STATEMENT_LIMIT, || async {
            Ok(self.process().is_none())
        })
        .await
    }

    pub fn log_text(&self) -> String {
        std::fs::read(self.directory.join("mariadbd.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

/// A data directory as `mariadb-install-db` leaves it, made by whoever needs it first.
fn template() -> Result<PathBuf> {
    let version = Command::new(system_program("mariadbd")?)
        .arg("--version")
        .output()?;
    let version: String = String::from_utf8_lossy(&version.stdout)
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let parent = target_directory()?.join("tmp");
    std::fs::create_dir_all(&parent)?;
    let path = parent.join(format!("template-mariadb-{version}"));
    let lock = File::create(parent.join("template.lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    if path.is_dir() {
        return Ok(path);
    }
    let unfinished = path.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())?.context("who am I?")?;
    let output = Command::new(system_program("mariadb-install-db")?)
        .arg("--no-defaults")
        .arg(format!("--user={}", user.name))
        .arg("--auth-root-authentication-method=normal")
        .arg("--skip-test-db")
        .arg("--innodb-log-file-size=16M")
        .arg(format!("--datadir={}", unfinished.display()))
        .output()?;
    if !output.status.success() {
        bail!(
            "mariadb-install-db failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    std::fs::rename(&unfinished, &path)?;
    Ok(path)
}

/// `cp -a`: owners, times and holes stay as they are.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    if !status.success() {
        bail!("cannot copy {} to {}", from.display(), to.display());
    }
    Ok(())
}
