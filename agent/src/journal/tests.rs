use super::*;
use seawall_common::{ErrorKind, ids::OperationId};

fn operation(state: OperationState) -> Operation {
    let mut operation = Operation::new(OperationId::generate(), 1, OperationKind::Backup);
    operation.state = state;
    operation
}

#[tokio::test]
async fn what_was_journaled_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::create(directory.path()).unwrap();
    let mut written = operation(OperationState::Open);
    written.begin(Step::Drain);
    written.end(Step::Drain, Ended::Done(Outcome::noted("quiet")));
    written.begin(Step::Note);
    let kept = written.clone();
    journal
        .update(move |contents| {
            contents.term = 7;
            contents.operations.push(kept);
            Ok(())
        })
        .await
        .unwrap();

    let again = Journal::open(directory.path()).unwrap();
    assert_eq!(again.read().term, 7);
    let read = again.read();
    let read = read.operation(written.id).unwrap();
    assert_eq!(read, &written);
    assert!(read.has_done(Step::Drain) && !read.has_done(Step::Note));
}

#[tokio::test]
async fn a_change_that_fails_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::create(directory.path()).unwrap();
    let refused: Result<()> = journal
        .update(|contents| {
            contents.term = 9;
            Err(Error::refused("no"))
        })
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(journal.read().term, 0);

    // A directory that is gone stands for a disk that takes no more.
    std::fs::remove_dir_all(directory.path()).unwrap();
    let failed = journal
        .update(|contents| {
            contents.term = 9;
            Ok(())
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(journal.read().term, 0);
}

#[tokio::test]
async fn a_journal_that_is_torn_altered_or_missing_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::create(directory.path()).unwrap();
    journal
        .update(|contents| {
            contents.term = 7;
            Ok(())
        })
        .await
        .unwrap();
    let path = directory.path().join("journal.json");
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = Journal::open(directory.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {cut}: {error}");
    }
    for place in 0..whole.len() {
        let mut altered = whole.clone();
        altered[place] ^= 1;
        std::fs::write(&path, &altered).unwrap();
        assert!(
            Journal::open(directory.path()).is_err(),
            "altered at {place}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    let error = Journal::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("journal.json"), "{error}");
}

#[tokio::test]
async fn history_is_bounded_and_an_open_operation_is_never_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::create(directory.path()).unwrap();
    let open = operation(OperationState::Open);
    let kept = open.clone();
    journal
        .update(move |contents| {
            contents.operations.push(kept);
            for _ in 0..3 * record::FINISHED_MAX {
                contents.operations.push(operation(OperationState::Done));
            }
            Ok(())
        })
        .await
        .unwrap();
    let contents = journal.read();
    assert_eq!(contents.operations.len(), record::FINISHED_MAX + 1);
    assert_eq!(contents.owner(), Some(&open));
}

#[tokio::test]
async fn a_caller_that_is_dropped_does_not_tear_memory_from_disk() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::create(directory.path()).unwrap();
    for term in 1..50 {
        let update = journal.update(move |contents| {
            contents.term = term;
            Ok(())
        });
        let _ = tokio::time::timeout(std::time::Duration::from_micros(term * 10), update).await;
    }
    // One more that is waited for: all before it are through.
    journal.update(|_| Ok(())).await.unwrap();
    let on_disk = Journal::open(directory.path()).unwrap().read();
    assert_eq!(on_disk, journal.read());
}

/// A small file system of its own, gone with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where the test may not mount.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(directory.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
        assert!(unmounted.unwrap().success());
    }
}

#[tokio::test]
async fn i3_a_full_disk_leaves_room_for_the_journal() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: mounting a small file system needs root");
        return;
    };
    let directory = disk.0.path();
    let journal = Journal::create(directory).unwrap();
    let filler = directory.join("filler");
    let fill = || std::fs::write(&filler, vec![1; 8 << 20]).unwrap_err();
    fill();
    for term in 1..=3 {
        let set = move |contents: &mut Contents| {
            contents.term = term;
            Ok(())
        };
        journal.update(set).await.unwrap();
        assert_eq!(Journal::open(directory).unwrap().read().term, term);
    }
    // With room again there is a reserve again.
    std::fs::remove_file(&filler).unwrap();
    journal
        .update(|contents| {
            contents.term = 9;
            Ok(())
        })
        .await
        .unwrap();
    fill();
    journal
        .update(|contents| {
            contents.term = 10;
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(Journal::open(directory).unwrap().read().term, 10);
}
