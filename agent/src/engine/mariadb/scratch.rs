//! A MariaDB server on a restored backup: its own socket, no network, no replication, no binary
//! log, nobody's accounts; the settings that shape files as this tablet's server has them.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use mysql_async::{Opts, OptsBuilder};
use seawall_common::{Error, ErrorKind, Result};

use super::{
    MariaDb,
    blame::judge_end,
    check_tables,
    configuration::{Configuration, same_path},
    copy_set::{MOVABLE, SHAPES},
    settings::options,
    sql::Session,
};
use crate::engine::{
    Checked, Say, ScratchGround, ScratchServer, end_all_in,
    process::{Launched, Launcher, POLL, wait_until},
    scratch::MARK,
    settings::find_program,
};

/// Small, whatever the tablet's own server has: it must not suffer.
const BUFFER_POOL: &str = "128M";
/// The operating system's limit for the path of a socket.
const SOCKET_PATH_MAX: usize = 107;
/// How long it may take to shut down before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to end after it has dropped a session.
const CRASH_LIMIT: Duration = Duration::from_secs(30);

/// Where this machine has what a server needs besides its files.
const OF_THIS_MACHINE: [&str; 2] = ["plugin-dir", "lc-messages-dir"];

pub(super) struct MariaDbScratch {
    ground: ScratchGround,
    socket: PathBuf,
    launched: Launched,
}

impl MariaDb {
    pub(super) async fn start_scratch_server(
        &self,
        ground: &ScratchGround,
    ) -> Result<MariaDbScratch> {
        let configuration = self.configuration().await?;
        let socket = ground.directory.join("sock");
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(Error::invalid(format!(
                "the path of the socket {} is longer than {SOCKET_PATH_MAX} characters",
                socket.display()
            ))
            .hint("Set scratch_dir to a directory with a shorter path."));
        }
        let data = ground.root("data")?;
        let temporary = ground.directory.join("tmp");
        std::fs::create_dir_all(&temporary).map_err(|e| Error::io("make", &temporary, &e))?;
        let user = give_to_owner_of(data, &[&ground.directory, &temporary])?;
        let program = find_program("mariadbd").ok_or_else(|| {
            Error::invalid("there is no program mariadbd")
                .hint("Install the MariaDB server on this machine.")
        })?;
        let arguments = self.scratch_arguments(&configuration, ground, &socket, &user)?;
        let mark = (MARK.to_owned(), ground.directory.display().to_string());
        let launched =
            Launcher::new(&ground.directory).launch_with(&program, &arguments, &[mark])?;
        let server = MariaDbScratch {
            ground: ground.clone(),
            socket,
            launched,
        };
        match server.await_answer(self.settings.start_timeout).await {
            Ok(()) => Ok(server),
            Err(error) => {
                // Why it did not start is what counts.
                if let Err(left) = server.stop().await {
                    tracing::error!("cannot stop the database of the restore test: {left}");
                }
                Err(error)
            }
        }
    }

    fn scratch_arguments(
        &self,
        configuration: &Configuration,
        ground: &ScratchGround,
        socket: &Path,
        user: &str,
    ) -> Result<Vec<String>> {
        let data = ground.root("data")?;
        let here = |name: &str| ground.directory.join(name).display().to_string();
        let mut arguments = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={}", data.display()),
            format!("--socket={}", socket.display()),
            format!("--pid-file={}", here("server.pid")),
            format!("--tmpdir={}", here("tmp")),
            format!("--innodb-buffer-pool-size={BUFFER_POOL}"),
        ];
        arguments.extend(
            [
                "--skip-networking",
                "--skip-grant-tables",
                "--skip-slave-start",
                "--skip-log-bin",
                "--read-only",
                "--event-scheduler=DISABLED",
                "--performance-schema=OFF",
                "--innodb-buffer-pool-load-at-startup=OFF",
                "--innodb-buffer-pool-dump-at-shutdown=OFF",
            ]
            .map(str::to_owned),
        );
        if !user.is_empty() {
            arguments.push(format!("--user={user}"));
        }
        for name in OF_THIS_MACHINE {
            if let Some(value) = configuration.value(name) {
                arguments.push(format!("--{name}={value}"));
            }
        }
        for shape in SHAPES {
            let name = shape.replace('_', "-");
            // The backup may be another server's: what it says of itself goes first.
            let noted = ground.detail(shape);
            let Some(value) = noted.or_else(|| configuration.value(&name)) else {
                continue;
            };
            let value = match shape {
                "innodb_data_file_path" => self.inside(configuration, value)?,
                _ => value.to_owned(),
            };
            arguments.push(format!("--{name}={value}"));
        }
        for (root, setting) in MOVABLE {
            let own = ground
                .roots
                .iter()
                .find(|(name, _)| name.split('-').any(|part| part == root));
            let path = match own {
                Some((_, path)) => path.clone(),
                None => match configuration
                    .directory(setting)
                    .strip_prefix(&self.settings.data_dir)
                {
                    Ok(inner) => data.join(inner),
                    Err(_) => data.to_owned(),
                },
            };
            arguments.push(format!("--{setting}={}", path.display()));
        }
        Ok(arguments)
    }
}

impl MariaDb {
    /// The files of a system tablespace by their names in the copy: by a whole path the server of
    /// the restore test would open those of a server at work.
    fn inside(&self, configuration: &Configuration, files: &str) -> Result<String> {
        let homes = [
            self.settings.data_dir.clone(),
            configuration.directory("innodb-data-home-dir"),
        ];
        let inner = |file: &str| {
            let (path, form) = file.split_once(':').unwrap_or((file, ""));
            let path = Path::new(path);
            let inner = homes.iter().find_map(|home| path.strip_prefix(home).ok());
            let inner = inner.unwrap_or(path);
            let stays = |part| matches!(part, Component::Normal(_) | Component::CurDir);
            match inner.components().all(stays) {
                true => Ok(format!("{}:{form}", inner.display())),
                false => Err(Error::refused(format!(
                    "the system tablespace's file {} does not lie in a directory of this server",
                    path.display()
                ))
                .hint("Test the backup on the tablet that took it.")),
            }
        };
        let files: Result<Vec<String>> = files.split(';').map(inner).collect();
        Ok(files?.join(";"))
    }
}

/// The server runs as who owns the files; what it needs besides is given to that user. Answers its
/// name; empty: this process cannot be anybody else.
fn give_to_owner_of(data: &Path, directories: &[&Path]) -> Result<String> {
    let meta = std::fs::metadata(data).map_err(|e| Error::io("examine", data, &e))?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(String::new());
    }
    for directory in directories {
        std::os::unix::fs::chown(directory, Some(meta.uid()), Some(meta.gid()))
            .map_err(|e| Error::io("change the owner of", directory, &e))?;
    }
    let user = nix::unistd::User::from_uid(meta.uid().into());
    let user =
        user.map_err(|e| Error::internal(format!("cannot look up user {}: {e}", meta.uid())))?;
    Ok(user.map_or_else(|| meta.uid().to_string(), |user| user.name))
}

impl MariaDbScratch {
    fn local(&self) -> Opts {
        let options: OptsBuilder = options();
        options
            .socket(Some(self.socket.to_string_lossy()))
            .user(Some("root"))
            .into()
    }

    pub(super) async fn session(&self) -> Result<Session> {
        let session = Session::open(self.local()).await;
        session.map_err(|e| Error::from(e).context("the database of the restore test"))
    }

    /// One that ends by itself could not start on these files: that is what the test is for.
    async fn await_answer(&self, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        loop {
            if let Ok(mut session) = Session::open(self.local()).await
                && let Ok(directory) = session.value("SELECT @@global.datadir").await
                && same_path(directory.as_ref(), self.ground.root("data")?)
            {
                return Ok(());
            }
            if let Some(status) = self.launched.ended() {
                let what = format!("the database does not start on it ({status})");
                return Err(self.why_ended(status, &what));
            }
            if begin.elapsed() >= limit {
                return Err(Error::timeout(format!(
                    "the database of the restore test does not answer within {limit:?}"
                ))
                .hint("A long crash recovery may need a longer engine.start_timeout."));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl MariaDbScratch {
    /// [`ErrorKind::Corrupt`] when it ended because of its files.
    fn why_ended(&self, status: ExitStatus, what: &str) -> Error {
        let line = self.launched.last_line();
        let line = line.map(|line| format!(": {line}")).unwrap_or_default();
        judge_end(status, &self.launched.said(), &format!("{what}{line}"))
    }

    /// When the server ended by itself while it was looked at: what that says of its files.
    async fn after_failed_check(&self, error: Error, checked: &mut Checked) -> Result<()> {
        if error.kind() != ErrorKind::Unavailable {
            return Err(error);
        }
        wait_until(CRASH_LIMIT, || self.launched.ended().is_some()).await;
        let Some(status) = self.launched.ended() else {
            return Err(error);
        };
        let what = format!("the database ended while its tables were checked ({status})");
        let why = self.why_ended(status, &what);
        if why.kind() != ErrorKind::Corrupt {
            return Err(why);
        }
        checked.problem(why.message().to_owned());
        Ok(())
    }
}

#[async_trait]
impl ScratchServer for MariaDbScratch {
    async fn check(&self, checked: &mut Checked, say: Say<'_>) -> Result<()> {
        let checking = async {
            let mut session = self.session().await?;
            check_tables::check(&mut session, &self.ground.details, checked, say).await
        };
        match checking.await {
            Err(error) => self.after_failed_check(error, checked).await,
            Ok(()) => Ok(()),
        }
    }

    async fn stop(&self) -> Result<()> {
        if let Ok(mut session) = Session::open(self.local()).await {
            // It may be gone before the answer; one that does not go is killed.
            let _ = session.run("SHUTDOWN").await;
            wait_until(STOP_LIMIT, || self.launched.ended().is_some()).await;
        }
        end_all_in(&self.ground.directory).await
    }
}
