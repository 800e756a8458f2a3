//! The Raft library's own storage suite, on our log and state machine.

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::{StorageError, Types, log::LogStore, machine::Machine};

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let directory = tempfile::tempdir().unwrap();
        let log = LogStore::open(directory.path().join("log")).await.unwrap();
        let machine = Machine::open(directory.path().join("snapshots"))
            .await
            .unwrap();
        Ok((directory, log, machine))
    }
}

#[test]
fn the_store_passes_the_conformance_suite() {
    Suite::test_all(Builder).unwrap();
}
