use super::*;
use crate::{
    journal::OperationState,
    testing::{ALIAS, Agent, Driver, HOLD, PATIENCE, PORT, World, backup_steps, is_done, view},
};

/// For as long as the test goes on.
async fn talk(agent: &Agent) -> Result<()> {
    run(&agent.tablet, &agent.executor, &CancellationToken::new()).await
}

#[tokio::test]
async fn a_session_that_breaks_off_is_begun_anew_and_one_that_leaves_says_goodbye() {
    let world = World::new().await;
    let (agent, coordinator) = (world.agent(), &world.coordinator);
    let leave = CancellationToken::new();
    let talking = run(&agent.tablet, &agent.executor, &leave);
    let story = async {
        let has_heard = |count| coordinator.notes().heartbeats.len() >= count;
        agent.until("heard", |_| has_heard(1)).await;
        coordinator.notes().break_off = true;
        agent.until("heard again", |_| has_heard(2)).await;
        leave.cancel();
    };
    let (ended, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(talking, story) })
        .await
        .unwrap();
    ended.unwrap();
    let notes = coordinator.notes();
    assert_eq!(notes.sessions.len(), 2, "{:?}", notes.sessions);
    assert_eq!(notes.sessions[1].alias, ALIAS);
    assert_eq!(notes.sessions[1].instance, agent.tablet.instance);
    assert_eq!(notes.goodbyes, 1);
}

#[tokio::test]
async fn a_refused_alias_and_another_repository_end_the_agent() {
    let world = World::new().await;
    world.coordinator.notes().refuse_alias = true;
    let agent = world.agent();
    let ended = tokio::time::timeout(PATIENCE, talk(&agent));
    let error = ended.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains(ALIAS), "{error}");

    world.coordinator.notes().refuse_alias = false;
    world.coordinator.notes().repository_id = "another".into();
    let ended = tokio::time::timeout(PATIENCE, talk(&agent));
    let error = ended.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.message().contains("another"), "{error}");
}

#[tokio::test]
async fn it_registers_once_a_coordinator_is_there_and_hears_of_the_shard() {
    let world = World::new().await;
    world.coordinator.notes().away = true;
    world.coordinator.notes().view = view(4, ALIAS, PORT);
    let agent = world.agent();
    let come = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!agent.tablet.live.is_registered());
        world.coordinator.notes().away = false;
        agent
            .until("heard", |agent| agent.tablet.shard.now().confirmed)
            .await;
    };
    tokio::select! {
        ended = talk(&agent) => panic!("{ended:?}"),
        () = come => {}
    }
    assert_eq!(agent.tablet.shard.now().epoch, 4);
    assert!(agent.tablet.is_primary());
}

#[tokio::test]
async fn i2_work_under_a_lost_hold_is_given_up_before_the_manifest_and_not_after() {
    for (steps, given_up) in [(4, true), (5, false)] {
        let world = World::new().await;
        let agent = world.agent();
        let driver = Driver::new();
        let steps = backup_steps()[..steps].to_vec();
        assert!(is_done(&driver.steps(&agent, steps).await));
        world.coordinator.notes().lost_holds = vec![HOLD.into()];
        let heard = async {
            agent
                .until("told", |_| !world.coordinator.notes().heartbeats.is_empty())
                .await;
            if given_up {
                agent.until_free().await;
            } else {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        tokio::select! {
            ended = talk(&agent) => panic!("{ended:?}"),
            () = heard => {}
        }
        let state = agent.operation(driver.id).state;
        assert_eq!(matches!(state, OperationState::Undone { .. }), given_up);
        assert_eq!(world.engine.server().running, given_up);
        let heartbeat = world.coordinator.notes().heartbeats[0].clone();
        assert_eq!(heartbeat.holds[0].hold_id, HOLD);
        assert_eq!(
            heartbeat.status.unwrap().operation_id,
            driver.id.to_string()
        );
    }
}

#[tokio::test]
async fn another_group_is_followed_only_once_it_owns_the_repository() {
    let world = World::new().await;
    let agent = world.agent();
    let journal = &agent.tablet.journal;
    let before = journal.update(|contents| {
        contents.shard.group_id = "old group".into();
        contents.term = 9;
        Ok(())
    });
    before.await.unwrap();
    let repository = world.repository().await;
    repository.claim("old group", true).await.unwrap();
    let error = register(&agent.tablet).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(journal.read().term, 9);
    repository.claim("group", true).await.unwrap();
    register(&agent.tablet).await.unwrap();
    assert_eq!(journal.read().term, 0);
}

#[tokio::test]
async fn i3_a_repository_that_is_not_mounted_yet_does_not_end_the_agent() {
    let world = World::new().await;
    let (there, gone) = (world.path("repository"), world.path("gone"));
    std::fs::rename(&there, &gone).unwrap();
    let agent = world.agent();
    let error = register(&agent.tablet).await.unwrap_err();
    assert!(!is_final(&error), "{error}");
    std::fs::rename(&gone, &there).unwrap();
    register(&agent.tablet).await.unwrap();
}
