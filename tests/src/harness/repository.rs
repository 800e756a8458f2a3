//! The repository as it lies on the disk: what a test looks at, damages, or takes away.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A `file://` repository.
#[derive(Clone, Debug)]
pub struct RepositoryDirectory {
    root: PathBuf,
}

impl RepositoryDirectory {
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.root.display())
    }

    /// `shard`: `commerce/0`.
    pub fn backup(&self, shard: &str, name: &str) -> PathBuf {
        self.root
            .join("keyspaces")
            .join(shard)
            .join("backups")
            .join(name)
    }

    pub fn has_manifest(&self, shard: &str, name: &str) -> bool {
        self.backup(shard, name).join("manifest").is_file()
    }

    pub fn is_removed(&self, shard: &str, name: &str) -> bool {
        self.backup(shard, name).join("removed").is_file()
    }

    /// The pack objects of a backup, largest first; keys are not among them, nor what a killed writer
    /// has left of a put (`<name>#<number>`), which is no object.
    pub fn packs(&self, shard: &str, name: &str) -> Result<Vec<PathBuf>> {
        let directory = self
            .root
            .join("keyspaces")
            .join(shard)
            .join("packs")
            .join(name);
        let mut packs: Vec<(u64, PathBuf)> = Vec::new();
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context("cannot list packs"),
        };
        for entry in entries {
            let entry = entry?;
            let is_object = !entry.file_name().to_string_lossy().contains('#');
            if entry.file_type()?.is_file() && is_object {
                packs.push((entry.metadata()?.len(), entry.path()));
            }
        }
        packs.sort();
        Ok(packs.into_iter().rev().map(|(_, path)| path).collect())
    }
}
