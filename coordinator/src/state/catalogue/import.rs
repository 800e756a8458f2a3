//! What a scan of the repository tells the catalogue. A scan is older than the command that carries
//! it: it may only tell what can never turn back.

use seawall_common::ids::{BackupName, ShardId};
use serde::{Deserialize, Serialize};

use super::{Catalogue, Entry, Facts, Known};
use crate::state::State;

/// One backup as a scan of the repository found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub name: BackupName,
    pub alias: String,
    /// Never `Running`.
    pub known: Known,
    pub facts: Facts,
    pub note: String,
}

/// Says the note of a backup that was complete and was not found any more.
const LOST: &str = "its manifest is no longer in the repository";
/// Says the note of a backup that exists here and whose mark nobody here has put.
const MARKED_ELSEWHERE: &str = "marked as removed by nobody here: RemoveBackup removes it for good";

/// The mark of a removal that is under way: what it means is for its operation to say.
pub(super) fn is_own_mark(state: &State, shard: &ShardId, found: &Found) -> bool {
    found.known == Known::Removed && state.operations.removals(shard).contains(&found.name)
}

/// Whether an import would change anything: what the leader asks before it writes to the log.
pub fn is_news(state: &State, shard: &ShardId, found: &Found) -> bool {
    !is_own_mark(state, shard, found) && state.catalogue.is_news(shard, found)
}

impl Catalogue {
    pub(super) fn is_news(&self, shard: &ShardId, found: &Found) -> bool {
        let mut after = Catalogue::default();
        if let Ok(entry) = self.entry(shard, &found.name) {
            after
                .shards
                .entry(shard.clone())
                .or_default()
                .insert(found.name.clone(), entry.clone());
        }
        after.import(shard, found);
        after.entry(shard, &found.name).ok() != self.entry(shard, &found.name).ok()
    }

    pub(super) fn import(&mut self, shard: &ShardId, found: &Found) {
        let Ok(entry) = self.entry_mut(shard, &found.name) else {
            // Marks stay in the repository for ever; those of forgotten backups tell nothing.
            if found.known != Known::Removed {
                let entries = self.shards.entry(shard.clone()).or_default();
                entries.insert(found.name.clone(), Entry::from_scan(shard, found));
            }
            return;
        };
        match (entry.known, found.known) {
            // Its operation knows better; and what is removed stays removed.
            (Known::Running | Known::Removed, _) => {}
            // A mark deletes nothing by itself: an operator decides.
            (Known::Complete | Known::Broken, Known::Removed) => entry.doubt(MARKED_ELSEWHERE),
            (_, Known::Removed) | (Known::Complete | Known::Incomplete, Known::Broken) => {
                entry.known = found.known;
                entry.mark = None;
                entry.note.clone_from(&found.note);
            }
            (Known::Complete, Known::Complete)
                if entry.facts.manifest_hash != found.facts.manifest_hash =>
            {
                entry.known = Known::Broken;
                "its manifest is not the one that was announced".clone_into(&mut entry.note);
            }
            (Known::Incomplete, Known::Complete) => *entry = Entry::from_scan(shard, found),
            // Its store was away for a while, or the mark is: it is the very one.
            (Known::Broken, Known::Complete)
                if [LOST, MARKED_ELSEWHERE].contains(&entry.note.as_str())
                    && !entry.facts.manifest_hash.is_empty()
                    && entry.facts.manifest_hash == found.facts.manifest_hash =>
            {
                entry.known = Known::Complete;
                entry.note.clear();
            }
            _ => {}
        }
    }

    pub(super) fn lose(&mut self, shard: &ShardId, name: &BackupName) {
        if let Ok(entry) = self.entry_mut(shard, name)
            && entry.known == Known::Complete
        {
            entry.known = Known::Broken;
            LOST.clone_into(&mut entry.note);
        }
    }
}

impl Entry {
    fn from_scan(shard: &ShardId, found: &Found) -> Self {
        let mut entry = Self {
            name: found.name.clone(),
            shard: shard.clone(),
            alias: found.alias.clone(),
            known: found.known,
            facts: found.facts.clone(),
            operation: None,
            note: found.note.clone(),
            mark: None,
            verified: None,
            tested: None,
            pinned: None,
            removed_here: false,
        };
        entry.mark_damaged_pages();
        entry
    }

    /// It shows what it must not. A mark of somebody who knows more of it stays.
    fn doubt(&mut self, why: &str) {
        if self.known == Known::Complete || self.mark.is_none() {
            self.known = Known::Broken;
            why.clone_into(&mut self.note);
        }
    }
}
