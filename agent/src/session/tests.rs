use prost::Message as _;
use seawall_common::coordinators::MESSAGE_BYTES_MAX;

use super::*;
use crate::{
    engine::{Health, Replication},
    journal::{OperationState, PendingMark},
    live::Observation,
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

#[tokio::test]
async fn one_that_is_refused_keeps_its_pauses_and_one_that_is_cut_off_does_not() {
    let world = World::new().await;
    let (agent, coordinator) = (world.agent(), &world.coordinator);
    let sessions = || coordinator.notes().sessions.len();
    let mut talk = Talk::default();
    talk.say(&agent.tablet).await.unwrap();
    assert_eq!(sessions(), 1);
    coordinator.notes().break_off = true;
    talk.say(&agent.tablet).await.unwrap();
    assert_eq!(sessions(), 2, "another one at once");

    for refusal in [
        Error::denied("the caller is viewer/bob"),
        Error::exhausted("message length too large"),
    ] {
        let before = sessions();
        coordinator.notes().refuse_heartbeats = Some(refusal.clone());
        let refused = talk.say(&agent.tablet).await.unwrap_err();
        assert_eq!(refused, refusal);
        assert_eq!(sessions(), before, "another one at once");
        coordinator.notes().refuse_heartbeats = None;
        talk.say(&agent.tablet).await.unwrap();
        assert_eq!(sessions(), before + 1);
    }
    // Another session of this agent, or one that the coordinator has ended, is no refusal.
    let before = sessions();
    coordinator.notes().refuse_heartbeats = Some(Error::cancelled("this session is over"));
    talk.say(&agent.tablet).await.unwrap_err();
    assert_eq!(sessions(), before + 1);
}

#[test]
fn a_refusal_is_told_in_its_own_words_and_silence_as_silence() {
    let alias: Alias = ALIAS.parse().unwrap();
    let said = |error: &Error| explained(&alias, error.clone()).to_string();
    let refusal = Error::exhausted("message length too large").hint("Say less.");
    assert_eq!(
        said(&refusal),
        format!("the coordinator refuses {ALIAS}: message length too large. Say less.")
    );
    let silence = Error::unavailable("connection refused");
    assert_eq!(said(&silence), "no coordinator answers: connection refused");
    // Each is told once.
    let mut trouble = Trouble::default();
    let mut is_told = |error: &Error| {
        let before = trouble.0.clone();
        trouble.is(&alias, error.clone());
        trouble.0 != before
    };
    let denied = Error::denied("the caller is viewer/bob");
    assert!(is_told(&silence));
    assert!(!is_told(&Error::timeout("not in time")));
    assert!(is_told(&refusal) && !is_told(&refusal));
    assert!(is_told(&denied) && is_told(&silence));
    trouble.ends();
    assert_eq!(trouble.0, None);
}

#[tokio::test]
async fn a_heartbeat_is_never_larger_than_is_taken_and_names_the_holds_of_its_work_first() {
    let world = World::new().await;
    let agent = world.agent();
    let driver = Driver::new();
    let steps = backup_steps()[..4].to_vec();
    assert!(is_done(&driver.steps(&agent, steps).await));
    let marks = agent.tablet.journal.update(|contents| {
        contents.pending_marks = (0..200)
            .map(|number| PendingMark {
                backup: crate::testing::backup_name(),
                reason: String::new(),
                hold_id: format!("{number:0>36}"),
                token: u64::MAX,
            })
            .collect();
        Ok(())
    });
    marks.await.unwrap();
    let position = (0..5_000)
        .map(|domain| format!("{domain}-1-{}", u64::MAX))
        .collect::<Vec<_>>();
    let health = Health {
        version: "x".repeat(100_000),
        server_id: 1,
        read_only: true,
        position: position.join(",").parse().unwrap(),
        replication: Replication::default(),
        log_kept: None,
    };
    agent.tablet.live.observe(Observation {
        at: Instant::now(),
        running: true,
        version: "x".repeat(100_000),
        health: Some(health),
        error: None,
    });
    agent.tablet.live.set_trouble(&"x".repeat(100_000));
    let beat = beat(&agent.tablet);
    assert_eq!(beat.holds.len(), HOLDS_MAX);
    assert_eq!(beat.holds[0].hold_id, HOLD);
    let bytes = beat.encoded_len();
    assert!(bytes < MESSAGE_BYTES_MAX, "{bytes}");
}
