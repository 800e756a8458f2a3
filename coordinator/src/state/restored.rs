//! The state of a group that is made anew from a backup of an older one.
//!
//! What always holds: whatever the older group may have decided after the backup was taken, the new
//! one decides nothing that contradicts it. So its timestamps, epochs and tokens begin above all that
//! can have been given; what was under way is lost, and says so; nothing is deleted by itself before
//! an operator has looked.

use std::collections::BTreeMap;

use seawall_common::{
    Error,
    ids::{OperationId, ShardId},
    repository::EpochRecord,
};

use super::{
    State,
    catalogue::Catalogue,
    epochs::Epoch,
    locks::Locks,
    members::Members,
    operations::{OperationState, Operations},
};

/// Epochs that are passed over: those that were decided and of which the repository has no record.
pub const EPOCHS_PASSED_OVER: u64 = 1000;
/// Tokens that are passed over: far more than a group grants between two backups of it.
const TOKENS_PASSED_OVER: u64 = 1 << 32;
const LOST: &str = "the coordinator group was restored from a backup: what was under way is lost";

/// What the new group is to be, and what the repository knows beyond the backup.
#[derive(Clone, Debug)]
pub struct Restoration {
    pub group_id: String,
    pub repository_id: String,
    /// Id of the one member that the new group begins with.
    pub member: u64,
    pub now_unix_ms: u64,
    /// The greatest timestamp that any group may have given out.
    pub timestamps_above: u64,
    /// The records of reigns in the repository, by number.
    pub epochs: BTreeMap<ShardId, Vec<EpochRecord>>,
    /// Stands for the operations that decided those reigns, which nobody knows any more.
    pub operation: OperationId,
}

/// What was changed, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub operations_lost: usize,
    pub holds_dropped: usize,
    pub schedules_paused: usize,
    /// Reigns that only the repository knew of.
    pub epochs_learned: usize,
}

impl State {
    /// This state as the beginning of a new group.
    pub fn restored(mut self, with: &Restoration) -> (State, Changes) {
        self.group_id = Some(with.group_id.clone());
        self.repository_id = Some(with.repository_id.clone());
        self.members = Members::default();
        self.members.observe([with.member].into());
        // Of this group there is none yet.
        self.group_backup = None;
        self.timestamps.begin_above(with.timestamps_above);
        let operations_lost = self.operations.lose_open(with.now_unix_ms);
        let aliases: Vec<_> = self.topology.tablets().map(|t| t.alias.clone()).collect();
        for alias in aliases {
            self.topology.end_work(&alias, false);
        }
        let changes = Changes {
            operations_lost,
            holds_dropped: self.locks.drop_all(),
            schedules_paused: self.schedules.stand_still(LOST, with.now_unix_ms),
            epochs_learned: self.learn_epochs(with),
        };
        self.catalogue.lose_running();
        self.retention.stop_for_restore();
        (self, changes)
    }

    fn learn_epochs(&mut self, with: &Restoration) -> usize {
        let mut learned = 0;
        for (shard, records) in &with.epochs {
            for record in records {
                let newest = self.topology.line(shard).last().map_or(0, |e| e.number);
                if record.number > newest {
                    self.topology
                        .begin_reign(shard, as_epoch(record, with.operation));
                    learned += 1;
                }
            }
        }
        self.topology.pass_epochs_over(EPOCHS_PASSED_OVER);
        learned
    }
}

fn as_epoch(record: &EpochRecord, operation: OperationId) -> Epoch {
    Epoch {
        number: record.number,
        alias: record.alias.clone(),
        server_id: record.server_id,
        start_position: record.start_position.clone(),
        began_unix_ms: record.began_unix_ms,
        operation,
    }
}

impl Operations {
    /// Ends all that is open as failed; how many those were.
    fn lose_open(&mut self, now_unix_ms: u64) -> usize {
        let mut lost = 0;
        for operation in self.all.values_mut().filter(|o| o.state.is_open()) {
            operation.state = OperationState::Failed;
            operation.finished_unix_ms = Some(now_unix_ms);
            operation.error = Some(Error::cancelled(LOST).into());
            operation.references.clear();
            operation.token = 0;
            lost += 1;
        }
        self.forget_old();
        lost
    }
}

impl Locks {
    /// Nobody holds anything any more, and no token that was ever granted is valid.
    fn drop_all(&mut self) -> usize {
        self.forget_holds(TOKENS_PASSED_OVER)
    }
}

impl Catalogue {
    /// What was being written is incomplete, unless the repository shows that it was completed.
    fn lose_running(&mut self) {
        self.give_up_running(LOST);
    }
}

#[cfg(test)]
#[path = "restored_tests.rs"]
mod tests;
