//! The tablets: by their alias, by their shard, and which have changed of late.
//!
//! What always holds: a tablet changes through here alone, and whoever gives a shard another epoch says
//! so here. So whoever keeps something that is made of them (who of them serves) looks at those that have changed, not at
//! all. Which those are is this replica's own memory, from when it had the state: it is in no snapshot,
//! and no command goes by it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
};

use seawall_common::ids::{Alias, ShardId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Tablet;

/// Changes that are remembered; whoever has not looked for longer looks at all tablets.
const CHANGES_KEPT: usize = 1_000;

#[derive(Clone, Debug, Default)]
pub(in crate::state) struct Tablets {
    all: BTreeMap<Alias, Tablet>,
    of_shards: BTreeMap<ShardId, BTreeSet<Alias>>,
    changes: Changes,
}

#[derive(Clone, Debug, Default)]
struct Changes {
    /// So many there were.
    count: u64,
    last: VecDeque<Alias>,
}

impl Changes {
    fn note(&mut self, alias: &Alias) {
        self.count += 1;
        self.last.push_back(alias.clone());
        if self.last.len() > CHANGES_KEPT {
            self.last.pop_front();
        }
    }

    fn since(&self, count: u64) -> Option<impl Iterator<Item = &Alias>> {
        let new = usize::try_from(self.count.checked_sub(count)?).ok()?;
        let known = self.last.len().checked_sub(new)?;
        Some(self.last.range(known..))
    }
}

impl Tablets {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn get(&self, alias: &Alias) -> Option<&Tablet> {
        self.all.get(alias)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Tablet> {
        self.all.values()
    }

    /// Those behind an alias, in order; none: all.
    pub fn behind(&self, alias: Option<&Alias>) -> impl Iterator<Item = &Tablet> {
        let from = alias.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.all.range((from, Bound::Unbounded));
        behind.map(|(_, tablet)| tablet)
    }

    pub fn of(&self, shard: &ShardId) -> impl Iterator<Item = &Tablet> {
        let aliases = self.of_shards.get(shard).into_iter().flatten();
        aliases.filter_map(|alias| self.all.get(alias))
    }

    /// Every shard that has a tablet, in order.
    pub fn shards(&self) -> impl Iterator<Item = &ShardId> {
        self.of_shards.keys()
    }

    /// How often something has changed.
    pub fn changes(&self) -> u64 {
        self.changes.count
    }

    /// Which tablets have changed, come or gone, or have another epoch, since there were `changes` of
    /// them; none: that is too long ago.
    pub fn changed_since(&self, changes: u64) -> Option<impl Iterator<Item = &Alias>> {
        self.changes.since(changes)
    }

    pub fn insert(&mut self, tablet: Tablet) {
        self.changes.note(&tablet.alias);
        file(&mut self.of_shards, &tablet);
        self.all.insert(tablet.alias.clone(), tablet);
    }

    pub fn remove(&mut self, alias: &Alias) {
        let Some(tablet) = self.all.remove(alias) else {
            return;
        };
        self.changes.note(alias);
        if let Some(aliases) = self.of_shards.get_mut(&tablet.shard) {
            aliases.remove(alias);
            if aliases.is_empty() {
                self.of_shards.remove(&tablet.shard);
            }
        }
    }

    /// To change it, but for its alias and its shard.
    pub fn change(&mut self, alias: &Alias) -> Option<&mut Tablet> {
        let tablet = self.all.get_mut(alias)?;
        self.changes.note(alias);
        Some(tablet)
    }

    /// Changes all tablets of a shard, whose epoch is another one.
    pub fn change_all_of(&mut self, shard: &ShardId, change: impl Fn(&mut Tablet)) {
        for alias in self.of_shards.get(shard).into_iter().flatten() {
            if let Some(tablet) = self.all.get_mut(alias) {
                self.changes.note(alias);
                change(tablet);
            }
        }
    }
}

fn file(of_shards: &mut BTreeMap<ShardId, BTreeSet<Alias>>, tablet: &Tablet) {
    let aliases = of_shards.entry(tablet.shard.clone()).or_default();
    aliases.insert(tablet.alias.clone());
}

impl PartialEq for Tablets {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Serialize for Tablets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tablets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut tablets = Self {
            all: BTreeMap::deserialize(deserializer)?,
            ..Self::default()
        };
        for tablet in tablets.all.values() {
            file(&mut tablets.of_shards, tablet);
        }
        Ok(tablets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::{Cluster, alias, shard};

    fn tablets() -> Tablets {
        Cluster::new().state.topology.tablets
    }

    fn changed(tablets: &Tablets, since: u64) -> Option<Vec<String>> {
        let changed = tablets.changed_since(since)?;
        Some(changed.map(ToString::to_string).collect())
    }

    #[test]
    fn whoever_has_seen_so_many_changes_is_told_of_the_tablets_that_changed_after_them() {
        let mut tablets = tablets();
        let seen = tablets.changes();
        assert_eq!(changed(&tablets, seen), Some(vec![]));
        tablets.change(&alias("zone1-101"));
        assert!(tablets.change(&alias("zone1-199")).is_none());
        let later = tablets.changes();
        tablets.remove(&alias("zone1-102"));
        tablets.remove(&alias("zone1-199"));
        let expected = vec!["zone1-101".to_owned(), "zone1-102".to_owned()];
        assert_eq!(changed(&tablets, seen), Some(expected.clone()));
        assert_eq!(changed(&tablets, later), Some(expected[1..].to_vec()));

        for _ in 0..CHANGES_KEPT {
            tablets.change(&alias("zone1-100"));
        }
        assert_eq!(changed(&tablets, later), None, "more than are remembered");
        let last = changed(&tablets, tablets.changes() - 1).unwrap();
        assert_eq!(last, ["zone1-100"]);
        // Another state has taken the place of the one that was seen.
        assert_eq!(changed(&Tablets::default(), later), None);
    }

    #[test]
    fn the_tablets_of_a_shard_are_found_also_when_they_come_from_a_snapshot() {
        let mut tablets = tablets();
        let mut other = tablets.get(&alias("zone1-100")).unwrap().clone();
        other.alias = alias("zone1-200");
        other.shard = "commerce/1".parse().unwrap();
        tablets.insert(other.clone());
        tablets.remove(&alias("zone1-101"));
        let bytes = serde_json::to_vec(&tablets).unwrap();
        let read: Tablets = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read, tablets);
        assert_eq!(
            read.changes(),
            0,
            "what one replica remembers is no other's"
        );
        for mut tablets in [tablets, read] {
            let of = |tablets: &Tablets, shard: &ShardId| {
                let tablets = tablets.of(shard);
                tablets.map(|t| t.alias.to_string()).collect::<Vec<_>>()
            };
            assert_eq!(of(&tablets, &shard()), ["zone1-100", "zone1-102"]);
            assert_eq!(of(&tablets, &other.shard), ["zone1-200"]);
            tablets.remove(&other.alias);
            assert!(tablets.shards().eq([&shard()]));
        }
    }
}
