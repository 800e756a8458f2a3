//! Sagas from their start to their end, on a stage of their own.

mod backup;
mod removal;
mod reparent;
mod repository;
mod restore;

use std::time::Duration;

use seawall_common::{
    Error,
    ids::BackupName,
    repository::{StoredBackup, StoredState},
};

use super::{
    refresh,
    restore::STARTS_EMPTY,
    testing::{Does, Stage, keep_in_store},
};
use crate::{
    group::Group as _,
    state::{
        Command,
        catalogue::Known,
        locks,
        operations::{self, OperationState},
        testing::{Cluster, alias, backup_of, removal_of, reparent_to, restore_of, shard},
        topology::TabletType,
    },
};

const BACKUP_STEPS: [&str; 9] = [
    "prepare",
    "drain",
    "note",
    "stop",
    "copy",
    "start",
    "reinstate",
    "catch_up",
    "serve",
];

fn type_of(stage: &Stage, text: &str) -> TabletType {
    stage.look(|state| state.topology.tablet(&alias(text)).unwrap().tablet_type)
}

fn holds(stage: &Stage) -> usize {
    stage.look(|state| state.locks.holds().count())
}

fn known(stage: &Stage) -> Vec<Known> {
    stage.look(|state| state.catalogue.entries(&shard()).map(|e| e.known).collect())
}

fn done(stage: &Stage) -> Vec<String> {
    stage.store.done.lock().unwrap().clone()
}
