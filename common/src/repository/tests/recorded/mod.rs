//! A store that remembers what was asked of it. What was recorded is played back up to each
//! request: as if the process had been killed there. And one request after the other goes wrong:
//! no complete backup is ever one that cannot be restored, and nothing that one needs is gone.

mod inspected;
mod killed;
mod recorder;
mod story;
mod wrong;

use std::collections::BTreeSet;

use super::*;
use recorder::{Change, Recorder};
use story::open;

/// Every backup that is complete in the store as it is after these changes can be restored; and
/// which those are, with what they refer to.
async fn all_complete_restore(
    changes: &[Change],
    config: &RepositoryConfig,
    when: &str,
) -> BTreeMap<BackupName, Vec<BackupName>> {
    let repository = open(&Recorder::play_back(changes).await, config).await;
    let mut complete = BTreeMap::new();
    for backup in repository.scan(&shard()).await.unwrap() {
        let name = backup.name;
        match backup.state {
            StoredState::Complete {
                header,
                manifest_hash,
            } => {
                if let Err(error) = restores(&repository, &name, &manifest_hash).await {
                    panic!("{when}: {name} is complete and cannot be restored: {error}");
                }
                complete.insert(name, header.refers_to);
            }
            StoredState::Broken { reason } => panic!("{when}: {name} is broken: {reason}"),
            _ => {}
        }
    }
    complete
}

/// Whether a backup comes back whole: each chunk is compared with its hash on the way.
async fn restores(repository: &Repository, name: &BackupName, hash: &str) -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let targets = BTreeMap::from([("data".to_owned(), directory.path().join("t"))]);
    let manifest = read_manifest(repository, &shard(), name, Some(hash)).await?;
    let (progress, never) = (Progress::new(), CancellationToken::new());
    download(repository, &manifest, &targets, 2, &progress, &never).await
}

fn names(backups: &[Reference]) -> BTreeSet<BackupName> {
    backups.iter().map(|backup| backup.name.clone()).collect()
}

/// In a soak all of them, otherwise one of so many, other ones for each `salt`.
fn is_chosen(number: usize, salt: usize, one_of: usize) -> bool {
    std::env::var_os("SEAWALL_SOAK").is_some()
        || (number.wrapping_mul(2_654_435_761).wrapping_add(salt * 977) >> 7).is_multiple_of(one_of)
}
