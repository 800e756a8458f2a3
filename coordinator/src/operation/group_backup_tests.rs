use super::*;
use crate::{operation::testing::Stage, state::testing::Cluster};

#[test]
fn the_newest_stay() {
    let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
    let gone = |keep, taken: &str| going(&names, keep, taken).cloned().collect::<String>();
    assert_eq!(gone(2, "c"), "a");
    assert_eq!(gone(1, "c"), "ab");
    assert_eq!(gone(3, "c") + &gone(9, "c"), "");
    assert_eq!(gone(2, "a"), "b", "the clock went back");
    assert_eq!(gone(1, "b"), "ac", "within one second");
}

fn named(stage: &Stage, name: &str) {
    let mut backup = GroupBackup::new("group", 1, (1, 1));
    name.clone_into(&mut backup.name);
    let mut states = stage.store.group_states.lock().unwrap();
    states.insert(name.to_owned(), (backup, Vec::new()));
}

fn unfinished(stage: &Stage) -> Vec<String> {
    let names = stage.store.unfinished.lock().unwrap();
    names.iter().cloned().collect()
}

const OLD: [&str; 3] = [
    "2020-01-01.000000.00000001",
    "2020-01-02.000000.00000002",
    "2020-01-03.000000.00000003",
];

#[tokio::test(start_paused = true)]
async fn i2_only_complete_ones_count_and_what_is_unfinished_goes_when_nobody_is_at_it_any_more() {
    let stage = Stage::new(Cluster::with_primary());
    named(&stage, OLD[0]);
    named(&stage, OLD[1]);
    let at_work = GroupBackup::new("group", 1, (1, 1)).name;
    let unfinished_names = [OLD[2].to_owned(), at_work.clone()];
    stage
        .store
        .unfinished
        .lock()
        .unwrap()
        .extend(unfinished_names);
    let taken = take(&stage.context, 2).await.unwrap();
    assert_eq!(taken.removed, [OLD[0]]);
    let stay = stage.store.group_states.lock().unwrap().clone();
    assert!(stay.keys().eq([OLD[1], &taken.backup.name]), "{stay:?}");
    assert_eq!(unfinished(&stage), [at_work]);
}

#[tokio::test(start_paused = true)]
async fn i2_one_of_which_a_listing_has_missed_the_state_stays() {
    let stage = Stage::new(Cluster::with_primary());
    named(&stage, OLD[0]);
    let listed = OLD[0].to_owned();
    stage.store.unfinished.lock().unwrap().insert(listed);
    take(&stage.context, 7).await.unwrap();
    assert_eq!(stage.store.group_states.lock().unwrap().len(), 2);
    assert_eq!(unfinished(&stage), [OLD[0]]);
}

#[tokio::test(start_paused = true)]
async fn what_went_before_something_failed_is_told() {
    let stage = Stage::new(Cluster::with_primary());
    for name in OLD {
        named(&stage, name);
    }
    *stage.store.removals_before_failure.lock().unwrap() = Some(1);
    let taken = take(&stage.context, 1).await.unwrap();
    assert_eq!(taken.removed, [OLD[0]]);
    assert_eq!(stage.store.group_states.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn none_is_taken_to_be_kept_nowhere_or_in_a_repository_of_others() {
    let stage = Stage::new(Cluster::with_primary());
    for keep in [0, KEPT_MAX + 1] {
        let refused = take(&stage.context, keep).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
    let refusal = Error::refused("the repository belongs to another group");
    *stage.store.owner.lock().unwrap() = Some(refusal);
    let refused = take(&stage.context, 7).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(*stage.store.group_states_begun.lock().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn i5_nothing_goes_when_another_group_has_taken_the_repository_over_meanwhile() {
    for unfinished_one in [false, true] {
        let stage = Stage::new(Cluster::with_primary());
        match unfinished_one {
            false => named(&stage, OLD[0]),
            true => drop(stage.store.unfinished.lock().unwrap().insert(OLD[0].into())),
        }
        // It was ours when the backup was put.
        *stage.store.lost_after_checks.lock().unwrap() = Some(1);
        let taken = take(&stage.context, 1).await.unwrap();
        assert_eq!(taken.removed, [""; 0]);
        let complete = stage.store.group_states.lock().unwrap().len();
        assert_eq!(complete + unfinished(&stage).len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_cannot_prove_that_it_leads_puts_none() {
    let stage = Stage::new(Cluster::with_primary());
    stage.group.fail_proofs(true);
    let refused = take(&stage.context, 7).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(*stage.store.group_states_begun.lock().unwrap(), 0);
}
