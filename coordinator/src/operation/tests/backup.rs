//! Backups: their steps, what fails in them, and new leaders in mid course.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_backup_goes_through_its_steps_in_order_and_leaves_nothing_held() {
    let stage = Stage::new(Cluster::with_primary());
    let id = stage.start(backup_of("zone1-101")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    assert_eq!(stage.steps_called(), BACKUP_STEPS);
    let recorded: Vec<_> = ended.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(recorded[0], "grant");
    assert_eq!(recorded[1..], BACKUP_STEPS);
    assert_eq!(known(&stage), [Known::Complete]);
    assert_eq!(holds(&stage), 0);
    assert_eq!(type_of(&stage, "zone1-101"), TabletType::Replica);
    assert!(done(&stage).is_empty(), "nothing was given up");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_repeats_the_step_under_way_in_the_same_attempt_with_a_higher_term() {
    for step in BACKUP_STEPS {
        let stage = Stage::new(Cluster::with_primary());
        stage.tell(step, Does::Hang);
        let id = stage.start(backup_of("zone1-101")).await;
        stage.called(step).await;
        stage.untell(step);
        stage.lead(2);
        let ended = stage.ended(id).await;
        assert_eq!(ended.state, OperationState::Succeeded, "{step}: {ended:?}");
        let calls = stage.calls();
        let of_step: Vec<_> = calls.iter().filter(|call| call.step == step).collect();
        let terms: Vec<u64> = of_step.iter().map(|call| call.term).collect();
        assert_eq!(terms, [1, 2], "{step}");
        assert!(of_step.iter().all(|call| call.attempt == 1), "{step}");
        assert_eq!(
            calls.len(),
            BACKUP_STEPS.len() + 1,
            "{step}: no other was repeated"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn i2_a_backup_cancelled_in_mid_copy_is_marked_before_its_hold_goes() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("copy", Does::Hang);
    let id = stage.start(backup_of("zone1-101")).await;
    stage.called("copy").await;
    *stage.store.failures.lock().unwrap() = 3;
    stage.cancel(id).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Cancelled);
    assert_eq!(done(&stage)[0], "removed while 1 held");
    assert!(stage.steps_called().contains(&"put_back".to_owned()));
    assert_eq!(known(&stage), [Known::Removed]);
    assert_eq!(type_of(&stage, "zone1-101"), TabletType::Replica);
    stage.until(|| done(&stage).len() == 2).await;
    assert_eq!(done(&stage)[1], "swept while 1 held", "what it left goes");
    stage.until(|| holds(&stage) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_backup_whose_agent_is_gone_is_undone_when_its_lease_is_over() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("copy", Does::Vanish);
    stage.tell("put_back", Does::Hang);
    let begun = tokio::time::Instant::now();
    let id = stage.start(backup_of("zone1-101")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let error = ended.error.unwrap().message;
    assert!(
        error.contains("zone1-101 has not been heard for 6"),
        "{error}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(90),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(done(&stage)[0], "removed while 1 held");
    assert_eq!(known(&stage), [Known::Removed]);
    assert_eq!(type_of(&stage, "zone1-101"), TabletType::Replica);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_or_was_undone_before_the_copy_is_complete_fails_the_backup() {
    for (step, does) in [
        ("stop", Does::Fail),
        ("copy", Does::Fail),
        ("copy", Does::Undone),
    ] {
        let stage = Stage::new(Cluster::with_primary());
        stage.tell(step, does);
        let id = stage.start(backup_of("zone1-101")).await;
        let ended = stage.ended(id).await;
        assert_eq!(ended.state, OperationState::Failed);
        let error = ended.error.unwrap().message;
        assert!(error.contains(&format!("{step} went wrong")), "{error}");
        assert_eq!(known(&stage), [Known::Removed]);
        stage.start(backup_of("zone1-102")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn past_the_copy_a_backup_stands_and_the_way_back_is_tried_until_the_deadline() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("start", Does::FailTimes(5));
    let id = stage.start(backup_of("zone1-101")).await;
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);

    stage.tell("start", Does::Fail);
    let hour = Duration::from_secs(3600);
    let id = stage.start_within(backup_of("zone1-101"), hour).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let error = ended.error.unwrap().message;
    assert!(
        error.contains("is complete, but zone1-101 does not serve again"),
        "{error}"
    );
    assert!(error.contains("start went wrong"), "{error}");
    assert_eq!(known(&stage), [Known::Complete, Known::Complete]);
    assert!(done(&stage).is_empty(), "nothing was given up");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_in_mid_copy_undoes_the_backup() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("copy", Does::Hang);
    let minutes = Duration::from_secs(300);
    let id = stage.start_within(backup_of("zone1-101"), minutes).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert_eq!(
        ended.error.unwrap().message,
        "the operation did not end before its deadline, in step copy"
    );
    assert_eq!(known(&stage), [Known::Removed]);
}

#[tokio::test(start_paused = true)]
async fn a_backup_whose_hold_is_broken_is_undone() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("copy", Does::Hang);
    let id = stage.start(backup_of("zone1-101")).await;
    stage.called("copy").await;
    let which = locks::Which {
        id: id.to_string(),
        scope: locks::Scope::Cluster,
    };
    let break_it = locks::Command::Break {
        which,
        reason: "it hangs".into(),
        operator: "ana".into(),
        now_unix_ms: 0,
    };
    stage.group.propose(Command::Locks(break_it)).await.unwrap();
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert!(ended.error.unwrap().message.contains("was broken"));
    assert_eq!(known(&stage), [Known::Removed]);
}

#[tokio::test(start_paused = true)]
async fn i3_a_tablet_promoted_in_mid_backup_keeps_its_type() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("catch_up", Does::Hang);
    let backup = stage.start(backup_of("zone1-101")).await;
    stage.called("catch_up").await;
    let reparent = stage.start(reparent_to("zone1-101")).await;
    assert_eq!(stage.ended(reparent).await.state, OperationState::Succeeded);
    stage.untell("catch_up");
    stage.lead(2);
    assert_eq!(stage.ended(backup).await.state, OperationState::Succeeded);
    assert_eq!(type_of(&stage, "zone1-101"), TabletType::Primary);
    assert_eq!(type_of(&stage, "zone1-100"), TabletType::Replica);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_panics_is_not_followed_by_another_at_once() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("note", Does::PanicTimes(3));
    let begun = tokio::time::Instant::now();
    let id = stage.start(backup_of("zone1-101")).await;
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(15), "{took:?}");
}

/// Each connection lives longer than an agent may be out of reach.
#[tokio::test(start_paused = true)]
async fn a_copy_whose_connection_breaks_now_and_then_is_not_given_up() {
    let stage = Stage::new(Cluster::with_primary());
    let hour = Duration::from_secs(3_600);
    stage.tell("copy", Does::BreakTimes(4, hour));
    let id = stage.start_within(backup_of("zone1-101"), hour * 10).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn i4_a_backup_that_ran_into_another_epoch_fails() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("note", Does::Hang);
    let id = stage.start(backup_of("zone1-101")).await;
    stage.called("note").await;
    let reparent = stage.start(reparent_to("zone1-102")).await;
    assert_eq!(stage.ended(reparent).await.state, OperationState::Succeeded);
    // The replica stops beyond the point where the new epoch began.
    stage.stop_at("0-102-9");
    stage.untell("note");
    stage.lead(2);
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed, "{ended:?}");
    let error = ended.error.unwrap().message;
    assert!(
        error.contains("the primary of commerce/0 changed"),
        "{error}"
    );
    assert!(!stage.steps_called().contains(&"copy".to_owned()));
}
