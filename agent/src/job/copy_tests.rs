//! What a copy answers: of pages that could not be checked, and when nobody heard it.

use seawall_common::ErrorKind;

use crate::{
    call::Action,
    execute::Answer,
    journal::Step,
    testing::{Agent, Driver, World, backup_name, backup_steps, copy, error_of, is_done},
};

/// Starts the copy and hangs up before its answer: whoever asks again has missed it.
async fn copy_unheard(agent: &Agent, driver: Driver) {
    let call = driver.call(Action::Run(copy()));
    drop(agent.executor.execute(call).await.unwrap());
    agent
        .until("copied", |agent| !agent.executor.is_busy(driver.id))
        .await;
}

#[tokio::test]
async fn i4_a_copy_whose_answer_was_lost_is_answered_as_it_ended_and_not_begun_again() {
    for fails in [false, true] {
        let world = World::new().await;
        world.coordinator.notes().refuse_announcements = fails;
        let agent = world.agent();
        let driver = Driver::new();
        let steps = backup_steps();
        assert!(is_done(&driver.steps(&agent, steps[..4].to_vec()).await));
        copy_unheard(&agent, driver).await;
        let before = world.calls();
        // By the same leader, and by one that has taken over.
        for term in [5, 6] {
            let again = Driver { term, ..driver };
            let answer = again.step(&agent, copy()).await;
            if fails {
                let error = error_of(answer);
                assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
                assert!(error.message().contains("the hold is gone"), "{error}");
            } else {
                let Answer::Done(outcome) = answer else {
                    panic!("{answer:?}")
                };
                assert_eq!(outcome.backup.unwrap().name, backup_name());
            }
        }
        assert_eq!(world.calls(), before);
        assert_eq!(world.coordinator.notes().announced.len(), 1);
    }
}

#[tokio::test]
async fn i4_a_copy_whose_end_could_not_be_recorded_is_not_begun_again() {
    let world = World::new().await;
    let agent = world.agent();
    let driver = Driver::new();
    let steps = backup_steps();
    assert!(is_done(&driver.steps(&agent, steps[..5].to_vec()).await));
    let id = driver.id;
    let forget = agent.tablet.journal.update(move |contents| {
        contents.operation_mut(id)?.begin(Step::Copy);
        Ok(())
    });
    forget.await.unwrap();
    let before = world.calls();
    let error = error_of(driver.step(&agent, copy()).await);
    assert!(error.message().contains("could not be recorded"), "{error}");
    assert_eq!(world.calls(), before);
    assert_eq!(world.coordinator.notes().announced.len(), 1);
}

#[tokio::test]
async fn pages_that_could_not_be_checked_are_told_of_with_the_backup() {
    for (not_checked, note) in [
        (None, ""),
        (Some(0), ""),
        // Of each of its two files.
        (
            Some(3),
            "6 pages were not checked: they carry nothing to check them by",
        ),
    ] {
        let world = World::new().await;
        world.engine.server().pages_not_checked = not_checked;
        let agent = world.agent();
        let answer = Driver::new()
            .steps(&agent, backup_steps()[..5].to_vec())
            .await;
        let Answer::Done(outcome) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(outcome.note, note);
    }
}
