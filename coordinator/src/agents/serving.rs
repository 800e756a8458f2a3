//! The tablets that serve, as the leader knows them: one set, from which all who watch it are told
//! of changes.
//!
//! A tablet is in it while its agent is heard and says that it serves. What of it is in the log (its
//! type, the epoch of its shard, where it is reached) and what was heard are brought together here,
//! once for all watchers; a tablet whose agent falls silent goes by a timer.

mod set;

use std::{
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use seawall_common::ids::{Alias, ShardId};
use set::{Looked, Set};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep, sleep_until},
};

use super::{filter::Filter, heartbeats::Heartbeats};
use crate::{
    operation::Coordination,
    state::{
        State,
        topology::{DatabaseAddress, TabletType},
    },
};

/// Changes that a watcher may be behind; beyond it, it is told the whole set anew.
const BEHIND_MAX: usize = 256;
/// Changes that come within this time are told together.
const GATHER: Duration = Duration::from_millis(100);
/// Between two pages, whoever they are for: many who begin at once, as after a change of leader, must
/// not keep this member from all else.
const PAGE_EVERY: Duration = Duration::from_micros(500);
/// How often it is proved that what has been told is so.
pub const ASSURE_EVERY: Duration = Duration::from_secs(5);

/// A tablet that serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    pub shard: ShardId,
    pub tablet_type: TabletType,
    /// The shard's newest epoch; 0: it has had no primary yet.
    pub epoch: u64,
    pub database: Option<DatabaseAddress>,
    pub engine: String,
}

/// What all watchers are told.
#[derive(Debug)]
pub enum Told {
    Change(Change),
    /// All that was to be told has been, by a proof that began a moment ago.
    Assurance,
    /// It could not be proved that this member leads, or it leads anew.
    Over,
}

#[derive(Debug, Default)]
pub struct Change {
    pub revision: u64,
    pub changed: Vec<(Alias, Arc<Served>)>,
    pub gone: Vec<(Alias, ShardId)>,
}

pub struct Serving {
    inner: Mutex<Inner>,
    told: broadcast::Sender<Arc<Told>>,
    /// When the next page may be read.
    next_page: Mutex<Instant>,
}

#[derive(Default)]
struct Inner {
    revision: u64,
    set: Set,
}

/// A part of the set, and how far it reaches.
pub struct Page {
    pub tablets: Vec<(Alias, Arc<Served>)>,
    /// The last alias that was looked at; none: it is the last page.
    pub until: Option<Alias>,
    pub revision: u64,
}

/// All changes after a revision.
pub struct Subscription {
    pub told: broadcast::Receiver<Arc<Told>>,
    pub revision: u64,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            told: broadcast::Sender::new(BEHIND_MAX),
            next_page: Mutex::new(Instant::now()),
        }
    }
}

impl Serving {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn subscribe(&self) -> Subscription {
        let inner = self.inner();
        Subscription {
            told: self.told.subscribe(),
            revision: inner.revision,
        }
    }

    /// Waits for one's turn to read a page.
    pub async fn turn(&self) {
        let at = {
            let next = self.next_page.lock();
            let mut next = next.unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            *next = at + PAGE_EVERY;
            at
        };
        sleep_until(at).await;
    }

    /// At most so many tablets behind `after`, of the shards that are wanted.
    pub fn page(&self, after: Option<&Alias>, size: usize, filter: &Filter) -> Page {
        let inner = self.inner();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = inner.set.tablets.range((from, Bound::Unbounded));
        let wanted = behind.by_ref().map(|(alias, known)| (alias, &known.served));
        let tablets: Vec<_> = wanted
            .filter(|(_, served)| filter.takes(&served.shard))
            .take(size)
            .map(|(alias, served)| (alias.clone(), served.clone()))
            .collect();
        let is_last = behind.next().is_none();
        Page {
            until: match is_last {
                true => None,
                false => tablets.last().map(|(alias, _)| alias.clone()),
            },
            tablets,
            revision: inner.revision,
        }
    }

    /// Whether all agents of these shards that are there have been heard by this leader, or have had
    /// their time.
    pub fn is_heard(&self, filter: &Filter) -> bool {
        let set = &self.inner().set;
        !set.is_new() && !filter.takes_any_of(&set.unheard)
    }

    /// How many tablets serve.
    pub fn count(&self) -> usize {
        self.inner().set.tablets.len()
    }

    fn tell(&self, told: Told) {
        // Nobody may be there to hear it.
        let _ = self.told.send(Arc::new(told));
    }

    /// Forgets what was known in an earlier office; whoever watches must ask again.
    pub fn forget(&self) {
        *self.inner() = Inner::default();
        self.tell(Told::Over);
    }

    /// Brings the set up to what is known now and tells what has changed.
    fn refresh(&self, state: &State, heartbeats: &Heartbeats) -> Refreshed {
        let mut inner = self.inner();
        let Looked {
            mut change,
            waits_for_others,
            next,
            tablets,
        } = inner.set.look(state, heartbeats);
        let has_news = !change.changed.is_empty() || !change.gone.is_empty();
        inner.revision += u64::from(has_news);
        change.revision = inner.revision;
        if has_news || waits_for_others {
            self.tell(Told::Change(change));
        }
        Refreshed { next, tablets }
    }
}

/// What bringing the set up to date came to.
struct Refreshed {
    /// When one of its agents falls silent next, or this leader is no longer young.
    next: Option<Instant>,
    /// How many tablets were looked at for it.
    tablets: usize,
}

/// Keeps the set while this member leads; the caller ends it with the office.
pub async fn run(context: &Coordination) {
    tokio::join!(follow(context), assure(context));
}

fn refresh(context: &Coordination) -> Option<Instant> {
    let (serving, heartbeats) = (&context.serving, &context.heartbeats);
    let look = |state: &State| serving.refresh(state, heartbeats);
    let Refreshed { next, tablets } = context.group.look(look);
    tracing::trace!(tablets, "looked who serves");
    next
}

async fn follow(context: &Coordination) {
    let mut applied = context.group.applied();
    let mut heard = context.heartbeats.changes();
    loop {
        applied.mark_unchanged();
        heard.mark_unchanged();
        let next = refresh(context);
        sleep(GATHER).await;
        let silence = async {
            match next {
                // When it is reached the agent still counts as there.
                Some(at) => sleep_until(at + Duration::from_millis(1)).await,
                None => std::future::pending().await,
            }
        };
        let changed = tokio::select! {
            changed = applied.changed() => changed,
            changed = heard.changed() => changed,
            () = silence => Ok(()),
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whoever watches a member that is cut off from the others is told so.
async fn assure(context: &Coordination) {
    loop {
        sleep(ASSURE_EVERY).await;
        match context.group.prove_leadership().await {
            Ok(_) => {
                refresh(context);
                context.serving.tell(Told::Assurance);
            }
            Err(e) => {
                tracing::warn!("who watches the tablets that serve must ask again: {e}");
                context.serving.tell(Told::Over);
            }
        }
    }
}

#[cfg(test)]
mod tests;
