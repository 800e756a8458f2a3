//! The set of the tablets that serve, and how it is kept up to date.
//!
//! A group may have ten thousand tablets, all of them heard every second, and it decides something all
//! the time: so a look goes through the tablets of which something may have changed, and no others.
//! Those are the ones that the topology and the heartbeats name, and the ones of which nothing more
//! may have been heard in time: each tablet that serves has one alarm, no later than the moment from
//! which on it would not serve any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use seawall_common::ids::{Alias, ShardId};
use tokio::time::Instant;

use super::{Change, Served};
use crate::{
    agents::heartbeats::{Hearing, Heartbeats},
    state::{State, topology::Tablet},
};

#[derive(Default)]
pub(super) struct Set {
    pub tablets: BTreeMap<Alias, Known>,
    /// How many agents of a shard may be there and have not told this leader how their tablets are.
    pub unheard: BTreeMap<ShardId, usize>,
    /// Those agents, each with its shard.
    awaited: BTreeMap<Alias, ShardId>,
    alarms: BTreeSet<(Instant, Alias)>,
    /// Changes of the topology that have been seen; none: nothing has been looked at yet.
    seen: Option<u64>,
}

pub(super) struct Known {
    pub served: Arc<Served>,
    alarm_at: Instant,
}

/// What came of a look.
#[derive(Default)]
pub(super) struct Looked {
    pub change: Change,
    /// Whether other shards than before are waited for.
    pub waits_for_others: bool,
    /// When the next look is due, if nothing changes.
    pub next: Option<Instant>,
    /// So many tablets were looked at.
    pub tablets: usize,
}

impl Set {
    pub fn is_new(&self) -> bool {
        self.seen.is_none()
    }

    /// Makes the set what it is now.
    pub fn look(&mut self, state: &State, heartbeats: &Heartbeats) -> Looked {
        heartbeats.look_at_changes(|heard, changed| {
            let mut looked = Looked {
                waits_for_others: self.is_new(),
                ..Looked::default()
            };
            for alias in self.in_question(state, heard, changed) {
                self.look_at(&alias, state, heard, &mut looked);
            }
            let alarm = self.alarms.first().map(|(at, _)| *at);
            looked.next = alarm.into_iter().chain(heard.young_until()).min();
            looked
        })
    }

    fn in_question(
        &mut self,
        state: &State,
        heard: &Hearing<'_>,
        mut changed: BTreeSet<Alias>,
    ) -> BTreeSet<Alias> {
        let seen = self.seen.replace(state.topology.changes());
        let since = seen.and_then(|seen| state.topology.changed_since(seen));
        match since {
            Some(aliases) => changed.extend(aliases.cloned()),
            None => {
                let all = state.topology.tablets().map(|tablet| &tablet.alias);
                changed.extend(all.chain(self.tablets.keys()).cloned());
                changed.extend(self.awaited.keys().cloned());
            }
        }
        let now = Instant::now();
        let due = self.alarms.iter().take_while(|(at, _)| *at < now);
        changed.extend(due.map(|(_, alias)| alias.clone()));
        if heard.young_until().is_none() {
            changed.extend(self.awaited.keys().cloned());
        }
        changed
    }

    fn look_at(&mut self, alias: &Alias, state: &State, heard: &Hearing<'_>, looked: &mut Looked) {
        looked.tablets += 1;
        let tablet = state.topology.tablet(alias).ok();
        let awaited = tablet.filter(|t| t.is_registered() && heard.is_awaited(alias));
        looked.waits_for_others |= self.wait_for(alias, awaited.map(|tablet| &tablet.shard));
        let before = self.take_out(alias);
        let now = tablet.and_then(|tablet| {
            let until = heard.serves_until(alias)?;
            Some((served(state, tablet), until))
        });
        // In another shard it is another tablet to whoever asks for one of them.
        let stays_in = now.as_ref().map(|(served, _)| &served.shard);
        if let Some(before) = before.as_ref().filter(|b| Some(&b.shard) != stays_in) {
            let gone = (alias.clone(), before.shard.clone());
            looked.change.gone.push(gone);
        }
        if let Some((served, until)) = now {
            let served = match before {
                Some(before) if *before == served => before,
                _ => {
                    let served = Arc::new(served);
                    looked.change.changed.push((alias.clone(), served.clone()));
                    served
                }
            };
            self.put_in(alias, served, until);
        }
    }

    fn put_in(&mut self, alias: &Alias, served: Arc<Served>, alarm_at: Instant) {
        self.alarms.insert((alarm_at, alias.clone()));
        let known = Known { served, alarm_at };
        self.tablets.insert(alias.clone(), known);
    }

    fn take_out(&mut self, alias: &Alias) -> Option<Arc<Served>> {
        let Known { served, alarm_at } = self.tablets.remove(alias)?;
        self.alarms.remove(&(alarm_at, alias.clone()));
        Some(served)
    }

    /// Waits for an agent, of this shard, or no longer; whether the shards that are waited for are
    /// others with that.
    fn wait_for(&mut self, alias: &Alias, shard: Option<&ShardId>) -> bool {
        if self.awaited.get(alias) == shard {
            return false;
        }
        let mut is_other = false;
        if let Some(before) = self.awaited.remove(alias)
            && let Some(count) = self.unheard.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.unheard.remove(&before);
                is_other = true;
            }
        }
        if let Some(shard) = shard {
            self.awaited.insert(alias.clone(), shard.clone());
            let count = self.unheard.entry(shard.clone()).or_default();
            *count += 1;
            is_other |= *count == 1;
        }
        is_other
    }
}

fn served(state: &State, tablet: &Tablet) -> Served {
    let newest = state.topology.newest_epoch(&tablet.shard);
    Served {
        shard: tablet.shard.clone(),
        tablet_type: tablet.tablet_type,
        epoch: newest.map_or(0, |epoch| epoch.number),
        database: tablet.database.clone(),
        engine: tablet.engine.clone(),
    }
}
