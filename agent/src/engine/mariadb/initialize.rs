//! A new, empty database, made by MariaDB's own program for it.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use seawall_common::{Error, Result};
use secrecy::{ExposeSecret, SecretString};

use super::{
    MariaDb,
    directory::{self, INITIALIZING},
    sql::quote,
};
use crate::engine::{DataState, process, settings::find_program};

/// Every server empties its directory for temporary tables when it starts: one that is shared with
/// other servers, as `/tmp` by default, makes an initialisation fail now and then.
const TEMPORARY: &str = "seawall-temporary";
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

impl MariaDb {
    pub(super) async fn initialize_directory(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        let data_dir = self.settings.data_dir.clone();
        match self.directory_state().await? {
            DataState::SystemOnly => return Ok(()),
            DataState::UserData => {
                return Err(Error::refused(format!(
                    "{} holds data: it is not initialised anew",
                    data_dir.display()
                )));
            }
            DataState::Empty => {}
        }
        if self.server_is_running().await? {
            // What a cut-off attempt started may still be at work.
            return Err(Error::unavailable(format!(
                "a database server has {} open",
                data_dir.display()
            )));
        }
        let program = find_program("mariadb-install-db").ok_or_else(|| {
            Error::invalid("there is no program mariadb-install-db")
                .hint("Install the MariaDB server on this machine.")
        })?;
        let marker = data_dir.join(INITIALIZING);
        let temporary = data_dir.join(TEMPORARY);
        blocking({
            let (data_dir, marker, temporary) =
                (data_dir.clone(), marker.clone(), temporary.clone());
            move || prepare(&data_dir, &marker).and_then(|()| make_temporary(&temporary))
        })
        .await?;
        let accounts = self.write_accounts()?;
        let installed =
            process::run(&program, &self.install_arguments(&accounts), INSTALL_LIMIT).await;
        fs::remove_file(&accounts).map_err(|e| Error::io("remove", &accounts, &e))?;
        installed.map_err(|e| e.context("cannot make a new database"))?;
        blocking({
            let data_dir = data_dir.clone();
            move || finish(&data_dir, &marker, &temporary)
        })
        .await?;
        tracing::info!(data_dir = %data_dir.display(), "made a new database");
        Ok(())
    }

    fn install_arguments(&self, accounts: &Path) -> Vec<String> {
        let settings = &self.settings;
        let mut arguments = vec![
            settings.defaults_argument(),
            "--auth-root-authentication-method=normal".to_owned(),
            "--skip-test-db".to_owned(),
            format!("--datadir={}", settings.data_dir.display()),
            format!("--tmpdir={}", settings.data_dir.join(TEMPORARY).display()),
        ];
        // What shapes the files must be the same as at every later start.
        let passed_on = [
            "--user",
            "--innodb-page-size",
            "--innodb-log-file-size",
            "--innodb-log-group-home-dir",
            "--innodb-undo-directory",
            "--innodb-undo-tablespaces",
            "--innodb-data-home-dir",
            "--innodb-data-file-path",
            "--aria-log-dir-path",
            "--lower-case-table-names",
        ];
        for name in passed_on {
            if let Some(value) = settings.start_argument(name) {
                arguments.push(format!("{name}={value}"));
            }
        }
        arguments.push(format!("--extra-file={}", accounts.display()));
        arguments
    }

    /// A new server lets anybody in as `root`: its accounts are made together with it. The file is
    /// readable for us alone and lives for a moment.
    fn write_accounts(&self) -> Result<PathBuf> {
        let user = self.settings.user();
        let statements = accounts(user, self.settings.password()?.as_ref(), &own_name()?);
        let path = self.state_dir.join("accounts.sql");
        let written = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(statements.as_bytes()));
        written.map_err(|e| Error::io("write", &path, &e))?;
        Ok(path)
    }

    pub(super) async fn directory_state(&self) -> Result<DataState> {
        let data_dir = self.settings.data_dir.clone();
        blocking(move || directory::state(&data_dir)).await
    }
}

/// The operating system's name of who this process runs as.
fn own_name() -> Result<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    let user =
        user.map_err(|e| Error::internal(format!("cannot find out who runs the agent: {e}")))?;
    Ok(user.map_or_else(String::new, |user| user.name))
}

/// The administrator comes by its password; without one, as the operating system's user of the same
/// name, when that is who runs the agent. `root` comes as the operating system's root, from this
/// machine only.
fn accounts(user: &str, password: Option<&SecretString>, own_name: &str) -> String {
    let account = format!("{}@'localhost'", quote(user));
    let by = match password {
        Some(password) => format!("BY {}", quote(password.expose_secret())),
        None if user == own_name => "VIA unix_socket".to_owned(),
        None => {
            tracing::warn!(
                "the new database lets every user of this machine in as {user}: give the agent \
                 engine.password_file, or run it as {user}"
            );
            "BY ''".to_owned()
        }
    };
    let root = match user {
        "root" => "",
        _ => "ALTER USER root@localhost IDENTIFIED VIA unix_socket;\n",
    };
    format!(
        "FLUSH PRIVILEGES;\nCREATE OR REPLACE USER {account} IDENTIFIED {by};\n\
         GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION;\n{root}\
         DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost';\n"
    )
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("work on the data directory ended: {e}")))?
}

/// An empty data directory with our marker in it: what a cut-off attempt left is removed.
fn prepare(data_dir: &Path, marker: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(data_dir) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(Error::io("make", data_dir, &e)),
    }
    if marker.exists() {
        for entry in fs::read_dir(data_dir).map_err(|e| Error::io("read", data_dir, &e))? {
            let entry = entry.map_err(|e| Error::io("read", data_dir, &e))?;
            let path = entry.path();
            if path == marker || entry.file_name() == "lost+found" {
                continue;
            }
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(|e| Error::io("remove", &path, &e))?;
        }
    }
    fs::write(marker, "").map_err(|e| Error::io("write", marker, &e))?;
    sync(data_dir)
}

/// The marker goes last, when all else is on the disk.
fn finish(data_dir: &Path, marker: &Path, temporary: &Path) -> Result<()> {
    fs::remove_dir_all(temporary).map_err(|e| Error::io("remove", temporary, &e))?;
    sync(data_dir)?;
    fs::remove_file(marker).map_err(|e| Error::io("remove", marker, &e))?;
    sync(data_dir)
}

/// The program may give the data directory to another user: who runs the server can write here.
fn make_temporary(path: &Path) -> Result<()> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o1777)))
        .map_err(|e| Error::io("make", path, &e))
}

fn sync(directory: &Path) -> Result<()> {
    fs::File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|e| Error::io("sync", directory, &e))
}
