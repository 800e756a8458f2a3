//! The Raft library's own storage suite, on our log and state machine.

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::{StorageError, Types, log::LogStore, machine::Machine};
use crate::platform::Missing;

/// Nobody whose votes the suite writes.
const MEMBER: u64 = u64::MAX;

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let directory = tempfile::tempdir().unwrap();
        let log = LogStore::open(MEMBER, directory.path().join("log"), Missing::Make);
        let log = log.await.unwrap();
        let snapshots = directory.path().join("snapshots");
        let machine = Machine::open(snapshots, log.on_disk().clone())
            .await
            .unwrap();
        Ok((directory, log, machine))
    }
}

#[test]
fn the_store_passes_the_conformance_suite() {
    Suite::test_all(Builder).unwrap();
}
