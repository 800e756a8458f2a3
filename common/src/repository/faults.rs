//! A store that fails on command, for tests. The actions of `repository.put`, `repository.get`
//! and `repository.sync` (of what a put finds there already; not `lose-answer-once`):
//! `fail-once` (each key's first try), `fail` (always), `lose-answer-once` (done, but the first
//! answer for each key is an error), `slow` (each request takes 100 ms longer).

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use object_store::path::Path;

use crate::error::{Error, Result};

const SLOW: Duration = Duration::from_millis(100);

/// What one store does wrong: as armed for the whole process, or for this store alone.
#[derive(Debug, Default)]
pub(super) struct Faults {
    own: Mutex<BTreeMap<String, String>>,
    seen: Mutex<HashSet<(String, String)>>,
}

impl Faults {
    #[cfg(test)]
    pub fn arm(&self, point: &str, action: &str) {
        self.own
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(point.to_owned(), action.to_owned());
    }

    fn action(&self, point: &str) -> Option<String> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.get(point)
            .cloned()
            .or_else(|| crate::fault::standing_action(point))
    }

    fn is_first(&self, point: &str, key: &Path) -> bool {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((point.to_owned(), key.to_string()))
    }

    pub async fn before(&self, point: &str, key: &Path) -> Result<()> {
        match self.action(point).as_deref() {
            Some("fail") => Err(injected(point, key)),
            Some("fail-once") if self.is_first(point, key) => Err(injected(point, key)),
            Some("slow") => {
                tokio::time::sleep(SLOW).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub fn after(&self, point: &str, key: &Path) -> Result<()> {
        match self.action(point).as_deref() {
            Some("lose-answer-once") if self.is_first(point, key) => Err(injected(point, key)),
            _ => Ok(()),
        }
    }
}

fn injected(point: &str, key: &Path) -> Error {
    Error::unavailable(format!("injected fault at {point} of object {key}"))
}
