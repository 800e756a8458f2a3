//! A MariaDB server for one test: a copy of a database initialised once, a free port, an engine.
//!
//! Whatever happens in a test, dropping it ends the server, which is known by the locks it holds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use seawall_tests::harness::ports::Port;
use tempfile::TempDir;

use crate::engine::{
    Engine, EngineSettings, Source,
    mariadb::{MariaDb, locks},
    process::ProcessId,
    settings::ReplicationSettings,
};

pub const REPLICATION_PASSWORD: &str = r"re'pl\ica";

/// Initialised once and kept beside the test program: that takes two seconds.
static FRESH: LazyLock<PathBuf> = LazyLock::new(|| {
    let program = std::env::current_exe().unwrap();
    let kept = program.with_file_name("fresh-mariadb-data");
    if kept.is_dir() {
        return kept;
    }
    let directory = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let data = directory.path().join("data");
    let scratch = directory.path().join("tmp");
    fs::create_dir(&scratch).unwrap();
    install(&data, &scratch, &[]);
    // Another run may have been quicker: then its directory is as good.
    if fs::rename(&data, &kept).is_err() {
        assert!(kept.is_dir());
    }
    kept
});

/// Makes a database. The server that does it empties `tmp` when it starts.
fn install(data: &Path, tmp: &Path, layout: &[String]) {
    let output = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--user=root", "--skip-test-db"])
        .arg("--auth-root-authentication-method=normal")
        .arg("--innodb-log-file-size=16M")
        .args(layout)
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--tmpdir={}", tmp.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

pub struct Server {
    directory: TempDir,
    _reserved: Port,
    pub port: u16,
    pub settings: EngineSettings,
    pub engine: MariaDb,
}

impl Server {
    /// A fresh server, not started.
    pub fn new(server_id: u32) -> Self {
        let server = Self::without_data(server_id);
        copy(&FRESH, &server.data_dir());
        server
    }

    /// The same with a database that is laid out as these options of the server say, which it is
    /// started with as well.
    pub fn laid_out(server_id: u32, layout: &[String]) -> Self {
        let mut server = Self::without_data(server_id);
        install(&server.data_dir(), &server.path("tmp"), layout);
        let start_command = &mut server.settings.start_command;
        start_command.extend_from_slice(layout);
        server.reopen();
        server
    }

    pub fn without_data(server_id: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let reserved = Port::reserve().unwrap();
        let port = reserved.number();
        for name in ["state", "tmp"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let password = directory.path().join("repl.password");
        fs::write(password, format!("{REPLICATION_PASSWORD}\n")).unwrap();
        let settings = settings(directory.path(), port, server_id);
        let engine = MariaDb::open(&settings, &directory.path().join("state")).unwrap();
        Self {
            directory,
            _reserved: reserved,
            port,
            settings,
            engine,
        }
    }

    /// A started primary with the replication user and a table.
    pub async fn primary(server_id: u32) -> Self {
        let server = Self::new(server_id);
        server.engine.start().await.unwrap();
        server.engine.open_for_writes().await.unwrap();
        server.engine.ensure_replication_user().await.unwrap();
        server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (a INT PRIMARY KEY)");
        server
    }

    /// A started replica that has caught up with `primary`.
    pub async fn replica(server_id: u32, primary: &Server) -> Self {
        let server = Self::new(server_id);
        server.engine.start().await.unwrap();
        server.follow(primary).await;
        server
    }

    pub async fn follow(&self, primary: &Server) {
        self.engine
            .replicate_from(&primary.address(), true)
            .await
            .unwrap();
        self.catch_up(primary).await;
    }

    pub async fn catch_up(&self, primary: &Server) {
        let goal = primary.engine.position().await.unwrap();
        let limit = Duration::from_secs(30);
        assert!(
            self.engine.wait_for(&goal, limit).await.unwrap(),
            "{goal} was not reached"
        );
    }

    /// The engine anew, after `settings` were changed.
    pub fn reopen(&mut self) {
        self.engine = MariaDb::open(&self.settings, &self.path("state")).unwrap();
    }

    pub fn address(&self) -> Source {
        self.engine.address().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// What a client prints for these statements, one row a line.
    pub fn sql(&self, statements: &str) -> String {
        let output = self.try_sql(statements);
        assert!(output.status.success(), "{statements}: {output:?}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    pub fn try_sql(&self, statements: &str) -> std::process::Output {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-uroot", "-N", "-B"]);
        if let Some(file) = &self.settings.password_file {
            let password = fs::read_to_string(file).unwrap();
            command.env("MYSQL_PWD", password.trim_end());
        }
        command
            .arg(format!("--socket={}", self.path("sock").display()))
            .arg(format!("--execute={statements}"))
            .output()
            .unwrap()
    }

    /// The process that has the data directory open.
    pub fn process(&self) -> Option<ProcessId> {
        let files = ["ibdata1", "aria_log_control"].map(|name| self.data_dir().join(name));
        match locks::owner(&files).unwrap() {
            Some(locks::Owner::Server(process)) => process,
            _ => None,
        }
    }

    pub fn kill(&self) {
        if let Some(process) = self.process() {
            kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
            while process.is_alive() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// What the agent of the server in `directory` would be configured with.
pub fn settings(directory: &Path, port: u16, server_id: u32) -> EngineSettings {
    let path = |name: &str| directory.join(name);
    let mut start_command: Vec<String> = [
        "mariadbd",
        "--no-defaults",
        "--user=root",
        "--bind-address=127.0.0.1",
        "--log-bin=bin",
        "--relay-log=relay",
        "--binlog-format=ROW",
        "--gtid-strict-mode=1",
        "--log-slave-updates=1",
        "--skip-name-resolve",
        "--innodb-log-file-size=16M",
        "--innodb-buffer-pool-size=32M",
        "--innodb-flush-log-at-trx-commit=0",
        "--performance-schema=OFF",
    ]
    .map(str::to_owned)
    .into();
    start_command.extend([
        format!("--datadir={}", path("data").display()),
        format!("--socket={}", path("sock").display()),
        format!("--pid-file={}", path("pid").display()),
        // Each server empties this directory when it starts.
        format!("--tmpdir={}", path("tmp").display()),
        format!("--port={port}"),
        format!("--server-id={server_id}"),
    ]);
    EngineSettings {
        checksum_time: Duration::from_secs(5),
        check_command: Vec::new(),
        kind: "mariadb".to_owned(),
        defaults_file: None,
        data_dir: Some(path("data")),
        socket: Some(path("sock")),
        user: "root".to_owned(),
        password_file: None,
        start_command,
        stop_command: Vec::new(),
        running_command: Vec::new(),
        systemd_unit: None,
        start_timeout: Duration::from_secs(60),
        stop_timeout: Duration::from_secs(60),
        replication: ReplicationSettings {
            user: Some("repl".to_owned()),
            password_file: Some(path("repl.password")),
            host: Some("127.0.0.1".to_owned()),
            port: Some(port),
        },
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let launcher = crate::engine::process::Launcher::new(&self.path("state"));
        for process in [self.process(), launcher.process()].into_iter().flatten() {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            while process.is_alive() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// A port that nobody listens on now.
/// A plain recursive copy.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}
