//! Directories below `scratch_dir` that backups are restored to aside: one for each restore test,
//! gone when it ends, and at the next start when the agent was killed in it.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use seawall_common::{
    Error, Result,
    ids::{Alias, OperationId},
};

use crate::{engine::end_all_in, tablet::Tablet};

/// What their names begin with; the alias follows, for agents may share a `scratch_dir`.
const BEGINNING: &str = "seawall-test";
/// Of the operation's id: paths of sockets are short.
const ID_CHARS: usize = 8;
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Looks now and then, for ever, whether `scratch_dir` is of use. A mount that is not there keeps
/// nothing but restore tests from being done, and one that hangs holds up nobody but this.
pub async fn watch(tablet: &Tablet) {
    let Some(directory) = &tablet.settings.scratch_dir else {
        return std::future::pending().await;
    };
    loop {
        let trouble = match check(tablet, directory).await {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        tablet.live.set_scratch_trouble(&trouble);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// An error when nothing can, or may, be restored below `parent`: it is not there, or it is where a
/// backup, an installation or the agent itself would meet what lies in it.
pub async fn check(tablet: &Tablet, parent: &Path) -> Result<()> {
    let roots = tablet.engine.known_roots().await?;
    let others = roots.into_iter().map(|(_, path)| path);
    let others: Vec<PathBuf> = others.chain([tablet.settings.state_dir.clone()]).collect();
    let parent = parent.to_owned();
    blocking(move || check_place(&parent, &others)).await
}

fn check_place(parent: &Path, others: &[PathBuf]) -> Result<()> {
    if !parent.is_dir() {
        return Err(Error::refused(format!(
            "scratch_dir: {} is not a directory",
            parent.display()
        )));
    }
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match others
        .iter()
        .find(|other| real(parent).starts_with(real(other)))
    {
        None => Ok(()),
        Some(other) => Err(Error::invalid(format!(
            "scratch_dir: {} lies in {}",
            parent.display(),
            other.display()
        ))
        .hint("Give it a place of its own.")),
    }
}

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
    let (parent, beginning) = (parent.to_owned(), beginning(alias));
    for left in blocking(move || left_in(&parent, &beginning)).await? {
        tracing::warn!("removing what a restore test left in {}", left.display());
        Scratch(left).remove().await?;
    }
    Ok(())
}

fn left_in(parent: &Path, beginning: &str) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", parent, &e)),
    };
    let mut left = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", parent, &e))?;
        if entry.file_name().to_string_lossy().starts_with(beginning) {
            left.push(entry.path());
        }
    }
    Ok(left)
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
    use seawall_common::ErrorKind;

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

    #[test]
    fn a_scratch_dir_in_the_data_or_the_state_is_refused_and_one_beside_them_is_not() {
        let ground = tempfile::tempdir().unwrap();
        let path = |name: &str| ground.path().join(name);
        for name in ["data/aside", "state/aside", "data-aside"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::os::unix::fs::symlink(path("data/aside"), path("link")).unwrap();
        let others = [path("data"), path("state"), path("not-there")];
        for inside in ["data", "data/aside", "state/aside", "link"] {
            let error = check_place(&path(inside), &others).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{inside}: {error}");
        }
        let error = check_place(&path("gone"), &others).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        check_place(&path("data-aside"), &others).unwrap();
        check_place(ground.path(), &others).unwrap();
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
