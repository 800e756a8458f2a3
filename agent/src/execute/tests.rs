use seawall_common::ErrorKind;

use crate::{
    call::{Action, StepCall},
    execute::Answer,
    journal::{Journal, OperationState, Step},
    testing::{
        Driver, PRIMARY_PORT, World, backup_steps, error_of, is_done, position, prepare, view,
    },
};

#[tokio::test]
async fn a_whole_backup_leaves_the_database_as_it_was() {
    let world = World::new().await;
    let agent = world.agent();
    let driver = Driver::new();
    for step in backup_steps() {
        let name = step.step();
        let answer = driver.step(&agent, step).await;
        assert!(is_done(&answer), "{name:?}: {answer:?}");
    }
    let server = world.engine.server();
    assert!(server.running && server.read_only);
    assert!(server.replication.running);
    assert_eq!(
        server.replication.source.as_ref().unwrap().port,
        PRIMARY_PORT
    );
    assert_eq!(server.variables[0].0, "event_scheduler");
    // The goal was read after the restart, and reached.
    assert_eq!(server.position, position("0-1-20"));
    let calls = &server.calls;
    let at = |name: &str| calls.iter().position(|call| call == name).unwrap();
    assert!(at("start") < at("position_of") && at("stop") < at("guard_check"));
    assert_eq!(agent.operation(driver.id).state, OperationState::Done);
}

#[tokio::test]
async fn i4_a_command_of_a_term_that_is_over_is_fenced() {
    let world = World::new().await;
    let agent = world.agent();
    let old = Driver::new();
    assert!(is_done(&old.step(&agent, prepare()).await));
    // Its successor undoes the operation.
    let new = Driver { term: 6, ..old };
    assert!(is_done(&new.put_back(&agent, true).await));
    world.mend();

    for step in [StepCall::Stop, StepCall::Note, prepare()] {
        let error = error_of(old.step(&agent, step).await);
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    }
    assert!(!world.has_called("stop"), "{:?}", world.calls());

    // Also after a restart of the agent.
    drop(agent);
    let agent = world.agent();
    let error = error_of(old.step(&agent, StepCall::Stop).await);
    assert_eq!(error.kind(), ErrorKind::Fenced);
    let error = error_of(old.put_back(&agent, false).await);
    assert_eq!(error.kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn i4_an_attempt_that_is_over_is_fenced_and_one_undone_is_not_continued() {
    let world = World::new().await;
    let agent = world.agent();
    let first = Driver::new();
    assert!(is_done(&first.step(&agent, prepare()).await));
    assert!(is_done(&first.put_back(&agent, true).await));
    for step in [prepare(), StepCall::Note, StepCall::Stop] {
        let answer = first.step(&agent, step).await;
        assert!(matches!(answer, Answer::Undone(_)), "{answer:?}");
    }
    let second = Driver {
        attempt: 2,
        ..first
    };
    assert!(is_done(&second.step(&agent, prepare()).await));
    let error = error_of(first.step(&agent, StepCall::Note).await);
    assert_eq!(error.kind(), ErrorKind::Fenced);
    let drain = crate::testing::drain(crate::journal::OperationKind::Backup);
    assert!(is_done(&second.step(&agent, drain).await));
}

#[tokio::test]
async fn i4_a_step_sent_twice_is_done_once() {
    let world = World::new().await;
    let agent = world.agent();
    let driver = Driver::new();
    let steps = backup_steps();
    assert!(is_done(&driver.steps(&agent, steps[..3].to_vec()).await));

    // Two callers at once find the same run.
    let (one, other) = tokio::join!(
        driver.step(&agent, StepCall::Stop),
        driver.step(&agent, StepCall::Stop)
    );
    assert!(is_done(&one) && is_done(&other), "{one:?} {other:?}");
    // A later one, of a newer leader, finds the recorded result; so it does after a restart.
    let newer = Driver { term: 9, ..driver };
    let again = newer.step(&agent, StepCall::Stop).await;
    let Answer::Done(outcome) = again else {
        panic!("{again:?}")
    };
    assert_eq!(outcome.position, Some(position("0-1-10")));
    let stops = world.calls().iter().filter(|call| *call == "stop").count();
    assert_eq!(stops, 1);
    let journal = Journal::open(&world.path("state")).unwrap();
    assert_eq!(journal.read().term, 9);
}

#[tokio::test]
async fn i4_a_step_that_ends_while_it_is_asked_for_again_is_done_once() {
    for round in 0..10 {
        let world = World::new().await;
        let agent = world.agent();
        agent.tablet.live.set_registered(1);
        let driver = Driver::new();
        // Much to write down before the second command is admitted: the step ends in between.
        let mut again = Driver { term: 9, ..driver }.call(Action::Run(StepCall::Demote));
        again.view = view(2, crate::testing::ALIAS, crate::testing::PORT);
        let (one, other) = tokio::join!(driver.step(&agent, StepCall::Demote), async {
            match agent.executor.execute(again).await {
                Ok(run) => run.end().await,
                Err(error) => Answer::Failed(error),
            }
        });
        assert!(is_done(&one), "{round}: {one:?}");
        assert!(is_done(&other), "{round}: {other:?}");
        assert_eq!(world.calls(), ["close_for_writes"], "{round}");
    }
}

#[tokio::test]
async fn a_step_goes_on_when_nobody_listens_any_more() {
    let world = World::new().await;
    let agent = world.agent();
    let driver = Driver::new();
    let call = driver.call(Action::Run(prepare()));
    drop(agent.executor.execute(call).await.unwrap());
    agent
        .until("prepared", |agent| agent.has_done(driver.id, Step::Prepare))
        .await;
}

#[tokio::test]
async fn steps_out_of_order_are_refused() {
    let world = World::new().await;
    let agent = world.agent();
    let driver = Driver::new();
    let error = error_of(driver.step(&agent, StepCall::Stop).await);
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(is_done(&driver.step(&agent, prepare()).await));
    let error = error_of(driver.step(&agent, StepCall::Stop).await);
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let error = error_of(driver.step(&agent, StepCall::Install).await);
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(world.calls().is_empty(), "{:?}", world.calls());
}

#[tokio::test]
async fn one_operation_has_the_database_and_is_named_to_another() {
    let world = World::new().await;
    let agent = world.agent();
    let first = Driver::new();
    assert!(is_done(&first.step(&agent, prepare()).await));
    let second = Driver::new();
    let error = error_of(second.step(&agent, prepare()).await);
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains(&first.id.to_string()), "{error}");
    // Nor may a change of primary come in between before the database is back.
    let error = error_of(second.step(&agent, StepCall::Promote).await);
    assert_eq!(error.kind(), ErrorKind::Refused);
    // A stranger's undo touches nothing but its own name.
    assert!(is_done(&second.put_back(&agent, false).await));
    assert!(world.calls().is_empty(), "{:?}", world.calls());
}

#[tokio::test]
async fn i4_a_demoted_primary_that_goes_down_is_started_and_stays_closed() {
    let world = World::new().await;
    let agent = world.agent();
    agent.tablet.live.set_registered(1);
    agent
        .hear(&view(2, crate::testing::ALIAS, crate::testing::PORT))
        .await;
    world.engine.server().read_only = false;
    let driver = Driver::new();
    assert!(is_done(&driver.step(&agent, StepCall::Demote).await));
    world.engine.server().running = false;
    let mut reconciler = crate::reconcile::Reconciler::default();
    reconciler.look(&agent.tablet).await.unwrap();
    let server = world.engine.server();
    assert!(server.running && server.read_only);
}

#[tokio::test]
async fn i3_a_demoted_primary_stays_closed_until_it_is_reopened() {
    let world = World::new().await;
    let agent = world.agent();
    agent.tablet.live.set_registered(1);
    let us = view(2, crate::testing::ALIAS, crate::testing::PORT);
    agent.hear(&us).await;
    world.engine.server().read_only = false;
    let driver = Driver::new();
    assert!(is_done(&driver.step(&agent, StepCall::ReadPosition).await));
    assert!(agent.tablet.journal.read().owner().is_none());
    assert!(is_done(&driver.step(&agent, StepCall::Demote).await));
    let mut reconciler = crate::reconcile::Reconciler::default();
    reconciler.look(&agent.tablet).await.unwrap();
    assert!(world.engine.server().read_only);
    assert!(is_done(&driver.step(&agent, StepCall::Reopen).await));
    assert!(!world.engine.server().read_only);
    assert!(agent.tablet.journal.read().owner().is_none());
    // A late repetition does not close it again.
    let late = driver.step(&agent, StepCall::Demote).await;
    assert!(matches!(late, Answer::Undone(_)), "{late:?}");
    assert!(!world.engine.server().read_only);
}

#[tokio::test]
async fn i3_a_backup_that_is_put_back_does_not_open_what_was_closed_for_a_change_of_primary() {
    let world = World::new().await;
    let agent = world.agent();
    agent.tablet.live.set_registered(1);
    agent
        .hear(&view(2, crate::testing::ALIAS, crate::testing::PORT))
        .await;
    world.engine.server().read_only = false;
    let backup = Driver::new();
    let answer = backup.steps(&agent, backup_steps()[..7].to_vec()).await;
    assert!(is_done(&answer), "{answer:?}");
    assert!(!world.engine.server().read_only);
    let reparent = Driver::new();
    assert!(is_done(&reparent.step(&agent, StepCall::Demote).await));
    assert!(is_done(&backup.put_back(&agent, true).await));
    assert!(world.engine.server().read_only);
    assert!(is_done(&reparent.step(&agent, StepCall::Reopen).await));
    assert!(!world.engine.server().read_only);
}

#[tokio::test]
async fn what_was_never_closed_is_reopened_at_once_and_not_closed_later() {
    let world = World::new().await;
    let agent = world.agent();
    let backup = Driver::new();
    assert!(is_done(&backup.step(&agent, prepare()).await));
    let reparent = Driver::new();
    let refused = error_of(reparent.step(&agent, StepCall::Demote).await);
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(is_done(&reparent.step(&agent, StepCall::Reopen).await));
    assert!(is_done(&backup.put_back(&agent, true).await));
    let late = reparent.step(&agent, StepCall::Demote).await;
    assert!(matches!(late, Answer::Undone(_)), "{late:?}");
}

#[tokio::test]
async fn i4_only_the_tablet_that_the_newest_epoch_names_is_promoted() {
    let world = World::new().await;
    let agent = world.agent();
    agent.hear(&view(3, "zone1-103", 3103)).await;
    let driver = Driver::new();
    let mut call = driver.call(Action::Run(StepCall::Promote));
    call.view = view(2, crate::testing::ALIAS, crate::testing::PORT);
    let answer = agent.executor.execute(call).await.unwrap().end().await;
    assert_eq!(error_of(answer).kind(), ErrorKind::Fenced);
    let mut call = driver.call(Action::Run(StepCall::Promote));
    call.view = view(4, crate::testing::ALIAS, crate::testing::PORT);
    assert!(is_done(
        &agent.executor.execute(call).await.unwrap().end().await
    ));
    assert!(!world.engine.server().read_only);
}

#[tokio::test]
async fn i2_a_step_that_comes_through_while_it_is_called_off_is_not_answered_as_done() {
    let world = World::new().await;
    let agent = world.agent();
    let driver = Driver::new();
    let steps = backup_steps()[..4].to_vec();
    assert!(is_done(&driver.steps(&agent, steps).await));
    let id = driver.id;
    let calling_off = agent.tablet.journal.update(move |contents| {
        let operation = contents.operation_mut(id)?;
        operation.begin(Step::Copy);
        operation.state = OperationState::GivingUp {
            reason: "its hold is gone".into(),
            abandon: Some(crate::testing::backup_name()),
            discard: false,
        };
        Ok(())
    });
    calling_off.await.unwrap();
    let copied = Ok(crate::journal::Outcome::default());
    let answer = agent.executor.journal_end(id, Step::Copy, copied).await;
    assert!(matches!(answer, Answer::Undone(_)), "{answer:?}");
    // Nor is its mark forgotten when the agent is started again.
    drop(agent);
    let agent = world.agent();
    crate::startup::recover(&agent.tablet, &agent.executor)
        .await
        .unwrap();
    agent.until_free().await;
    let stored = world.stored().await;
    assert!(
        matches!(
            stored,
            Some(seawall_common::repository::StoredState::Removed { .. })
        ),
        "{stored:?}"
    );
}
