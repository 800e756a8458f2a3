//! What people use otherwise, each as its documentation says, with the same key where it takes one.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Result, bail};
use seawall_tests::harness::mariadb::Server;

use super::contender::{Contender, Task};

/// Where restic's repositories lie, and what it needs to reach them.
pub struct ResticStore {
    pub base: String,
    pub environment: Vec<(String, String)>,
}

pub struct Others {
    recipient: String,
    key: PathBuf,
    work: PathBuf,
    restic_store: ResticStore,
    /// Only restic knows other stores.
    is_on_disk: bool,
    pub tar: Contender,
    pub mariabackup: Contender,
    pub restic: Contender,
}

impl Others {
    /// `restic`: nothing, it stores on the disk as the others do.
    pub fn prepare(
        work: PathBuf,
        recipient: String,
        key: PathBuf,
        restic: Option<ResticStore>,
    ) -> Result<Self> {
        std::fs::create_dir(&work)?;
        std::fs::write(work.join("password"), "a password\n")?;
        Ok(Self {
            is_on_disk: restic.is_none(),
            restic_store: restic.unwrap_or_else(|| ResticStore {
                base: work.join("restic").display().to_string(),
                environment: Vec::new(),
            }),
            recipient,
            key,
            work,
            tar: Contender::new("tar, zstd -1 -T2, age"),
            mariabackup: Contender::new("mariabackup, zstd -1 -T2, age"),
            restic: Contender::new("restic (--force)"),
        })
    }

    /// Everybody's first backup and restore. Only restic knows other stores than a disk.
    pub fn round(&mut self, data: &Path, server: &Server, round: usize) -> Result<()> {
        self.restic_round(data, round)?;
        if self.is_on_disk {
            self.tar_round(data)?;
            self.mariabackup_round(server)?;
        }
        Ok(())
    }

    fn tar_round(&mut self, data: &Path) -> Result<()> {
        let from = format!("tar -C '{}' -cf - .", data.display());
        let to = "tar -C . -xf -".to_owned();
        let measured = self.pipe(&from, &to)?;
        note(&mut self.tar, measured);
        Ok(())
    }

    /// Of a running server; its restore prepares what was copied.
    fn mariabackup_round(&mut self, server: &Server) -> Result<()> {
        let from = format!(
            "mariabackup --defaults-file='{}' --backup --user=root --socket='{}' --target-dir='{}' --stream=xbstream 2>>'{}'",
            server.defaults_file().display(),
            server.socket.display(),
            self.work.display(),
            self.work.join("mariabackup.log").display()
        );
        let to = format!(
            "mbstream -x && mariabackup --no-defaults --prepare --target-dir=. 2>>'{}'",
            self.work.join("mariabackup.log").display()
        );
        let measured = self.pipe(&from, &to)?;
        note(&mut self.mariabackup, measured);
        Ok(())
    }

    /// Seconds of a backup and a restore, and bytes stored.
    fn pipe(&self, from: &str, to: &str) -> Result<(f64, f64, u64)> {
        let archive = self.work.join("archive.zst.age");
        let target = self.work.join("target");
        let backup = self.shell(&format!(
            "set -eo pipefail; {from} | zstd -q -1 -T2 | age -r {} > '{1}'; sync '{1}'",
            self.recipient,
            archive.display()
        ))?;
        let stored = std::fs::metadata(&archive)?.len();
        std::fs::create_dir(&target)?;
        let restore = self.shell(&format!(
            "set -eo pipefail; cd '{2}'; age -d -i '{0}' '{1}' | zstd -q -d | {{ {to}; }}; sync -f '{2}'",
            self.key.display(),
            archive.display(),
            target.display()
        ))?;
        std::fs::remove_dir_all(&target)?;
        std::fs::remove_file(&archive)?;
        Ok((backup, restore, stored))
    }

    fn restic(&self, round: usize) -> String {
        format!(
            "restic --quiet --no-cache -o s3.bucket-lookup=path --repo '{}-{round}' --password-file '{}'",
            self.restic_store.base,
            self.work.join("password").display()
        )
    }

    /// First backup, the same again with every file read anew, and a restore.
    fn restic_round(&mut self, data: &Path, round: usize) -> Result<()> {
        let restic = self.restic(round);
        self.shell(&format!("{restic} init"))?;
        for task in [Task::FirstBackup, Task::UnchangedBackup] {
            let seconds = self.restic_backup(data, round)?;
            self.restic.note(task, seconds, None);
        }
        let target = self.work.join("restic-target");
        let seconds = self.shell(&format!(
            "set -e; {restic} restore latest --target '{0}'; sync -f '{0}'",
            target.display()
        ))?;
        self.restic.note(Task::FullRestore, seconds, None);
        std::fs::remove_dir_all(&target)?;
        Ok(())
    }

    /// After the data have changed.
    pub fn changed(&mut self, data: &Path, round: usize) -> Result<()> {
        let seconds = self.restic_backup(data, round)?;
        self.restic.note(Task::ChangedBackup, seconds, None);
        Ok(())
    }

    fn restic_backup(&self, data: &Path, round: usize) -> Result<f64> {
        let restic = self.restic(round);
        self.shell(&format!(
            "set -e; {restic} backup --force '{}'; sync -f '{}'",
            data.display(),
            self.work.display()
        ))
    }

    /// Runs a script; how long it took, in seconds.
    fn shell(&self, script: &str) -> Result<f64> {
        let began = Instant::now();
        let status = Command::new("bash")
            .arg("-c")
            .arg(script)
            .envs(self.restic_store.environment.iter().cloned())
            .status()?;
        if !status.success() {
            bail!("failed with {status}: {script}");
        }
        Ok(began.elapsed().as_secs_f64())
    }
}

fn note(contender: &mut Contender, (backup, restore, stored): (f64, f64, u64)) {
    contender.note(Task::FirstBackup, backup, Some(stored));
    contender.note(Task::FullRestore, restore, Some(stored));
}
