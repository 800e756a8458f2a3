use seawall_common::repository::StoredState;
use seawall_proto::v1;

use super::*;
use crate::testing::{
    ALIAS, Agent, Driver, PORT, World, backup_name, backup_steps, copy, is_done, view,
};

/// Runs the watchdog until `until` is through.
async fn watched(agent: &Agent, until: impl Future<Output = ()>) {
    tokio::select! {
        () = run(&agent.tablet, &agent.executor) => {}
        () = until => {}
    }
}

fn tell(world: &World, driver: Driver, state: Known) {
    let operation = v1::Operation {
        id: driver.id.to_string(),
        state: state.into(),
        ..Default::default()
    };
    world
        .coordinator
        .notes()
        .operations
        .insert(driver.id.to_string(), operation);
}

#[tokio::test]
async fn i3_silence_in_the_middle_of_a_backup_puts_the_database_back() {
    let mut world = World::new().await;
    world.flags.push("--operation-silence=1s".into());
    world.coordinator.notes().away = true;
    let agent = world.agent();
    let driver = Driver::new();
    let steps = backup_steps()[..4].to_vec();
    assert!(is_done(&driver.steps(&agent, steps).await));
    watched(&agent, agent.until_free()).await;
    assert!(world.engine.server().running && world.engine.server().replication.running);
    let state = agent.operation(driver.id).state;
    assert!(matches!(state, OperationState::Undone { .. }), "{state:?}");
}

#[tokio::test]
async fn i2_silence_after_the_manifest_finishes_the_backup() {
    let mut world = World::new().await;
    world.flags.push("--operation-silence=1s".into());
    let agent = world.agent();
    let driver = Driver::new();
    let steps = backup_steps()[..5].to_vec();
    assert!(is_done(&driver.steps(&agent, steps).await));
    world.coordinator.notes().away = true;
    watched(&agent, agent.until_free()).await;
    assert!(world.engine.server().running && world.engine.server().replication.running);
    assert_eq!(agent.operation(driver.id).state, OperationState::Done);
    assert!(matches!(
        world.stored().await,
        Some(StoredState::Complete { .. })
    ));
}

#[tokio::test]
async fn an_operation_that_is_driven_is_left_alone_and_one_that_is_undone_is_put_back() {
    let mut world = World::new().await;
    world.flags.push("--operation-silence=7s".into());
    let agent = world.agent();
    let driver = Driver::new();
    let steps = backup_steps()[..4].to_vec();
    assert!(is_done(&driver.steps(&agent, steps).await));
    tell(&world, driver, Known::Running);
    let quiet = async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(!world.engine.server().running);
        tell(&world, driver, Known::Undoing);
        agent.until_free().await;
    };
    watched(&agent, quiet).await;
    assert!(world.engine.server().running);
}

#[tokio::test]
async fn a_demoted_primary_opens_once_a_coordinator_says_that_it_stays_primary() {
    let mut world = World::new().await;
    world.flags.push("--operation-silence=1s".into());
    world.coordinator.notes().away = true;
    let agent = world.agent();
    agent.hear(&view(2, ALIAS, PORT)).await;
    let driver = Driver::new();
    assert!(is_done(
        &driver.step(&agent, crate::call::StepCall::Demote).await
    ));
    let heard = async {
        // However long nobody answers: another may have been made primary.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(agent.tablet.journal.read().owner().is_some());
        world.coordinator.notes().away = false;
        tell(&world, driver, Known::Failed);
        // That word alone does not tell which epoch it ended in.
        tokio::time::sleep(ASK_EVERY + LOOK_EVERY * 2).await;
        assert!(agent.tablet.journal.read().owner().is_some());
        agent.hear(&view(2, ALIAS, PORT)).await;
        agent.until_free().await;
    };
    watched(&agent, heard).await;
    crate::reconcile::Reconciler::default()
        .look(&agent.tablet)
        .await
        .unwrap();
    assert!(!world.engine.server().read_only);
}

#[tokio::test]
async fn a_step_that_runs_is_not_silence() {
    let mut world = World::new().await;
    world.flags.push("--operation-silence=1s".into());
    let agent = world.agent();
    let driver = Driver::new();
    let steps = backup_steps()[..4].to_vec();
    assert!(is_done(&driver.steps(&agent, steps).await));
    world.coordinator.notes().hang_announcements = true;
    let copying = driver.step(&agent, copy());
    let watching = watched(&agent, tokio::time::sleep(Duration::from_secs(3)));
    tokio::select! {
        answer = copying => panic!("{answer:?}"),
        () = watching => {}
    }
    assert_eq!(agent.operation(driver.id).state, OperationState::Open);
    assert_eq!(agent.operation(driver.id).facts.backup, Some(backup_name()));
}

#[tokio::test]
async fn i4_a_demoted_primary_stays_closed_until_it_hears_of_the_epoch_that_ended_it() {
    let world = World::new().await;
    let agent = world.agent();
    agent.hear(&view(2, ALIAS, PORT)).await;
    world.engine.server().read_only = false;
    let driver = Driver::new();
    assert!(is_done(
        &driver.step(&agent, crate::call::StepCall::Demote).await
    ));
    tell(&world, driver, Known::Succeeded);
    let mut reconciler = crate::reconcile::Reconciler::default();
    let ended = async {
        for _ in 0..8 {
            tokio::time::sleep(LOOK_EVERY).await;
            reconciler.look(&agent.tablet).await.unwrap();
            assert!(
                world.engine.server().read_only,
                "it opened in an epoch that is over"
            );
        }
        agent.hear(&view(3, "zone1-101", 3101)).await;
        reconciler.look(&agent.tablet).await.unwrap();
        agent.until_free().await;
    };
    watched(&agent, ended).await;
    assert!(world.engine.server().read_only);
}

#[tokio::test]
async fn what_was_finished_alone_is_no_error_to_the_coordinator_that_comes_back() {
    let mut world = World::new().await;
    world.flags.push("--operation-silence=1s".into());
    let agent = world.agent();
    let driver = Driver::new();
    let steps = backup_steps();
    assert!(is_done(&driver.steps(&agent, steps[..5].to_vec()).await));
    world.coordinator.notes().away = true;
    watched(&agent, agent.until_free()).await;
    assert!(is_done(&driver.steps(&agent, steps[5..].to_vec()).await));
}

#[tokio::test]
async fn restored_data_that_does_not_start_gives_way_to_the_old_when_the_restore_has_failed() {
    let world = World::new().await;
    let agent = world.agent();
    let backup = Driver::new();
    assert!(is_done(&backup.steps(&agent, backup_steps()).await));
    world.engine.fill(b"newer rows");
    world.engine.server().failing.insert("start".into());
    let driver = Driver::new();
    let answer = driver
        .steps(&agent, crate::testing::restore_steps("")[..4].to_vec())
        .await;
    assert!(!is_done(&answer), "{answer:?}");
    tell(&world, driver, Known::Failed);
    world.engine.server().failing.clear();
    watched(&agent, agent.until_free()).await;
    assert_eq!(world.engine.rows().unwrap(), b"newer rows");
    assert!(world.engine.server().running);
}
