//! What people use otherwise, each as its documentation says, with the same key where it takes one.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Result, bail};
use seawall_tests::harness::mariadb::Server;

use super::contender::{Contender, Task};

/// A bucket for what the others store.
pub struct Bucket {
    /// Of the gateway: `host:port`.
    pub address: String,
    pub name: String,
    pub credentials: Vec<(String, String)>,
}

impl Bucket {
    /// For restic, and for rclone's remote `bench`.
    fn environment(&self) -> Vec<(String, String)> {
        let remote = [
            ("TYPE", "s3"),
            ("PROVIDER", "Ceph"),
            ("ENV_AUTH", "true"),
            ("REGION", "us-east-1"),
            ("ENDPOINT", &format!("http://{}", self.address)),
        ]
        .map(|(name, value)| (format!("RCLONE_CONFIG_BENCH_{name}"), value.to_owned()));
        [self.credentials.clone(), remote.to_vec()].concat()
    }
}

pub struct Others {
    recipient: String,
    key: PathBuf,
    work: PathBuf,
    /// `None`: everything is stored on the disk, in `work`.
    bucket: Option<Bucket>,
    pub tar: Contender,
    pub mariabackup: Contender,
    pub restic: Contender,
}

impl Others {
    pub fn prepare(
        work: PathBuf,
        recipient: String,
        key: PathBuf,
        bucket: Option<Bucket>,
    ) -> Result<Self> {
        std::fs::create_dir(&work)?;
        std::fs::write(work.join("password"), "a password\n")?;
        let by = if bucket.is_some() { ", rclone" } else { "" };
        Ok(Self {
            bucket,
            recipient,
            key,
            work,
            tar: Contender::new(&format!("tar, zstd -1 -T2, age{by}")),
            mariabackup: Contender::new(&format!("mariabackup, zstd -1 -T2, age{by}")),
            restic: Contender::new("restic (--force)"),
        })
    }

    /// Everybody's first backup and restore.
    pub fn round(&mut self, data: &Path, server: &Server, round: usize) -> Result<()> {
        self.restic_round(data, round)?;
        self.tar_round(data)?;
        self.mariabackup_round(server)
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
        let archive = self.archive();
        let target = self.work.join("target");
        let backup = self.shell(&format!(
            "set -eo pipefail; {from} | zstd -q -1 -T2 | age -r {} {}",
            self.recipient, archive.put
        ))?;
        std::fs::create_dir(&target)?;
        let restore = self.shell(&format!(
            "set -eo pipefail; cd '{1}'; {2} | age -d -i '{0}' | zstd -q -d | {{ {to}; }}; sync -f '{1}'",
            self.key.display(),
            target.display(),
            archive.get,
        ))?;
        std::fs::remove_dir_all(&target)?;
        let stored = self.output(&archive.size)?;
        self.shell(&archive.remove)?;
        Ok((backup, restore, stored.trim().parse()?))
    }

    fn archive(&self) -> Archive {
        match &self.bucket {
            Some(bucket) => {
                let object = format!("bench:{}/archive.zst.age", bucket.name);
                Archive {
                    put: format!("| rclone rcat -q {object}"),
                    get: format!("rclone cat -q {object}"),
                    size: format!(r#"rclone size --json {object} | grep -oP '"bytes":\K[0-9]+'"#),
                    remove: format!("rclone deletefile -q {object}"),
                }
            }
            None => {
                let file = self.work.join("archive.zst.age").display().to_string();
                Archive {
                    put: format!("> '{file}'; sync '{file}'"),
                    get: format!("cat '{file}'"),
                    size: format!("stat -c %s '{file}'"),
                    remove: format!("rm '{file}'"),
                }
            }
        }
    }

    fn restic(&self, round: usize) -> String {
        let base = match &self.bucket {
            Some(bucket) => format!("s3:http://{}/{}/restic", bucket.address, bucket.name),
            None => self.work.join("restic").display().to_string(),
        };
        format!(
            "restic --quiet --no-cache -o s3.bucket-lookup=path --repo '{base}-{round}' --password-file '{}'",
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
        let status = self.bash(script).status()?;
        if !status.success() {
            bail!("failed with {status}: {script}");
        }
        Ok(began.elapsed().as_secs_f64())
    }

    fn output(&self, script: &str) -> Result<String> {
        let output = self.bash(script).output()?;
        if !output.status.success() {
            bail!("failed with {}: {script}", output.status);
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn bash(&self, script: &str) -> Command {
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(script);
        if let Some(bucket) = &self.bucket {
            bash.envs(bucket.environment());
            // The gateway speaks without TLS, and rclone 1.60 fails on being given authorities.
            bash.env_remove("AWS_CA_BUNDLE");
        }
        bash
    }
}

/// How a pipe's archive is written and read, as pieces of a script.
struct Archive {
    put: String,
    get: String,
    size: String,
    remove: String,
}

fn note(contender: &mut Contender, (backup, restore, stored): (f64, f64, u64)) {
    contender.note(Task::FirstBackup, backup, Some(stored));
    contender.note(Task::FullRestore, restore, Some(stored));
}
