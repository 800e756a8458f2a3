//! Directories below `scratch_dir` that backups are restored to aside: one for each restore test,
//! gone when it ends, and at the next start when the agent was killed in it.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use seawall_common::{
    Error, Result,
    ids::{Alias, OperationId},
};

use crate::engine::end_all_in;

/// What their names begin with; the alias follows, for agents may share a `scratch_dir`.
const BEGINNING: &str = "seawall-test";
/// Of the operation's id: paths of sockets are short.
const ID_CHARS: usize = 8;

pub struct Scratch(PathBuf);

fn beginning(alias: &Alias) -> String {
    format!("{BEGINNING}.{alias}.")
}

impl Scratch {
    /// A fresh directory that only this user can enter. What an earlier try of the same operation
    /// left is removed.
    pub async fn make(parent: &Path, alias: &Alias, operation: OperationId) -> Result<Self> {
        let id: String = operation.to_string().chars().take(ID_CHARS).collect();
        let scratch = Self(parent.join(format!("{}{id}", beginning(alias))));
        scratch.remove().await?;
        let path = scratch.0.clone();
        let make = move || {
            DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(|e| Error::io("make", &path, &e).hint("Look at scratch_dir."))
        };
        blocking(make).await?;
        Ok(scratch)
    }

    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Ends everything that was started there and removes the directory.
    pub async fn remove(&self) -> Result<()> {
        end_all_in(&self.0).await?;
        let path = self.0.clone();
        blocking(move || match std::fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path, &e)),
            _ => Ok(()),
        })
        .await
    }
}

/// Removes what earlier processes of this agent left.
pub async fn clear(parent: &Path, alias: &Alias) -> Result<()> {
    let entries = match std::fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("read", parent, &e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", parent, &e))?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(&beginning(alias)) {
            tracing::warn!(
                "removing what a restore test left in {}",
                entry.path().display()
            );
            Scratch(entry.path()).remove().await?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("work on a scratch directory ended: {e}")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_this_agent_left_is_cleared() {
        let parent = tempfile::tempdir().unwrap();
        let alias = |text: &str| text.parse::<Alias>().unwrap();
        let (ours, other) = (alias("zone1-10"), alias("zone1-101"));
        let id = OperationId::generate();
        let own = Scratch::make(parent.path(), &ours, id).await.unwrap();
        let others = Scratch::make(parent.path(), &other, id).await.unwrap();
        std::fs::create_dir(parent.path().join("data")).unwrap();
        std::fs::write(own.directory().join("left"), "x").unwrap();
        clear(parent.path(), &ours).await.unwrap();
        assert!(!own.directory().exists());
        assert!(others.directory().exists() && parent.path().join("data").exists());
        others.remove().await.unwrap();
        others.remove().await.unwrap();
        clear(Path::new("/no/such/directory"), &ours).await.unwrap();
    }

    #[tokio::test]
    async fn a_second_try_begins_with_an_empty_directory() {
        let parent = tempfile::tempdir().unwrap();
        let alias: Alias = "zone1-101".parse().unwrap();
        let id = OperationId::generate();
        let first = Scratch::make(parent.path(), &alias, id).await.unwrap();
        std::fs::write(first.directory().join("left"), "x").unwrap();
        let second = Scratch::make(parent.path(), &alias, id).await.unwrap();
        assert_eq!(first.directory(), second.directory());
        assert_eq!(std::fs::read_dir(second.directory()).unwrap().count(), 0);
    }
}
