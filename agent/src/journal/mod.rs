//! What the agent must not forget: the highest term it has seen, and how far each operation has come.
//!
//! One file in the state directory. Every change is on the disk (temporary file, fsync, rename,
//! fsync of the directory) before [`Journal::update`] returns and before anybody sees it in memory;
//! so a step that the journal calls begun may have run, and one that it does not call begun has not.
//! A journal that is torn, altered or missing is an error and never taken for an empty one.

mod file;
mod record;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use seawall_common::{Error, Result};
use tokio::sync::Mutex;

pub use file::replace as replace_file;
pub use record::{
    BackupRecord, Contents, Ended, Facts, Goal, KnownShard, Operation, OperationKind,
    OperationState, Outcome, PendingMark, RestoreFacts, RootMove, Step, TransferLimit,
    Verification,
};

/// A handle to the journal; clones are the same journal.
#[derive(Clone, Debug)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    contents: RwLock<Arc<Contents>>,
    writing: Mutex<()>,
}

impl Journal {
    /// Makes the journal of a state directory that has never had one.
    pub fn create(directory: &Path) -> Result<Self> {
        let path = file::path_in(directory);
        let contents = Contents::default();
        file::write(&path, &contents)?;
        Ok(Self::new(path, contents))
    }

    /// Reads the journal of a state directory that has one.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = file::path_in(directory);
        let contents = file::read(&path)?;
        Ok(Self::new(path, contents))
    }

    pub fn is_in(directory: &Path) -> bool {
        file::path_in(directory).exists()
    }

    fn new(path: PathBuf, contents: Contents) -> Self {
        Self {
            inner: Arc::new(Inner {
                path,
                contents: RwLock::new(Arc::new(contents)),
                writing: Mutex::new(()),
            }),
        }
    }

    /// What the journal says now. A snapshot: later changes do not show in it.
    pub fn read(&self) -> Arc<Contents> {
        self.inner
            .contents
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes the journal and returns once the change is on the disk. An error changed nothing.
    ///
    /// The change is carried through in a task of its own: a caller that is dropped in the middle
    /// cannot leave the disk ahead of the memory.
    pub async fn update<T, F>(&self, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Contents) -> Result<T> + Send + 'static,
    {
        let inner = self.inner.clone();
        let written = tokio::spawn(async move {
            let _writing = inner.writing.lock().await;
            let before = inner
                .contents
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let mut after = (*before).clone();
            let answer = change(&mut after)?;
            if after == *before {
                return Ok(answer);
            }
            after.forget_old();
            let after = Arc::new(after);
            let (path, to_write) = (inner.path.clone(), after.clone());
            tokio::task::spawn_blocking(move || file::write(&path, &to_write))
                .await
                .map_err(|e| Error::internal(format!("writing the journal ended early: {e}")))??;
            *inner
                .contents
                .write()
                .unwrap_or_else(PoisonError::into_inner) = after;
            Ok(answer)
        });
        written
            .await
            .map_err(|e| Error::internal(format!("writing the journal ended early: {e}")))?
    }
}

#[cfg(test)]
mod tests;
