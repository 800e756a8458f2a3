//! A medium whose syncs a test holds back.

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use seawall_common::Result;

use super::medium::{Change, Medium, Order, Tree};

/// Directories whose syncs are held back.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static LET_GO: Condvar = Condvar::new();

/// While it lives, nothing in `directory` is synced.
pub struct Hold(PathBuf);

pub fn hold(directory: &Path) -> Hold {
    held().insert(directory.to_owned());
    Hold(directory.to_owned())
}

impl Drop for Hold {
    fn drop(&mut self) {
        held().remove(&self.0);
        LET_GO.notify_all();
    }
}

fn held() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct HeldMedium<M> {
    directory: PathBuf,
    medium: M,
}

impl<M> HeldMedium<M> {
    pub fn new(directory: &Path, medium: M) -> Self {
        let directory = directory.to_owned();
        Self { directory, medium }
    }
}

impl<M: Medium> Medium for HeldMedium<M> {
    fn apply(&self, tree: Tree, batch: Vec<Change>) -> Result<()> {
        self.medium.apply(tree, batch)
    }

    fn sync(&self) -> Result<()> {
        let wait = LET_GO.wait_while(held(), |held| held.contains(&self.directory));
        drop(wait.unwrap_or_else(PoisonError::into_inner));
        self.medium.sync()
    }

    fn get(&self, tree: Tree, key: u64) -> Result<Option<Vec<u8>>> {
        self.medium.get(tree, key)
    }

    fn keys(&self, range: RangeInclusive<u64>, order: Order, max: usize) -> Result<Vec<u64>> {
        self.medium.keys(range, order, max)
    }

    fn scan(
        &self,
        range: RangeInclusive<u64>,
        show: &mut dyn FnMut(u64, &[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.medium.scan(range, show)
    }
}
