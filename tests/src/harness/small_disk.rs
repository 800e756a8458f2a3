//! A file system so small that it can be filled: an image of its own, mounted through a loop device.
//!
//! Only root can mount, and not on every machine: [`SmallDisk::mount`] answers nothing then, and says
//! so aloud.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::ctl::run_command;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
/// What a filler is written in, until no more of it fits.
const BLOCKS: [usize; 2] = [1 << 20, 4096];

#[derive(Debug)]
pub struct SmallDisk {
    /// Removed when everything else is gone.
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// An ext4 file system of so many MiB; nothing where there are no loop devices to be had.
    pub async fn mount(mib: u64) -> Result<Option<Self>> {
        let directory = tempfile::Builder::new().prefix("sw-disk-").tempdir()?;
        let image = directory.path().join("image");
        File::create(&image)?.set_len(mib << 20)?;
        let disk = Self { directory };
        std::fs::create_dir(disk.path())?;
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-m", "0"]).arg(&image);
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&image).arg(disk.path());
        for command in [make, mount] {
            let outcome = run_command(command, PATIENCE).await;
            let why = match outcome.and_then(super::ctl::Output::done) {
                Ok(_) => continue,
                Err(error) => error,
            };
            eprintln!("SKIPPED: no small file system can be mounted here: {why:#}");
            // Shown also where the output of tests that pass is not.
            let _ = writeln!(std::io::stderr().lock(), "SKIPPED: this test shows nothing");
            return Ok(None);
        }
        Ok(Some(disk))
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    /// Has `link` lead here: what is laid out there lies on this file system.
    pub fn link(&self, link: &Path) -> Result<()> {
        std::os::unix::fs::symlink(self.path(), link)
            .with_context(|| format!("cannot make {}", link.display()))
    }

    /// Takes what is free but for so many bytes, in a file of its own.
    pub fn leave(&self, bytes: u64) -> Result<Filler> {
        let stat = nix::sys::statvfs::statvfs(&self.path())?;
        #[allow(clippy::useless_conversion)] // The types differ between platforms.
        let free = u64::from(stat.blocks_available()) * stat.fragment_size();
        let taken = free.checked_sub(bytes).context("there is less free")?;
        let path = self.path().join("filler");
        let file = File::create(&path)?;
        nix::fcntl::posix_fallocate(&file, 0, i64::try_from(taken)?)?;
        Ok(Filler(path))
    }

    /// Takes every block that is free, in a file of its own.
    pub fn fill(&self) -> Result<Filler> {
        let path = self.path().join("filler");
        let mut file = File::create(&path)?;
        for block in BLOCKS {
            let block = vec![1; block];
            loop {
                match file.write_all(&block) {
                    Ok(()) => {}
                    Err(e) if e.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(e) => return Err(e.into()),
                }
            }
        }
        file.sync_all()?;
        Ok(Filler(path))
    }
}

/// What takes the room of a disk, until this is dropped.
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a program that is just ending may have a file open yet.
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} was not mounted", self.path().display());
        }
    }
}
