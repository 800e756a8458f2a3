//! A store that fails on command, for tests. The points are `repository.` and one of `put`, `get`,
//! `list`, `look`, `delete`, `sync` (of what a put finds there already). The actions:
//! `fail-once` and `fail-twice` (each key's first tries), `fail` (always), `hang` (no answer),
//! `slow` (each request takes 100 ms longer), `jitter` (up to 100 ms longer); of `put` also
//! `lose-answer-once` (done, but the first answer for each key is an error) and `lose-object` (not
//! done, and said to be); of `get` also `exchange` (the bytes of another object of the same
//! folder); of `delete` also `die-<n>` (half of them are done, the others fail for good); of `list`
//! also `half` and `none` (so much of each listing is answered).

use std::{
    collections::{BTreeMap, HashMap},
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
    /// How often each key has come by each point.
    seen: Mutex<HashMap<(String, String), u32>>,
    /// As many requests are still answered; then the process is as good as killed.
    left: Mutex<Option<u32>>,
}

impl Faults {
    #[cfg(test)]
    pub fn arm(&self, point: &str, action: &str) {
        self.own
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(point.to_owned(), action.to_owned());
    }

    #[cfg(test)]
    pub fn die_after(&self, requests: u32) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(requests);
    }

    fn is_dead(&self) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.as_mut() {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn action(&self, point: &str) -> Option<String> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.get(point)
            .cloned()
            .or_else(|| crate::fault::standing_action(point))
    }

    fn is_among_first(&self, count: u32, point: &str, key: &Path) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry((point.to_owned(), key.to_string())).or_default();
        *seen += 1;
        *seen <= count
    }

    pub async fn before(&self, point: &str, key: &Path) -> Result<()> {
        if self.is_dead() {
            return Err(Error::internal("the process was killed"));
        }
        match self.action(point).as_deref() {
            Some("fail") => Err(injected(point, key)),
            Some("fail-once") if self.is_among_first(1, point, key) => Err(injected(point, key)),
            Some("fail-twice") if self.is_among_first(2, point, key) => Err(injected(point, key)),
            Some("hang") => std::future::pending().await,
            Some("slow") => {
                tokio::time::sleep(SLOW).await;
                Ok(())
            }
            Some("jitter") => {
                tokio::time::sleep(SLOW.mul_f64(rand::random())).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Answers only a part of a listing.
    pub fn cut_listing<T>(&self, listed: &mut Vec<T>) {
        match self.action("repository.list").as_deref() {
            Some("half") => listed.truncate(listed.len() / 2),
            Some("none") => listed.clear(),
            _ => {}
        }
    }

    /// Which deletes are done before the process dies. Its error is for good: no try follows.
    pub fn die_deleting(&self, mut keys: Vec<Path>) -> (Vec<Path>, Option<Error>) {
        let action = self.action("repository.delete").unwrap_or_default();
        if !action.starts_with("die-") {
            return (keys, None);
        }
        let all = keys.len();
        keys.retain(|key| is_lucky(&action, key));
        let died = Error::internal("died in the middle of deleting");
        let died = (keys.len() < all).then_some(died);
        (keys, died)
    }

    pub fn after(&self, point: &str, key: &Path) -> Result<()> {
        match self.action(point).as_deref() {
            Some("lose-answer-once") if self.is_among_first(1, point, key) => {
                Err(injected(point, key))
            }
            _ => Ok(()),
        }
    }

    /// Whether the store does something else than it is asked for, and says nothing.
    pub fn lies(&self, point: &str, lie: &str) -> bool {
        self.action(point).as_deref() == Some(lie)
    }
}

/// Half of all keys are, for each action others.
fn is_lucky(action: &str, key: &Path) -> bool {
    let both = format!("{action} {key}");
    blake3::hash(both.as_bytes()).as_bytes()[0].is_multiple_of(2)
}

fn injected(point: &str, key: &Path) -> Error {
    Error::unavailable(format!("injected fault at {point} of object {key}"))
}
