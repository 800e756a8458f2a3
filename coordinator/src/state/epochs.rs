//! The line of epochs of each shard: who was primary, since when, from which position on.
//!
//! Numbers grow by one at each change and are never used again. The first one of a shard whose
//! repository holds backups of an earlier group follows on theirs.

use seawall_common::{
    Error, Result,
    ids::{Alias, OperationId, ShardId},
    position::Position,
};
use serde::{Deserialize, Serialize};

use super::{Response, State, operations::OperationState, topology::TabletType};

/// One reign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    pub number: u64,
    pub alias: Alias,
    pub server_id: u32,
    /// Where the reign began: what came after it is this primary's.
    pub start_position: Position,
    pub began_unix_ms: u64,
    pub operation: OperationId,
}

/// The decision of a reparenting, and its point of no return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEpoch {
    pub operation: OperationId,
    pub shard: ShardId,
    /// The newest epoch as the proposer knew it; 0 when there was none.
    pub expected: u64,
    pub alias: Alias,
    pub start_position: Position,
    /// The highest epoch that the repository knows of; only counts for a shard's first.
    pub repository_epoch: u64,
    pub now_unix_ms: u64,
}

/// Whether a backup that was taken in `epoch` at `position` is part of the history that counts.
pub fn is_on_line(line: &[Epoch], epoch: u64, position: &Position) -> bool {
    let Some(first) = line.first() else {
        return true;
    };
    let known = epoch < first.number || line.iter().any(|e| e.number == epoch);
    let next = line.iter().find(|e| e.number > epoch);
    known && next.is_none_or(|next| next.start_position.covers(position))
}

pub fn apply(state: &mut State, new: &NewEpoch) -> Result<Response> {
    let operation = state.operations.get(&new.operation)?;
    let line = state.topology.line(&new.shard);
    if line.iter().any(|epoch| epoch.operation == new.operation) {
        return Ok(Response::Done);
    }
    if operation.state != OperationState::Running {
        return Err(Error::cancelled(format!(
            "operation {} is no longer running",
            new.operation
        )));
    }
    let newest = line.last().map_or(0, |epoch| epoch.number);
    if newest != new.expected {
        return Err(Error::fenced(format!(
            "the epoch of {} is {newest}, not {}",
            new.shard, new.expected
        )));
    }
    let tablet = state.topology.tablet(&new.alias)?;
    if tablet.shard != new.shard {
        return Err(Error::invalid(format!(
            "{} belongs to {}, not to {}",
            new.alias, tablet.shard, new.shard
        )));
    }
    let before = match newest {
        0 => new
            .repository_epoch
            .max(state.catalogue.newest_epoch(&new.shard)),
        newest => newest,
    };
    let passed_over = state.topology.passed_over.get(&new.shard);
    let before = before.max(passed_over.copied().unwrap_or(0));
    let number = before
        .checked_add(1)
        .ok_or_else(|| Error::exhausted(format!("{} has no epoch left", new.shard)))?;
    let epoch = Epoch {
        number,
        alias: new.alias.clone(),
        server_id: tablet.database.as_ref().map_or(0, |d| d.server_id),
        start_position: new.start_position.clone(),
        began_unix_ms: new.now_unix_ms,
        operation: new.operation,
    };
    state.topology.begin_reign(&new.shard, epoch);
    state.operations.pass_point_of_no_return(&new.operation);
    Ok(Response::Done)
}

impl super::topology::Topology {
    /// So many numbers above the newest of each line are not used.
    pub(super) fn pass_epochs_over(&mut self, count: u64) {
        for (shard, line) in &self.lines {
            let newest = line.last().map_or(0, |epoch| epoch.number);
            let upto = newest.saturating_add(count);
            self.passed_over.insert(shard.clone(), upto);
        }
    }

    pub(super) fn begin_reign(&mut self, shard: &ShardId, epoch: Epoch) {
        self.tablets.change_all_of(shard, |tablet| {
            if tablet.alias == epoch.alias {
                tablet.tablet_type = TabletType::Primary;
                tablet.wanted_type = TabletType::Primary;
                tablet.promote_when_caught_up = false;
            } else if tablet.wanted_type == TabletType::Primary {
                tablet.wanted_type = TabletType::Replica;
                if tablet.tablet_type == TabletType::Primary {
                    tablet.tablet_type = TabletType::Replica;
                }
            }
        });
        self.lines.entry(shard.clone()).or_default().push(epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::{Cluster, alias, shard};

    fn epoch(number: u64, start: &str) -> Epoch {
        Epoch {
            number,
            alias: alias("zone1-100"),
            server_id: 100,
            start_position: start.parse().unwrap(),
            began_unix_ms: 0,
            operation: OperationId::generate(),
        }
    }

    #[test]
    fn i4_a_backup_with_what_a_deposed_primary_wrote_past_its_end_is_not_on_the_line() {
        let line = [epoch(1, ""), epoch(2, "0-100-10")];
        let on = |number, text: &str| is_on_line(&line, number, &text.parse().unwrap());
        assert!(on(1, "0-100-10"));
        assert!(
            !on(1, "0-100-11"),
            "written after epoch 2 had begun elsewhere"
        );
        assert!(on(2, "0-101-15"));
        assert!(!on(3, "0-101-15"), "an epoch that nobody decided");
        assert!(
            is_on_line(&[], 3, &Position::default()),
            "no line contradicts it"
        );
    }

    #[test]
    fn i4_an_epoch_is_decided_once_and_follows_on_the_one_expected() {
        let mut cluster = Cluster::with_primary();
        let first = cluster.state.topology.line(&shard())[0].clone();
        assert_eq!(first.number, 1);
        let operation = cluster.reparent("zone1-101");
        let mut new = NewEpoch {
            operation,
            shard: shard(),
            expected: 0,
            alias: alias("zone1-101"),
            start_position: "0-100-5".parse().unwrap(),
            repository_epoch: 0,
            now_unix_ms: 9,
        };
        let refused = apply(&mut cluster.state, &new).unwrap_err();
        assert_eq!(refused.kind(), seawall_common::ErrorKind::Fenced);
        new.expected = 1;
        apply(&mut cluster.state, &new).unwrap();
        apply(&mut cluster.state, &new).unwrap();
        let line = cluster.state.topology.line(&shard());
        assert_eq!(line.iter().map(|e| e.number).collect::<Vec<_>>(), [1, 2]);
        let types: Vec<_> = cluster.types();
        assert_eq!(
            types,
            [
                ("zone1-100".into(), TabletType::Replica),
                ("zone1-101".into(), TabletType::Primary),
                ("zone1-102".into(), TabletType::Replica)
            ]
        );
        assert!(
            cluster
                .state
                .operations
                .get(&operation)
                .unwrap()
                .irrevocable
        );
    }
}
