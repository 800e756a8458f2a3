//! The tablets that serve, as the leader knows them: one set, from which all who watch it are told
//! of changes.
//!
//! A tablet is in it while its agent is heard and says that it serves. What of it is in the log (its
//! type, the epoch of its shard, where it is reached) and what was heard are brought together here,
//! once for all watchers; a tablet whose agent falls silent goes by a timer.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use seawall_common::ids::{Alias, ShardId};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep, sleep_until},
};

use super::heartbeats::{Hearing, Heartbeats};
use crate::{
    operation::Coordination,
    state::{
        State,
        topology::{DatabaseAddress, Tablet, TabletType},
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
    tablets: BTreeMap<Alias, Arc<Served>>,
    /// Shards with agents that may be there and that this leader has not heard yet; none: it has not
    /// looked yet.
    unheard: Option<BTreeSet<ShardId>>,
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
    pub fn page(
        &self,
        after: Option<&Alias>,
        size: usize,
        wants: impl Fn(&ShardId) -> bool,
    ) -> Page {
        let inner = self.inner();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = inner.tablets.range((from, Bound::Unbounded));
        let wanted = behind.by_ref().filter(|(_, served)| wants(&served.shard));
        let tablets: Vec<_> = wanted
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
    pub fn is_heard(&self, wants: impl Fn(&ShardId) -> bool) -> bool {
        let inner = self.inner();
        let unheard = inner.unheard.as_ref();
        unheard.is_some_and(|unheard| !unheard.iter().any(wants))
    }

    /// How many tablets serve.
    pub fn count(&self) -> usize {
        self.inner().tablets.len()
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

    /// Brings the set up to what is known now and tells what has changed; when one of its agents
    /// falls silent next, or this leader is no longer young.
    fn refresh(&self, state: &State, heartbeats: &Heartbeats) -> Option<Instant> {
        let mut inner = self.inner();
        let Looked {
            mut change,
            unheard,
            next,
        } = heartbeats.look(|heard| inner.look(state, heard));
        let is_heard_of = inner.unheard.as_ref() != Some(&unheard);
        inner.unheard = Some(unheard);
        let has_news = !change.changed.is_empty() || !change.gone.is_empty();
        match has_news {
            true => inner.revision = change.revision,
            false => change.revision = inner.revision,
        }
        if has_news || is_heard_of {
            self.tell(Told::Change(change));
        }
        next
    }
}

struct Looked {
    change: Change,
    unheard: BTreeSet<ShardId>,
    next: Option<Instant>,
}

impl Inner {
    /// Makes the set what it is now; how it was otherwise.
    fn look(&mut self, state: &State, heard: &Hearing<'_>) -> Looked {
        let mut change = Change {
            revision: self.revision + 1,
            ..Change::default()
        };
        let mut unheard = BTreeSet::new();
        let mut next = heard.young_until();
        let mut serving = 0;
        for tablet in state.topology.tablets() {
            if let Some(until) = heard.serves_until(&tablet.alias) {
                serving += 1;
                next = Some(next.map_or(until, |next| next.min(until)));
                if let Some(served) = self.take(state, tablet) {
                    change.changed.push((tablet.alias.clone(), served));
                }
            } else if tablet.is_registered() && heard.is_awaited(&tablet.alias) {
                unheard.insert(tablet.shard.clone());
            }
        }
        // Seldom: most looks find nobody gone.
        if self.tablets.len() > serving {
            self.tablets.retain(|alias, known| {
                let is_known = state.topology.tablet(alias).is_ok();
                let serves = is_known && heard.serves_until(alias).is_some();
                if !serves {
                    change.gone.push((alias.clone(), known.shard.clone()));
                }
                serves
            });
        }
        Looked {
            change,
            unheard,
            next,
        }
    }

    /// What is to be told of a tablet that serves; none: it is known as it is.
    fn take(&mut self, state: &State, tablet: &Tablet) -> Option<Arc<Served>> {
        let newest = state.topology.newest_epoch(&tablet.shard);
        let epoch = newest.map_or(0, |epoch| epoch.number);
        let known = self.tablets.get(&tablet.alias);
        if known.is_some_and(|known| known.is(tablet, epoch)) {
            return None;
        }
        let served = Arc::new(Served {
            shard: tablet.shard.clone(),
            tablet_type: tablet.tablet_type,
            epoch,
            database: tablet.database.clone(),
            engine: tablet.engine.clone(),
        });
        self.tablets.insert(tablet.alias.clone(), served.clone());
        Some(served)
    }
}

impl Served {
    fn is(&self, tablet: &Tablet, epoch: u64) -> bool {
        self.epoch == epoch
            && self.tablet_type == tablet.tablet_type
            && self.shard == tablet.shard
            && self.database == tablet.database
            && self.engine == tablet.engine
    }
}

/// Keeps the set while this member leads; the caller ends it with the office.
pub async fn run(context: &Coordination) {
    tokio::join!(follow(context), assure(context));
}

fn refresh(context: &Coordination) -> Option<Instant> {
    let (serving, heartbeats) = (&context.serving, &context.heartbeats);
    context
        .group
        .look(|state| serving.refresh(state, heartbeats))
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
