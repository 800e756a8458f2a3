//! The process is killed between any two requests.

use super::{
    recorder::{Change, Recorder},
    story::Story,
    *,
};

#[tokio::test(flavor = "multi_thread")]
async fn i5_killed_between_any_two_requests_every_complete_backup_restores_and_the_next_one_goes_on()
 {
    let mut story = Story::begin(Recorder::honest()).await;
    story.run().await.unwrap();
    let changes = story.store.changes();
    let end = all_complete_restore(&changes, &story.config, "at the end").await;
    assert_eq!(
        end.keys().cloned().collect::<BTreeSet<_>>(),
        names(&story.complete)
    );
    let taken_over = [name(1), name(2)];
    assert_eq!(
        end[&name(3)],
        taken_over,
        "an old backup's, and a given up one's"
    );
    let deletes = changes.iter().filter(|c| matches!(c, Change::Delete(_)));
    assert!(deletes.count() > 3, "something was collected");

    let mut complete_at_once = 0;
    for count in 1..=changes.len() {
        let when = format!(
            "after {count} of {} changes, the last {}",
            changes.len(),
            changes[count - 1]
        );
        let complete = all_complete_restore(&changes[..count], &story.config, &when).await;
        complete_at_once = complete_at_once.max(complete.len());
        if is_chosen(count, 0, 4) {
            let mut after = story.go_on_from(&changes[..count]).await;
            assert_eq!(names(&after.complete), complete.into_keys().collect());
            goes_on(&mut after, &when).await;
        }
    }
    assert_eq!(complete_at_once, 2);
}

/// Another process backs up with what it finds, and collects.
async fn goes_on(after: &mut Story, when: &str) {
    let failed = |e: crate::Error| -> () { panic!("{when}: {e}") };
    after.write("e", 6);
    after.back_up().await.unwrap_or_else(failed);
    if after.complete.len() > 1 {
        after.remove_oldest().await.unwrap_or_else(failed);
    }
    after.collect().await.unwrap_or_else(failed);
    let complete = all_complete_restore(&after.store.changes(), &after.config, when).await;
    let complete: BTreeSet<BackupName> = complete.into_keys().collect();
    assert_eq!(complete, names(&after.complete), "{when}");
}
