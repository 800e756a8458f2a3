use super::*;
use crate::testing::{ALIAS, PORT, PRIMARY, PRIMARY_PORT, World, position, view};

#[tokio::test]
async fn i3_a_primary_is_opened_only_when_a_heartbeat_has_confirmed_its_epoch() {
    let world = World::new().await;
    let agent = world.agent();
    let mut reconciler = Reconciler::default();
    let us = view(2, ALIAS, PORT);
    agent.tablet.shard.learn(&us, false).await.unwrap();
    reconciler.look(&agent.tablet).await.unwrap();
    assert!(world.engine.server().read_only);
    agent.hear(&us).await;
    reconciler.look(&agent.tablet).await.unwrap();
    assert!(!world.engine.server().read_only);
    drop(agent);

    // A new process does not close it, and waits for a word before it trusts what it remembers.
    let agent = world.agent();
    world.mend();
    Reconciler::default().look(&agent.tablet).await.unwrap();
    assert!(world.calls().is_empty(), "{:?}", world.calls());
}

#[tokio::test]
async fn a_deposed_primary_is_closed_and_follows_its_successor() {
    let world = World::new().await;
    let agent = world.agent();
    let mut reconciler = Reconciler::default();
    agent.hear(&view(2, ALIAS, PORT)).await;
    reconciler.look(&agent.tablet).await.unwrap();
    agent.hear(&view(3, PRIMARY, PRIMARY_PORT)).await;
    reconciler.look(&agent.tablet).await.unwrap();
    let server = world.engine.server();
    assert!(server.read_only && server.replication.running);
    let at = |name: &str| server.calls.iter().rposition(|call| call == name).unwrap();
    assert!(at("close_for_writes") < at("replicate_from"));
}

#[tokio::test]
async fn replication_stopped_by_hand_is_left_alone_also_over_a_change_of_primary() {
    let world = World::new().await;
    world.engine.server().replication.running = false;
    world.engine.server().replication.wanted = false;
    let agent = world.agent();
    let mut reconciler = Reconciler::default();
    agent.hear(&view(1, PRIMARY, PRIMARY_PORT)).await;
    reconciler.look(&agent.tablet).await.unwrap();
    assert!(!world.has_called("replicate_from"));
    let others = [(3103, position("0-3-20"))];
    world.engine.server().others.extend(others);
    agent.hear(&view(2, "zone1-103", 3103)).await;
    reconciler.look(&agent.tablet).await.unwrap();
    let replication = world.engine.server().replication.clone();
    assert_eq!(replication.source.unwrap().port, 3103);
    assert!(!replication.wanted);
}

#[tokio::test]
async fn a_server_that_went_down_is_started_and_replicates_again() {
    let world = World::new().await;
    world.engine.server().running = false;
    let agent = world.agent();
    let mut reconciler = Reconciler::default();
    agent.hear(&view(1, PRIMARY, PRIMARY_PORT)).await;
    for _ in 0..3 {
        reconciler.look(&agent.tablet).await.unwrap();
    }
    let server = world.engine.server();
    assert!(server.running && server.read_only && server.replication.running);
    assert_eq!(server.position, position("0-1-20"));
    assert!(agent.tablet.live.has_caught_up());
    assert!(!agent.tablet.journal.read().awaits_reinstatement);
}

/// By a person, in less time than passes between two looks, or at a boot of the machine while no
/// agent ran.
#[tokio::test]
async fn i3_a_server_that_somebody_has_restarted_replicates_again_and_a_stop_by_hand_stays() {
    let world = World::new().await;
    for agent_was_down in [false, true] {
        let mut agent = world.agent();
        let mut reconciler = Reconciler::default();
        agent.hear(&view(1, PRIMARY, PRIMARY_PORT)).await;
        reconciler.look(&agent.tablet).await.unwrap();
        world.engine.server().come_up();
        if agent_was_down {
            drop(agent);
            agent = world.agent();
            reconciler = Reconciler::default();
            agent.hear(&view(1, PRIMARY, PRIMARY_PORT)).await;
        }
        reconciler.look(&agent.tablet).await.unwrap();
        assert!(world.engine.server().replication.running);

        world.engine.server().replication.wanted = false;
        world.engine.server().replication.running = false;
        reconciler.look(&agent.tablet).await.unwrap();
        assert!(!world.engine.server().replication.running);
        world.engine.server().replication.wanted = true;
        world.engine.server().replication.running = true;
    }
}

#[tokio::test]
async fn where_there_is_no_database_it_waits_and_says_so() {
    let world = World::empty().await;
    let agent = world.agent();
    let error = Reconciler::default().look(&agent.tablet).await.unwrap_err();
    assert!(error.to_string().contains("initialize"), "{error}");
    assert!(!world.has_called("start"));
}

#[tokio::test]
async fn nothing_is_touched_while_an_operation_has_the_database() {
    let world = World::new().await;
    let agent = world.agent();
    agent.hear(&view(1, PRIMARY, PRIMARY_PORT)).await;
    let driver = crate::testing::Driver::new();
    let steps = crate::testing::backup_steps()[..4].to_vec();
    driver.steps(&agent, steps).await;
    let mut reconciler = Reconciler::default();
    for _ in 0..3 {
        reconciler.look(&agent.tablet).await.unwrap();
    }
    assert!(!world.engine.server().running);
}

#[tokio::test]
async fn i3_what_was_reached_under_one_primary_does_not_count_under_the_next() {
    let world = World::new().await;
    let agent = world.agent();
    let mut reconciler = Reconciler::default();
    agent.hear(&view(2, ALIAS, PORT)).await;
    reconciler.look(&agent.tablet).await.unwrap();
    assert!(agent.tablet.live.has_caught_up());
    // It was away while another reigned, which is far ahead by now.
    world
        .engine
        .server()
        .others
        .extend([(3103, position("0-3-99"))]);
    world.hang("wait_for");
    agent.hear(&view(3, "zone1-103", 3103)).await;
    let look = reconciler.look(&agent.tablet);
    let _ = tokio::time::timeout(std::time::Duration::from_millis(300), look).await;
    assert!(!agent.tablet.live.has_caught_up());
}

#[tokio::test]
async fn i3_a_change_of_source_that_is_broken_off_is_not_taken_for_a_stop_by_hand() {
    let world = World::new().await;
    let agent = world.agent();
    let mut reconciler = Reconciler::default();
    agent.hear(&view(1, PRIMARY, PRIMARY_PORT)).await;
    reconciler.look(&agent.tablet).await.unwrap();
    world
        .engine
        .server()
        .others
        .insert(3103, position("0-3-20"));
    // It is stopped, and then the server refuses to be pointed elsewhere.
    world
        .engine
        .server()
        .failing
        .insert("replicate_from".into());
    agent.hear(&view(2, "zone1-103", 3103)).await;
    reconciler.look(&agent.tablet).await.unwrap_err();
    world.engine.server().replication.running = false;
    world.engine.server().replication.wanted = false;
    world.mend();
    // Also by the next process.
    drop(agent);
    let agent = world.agent();
    agent.hear(&view(2, "zone1-103", 3103)).await;
    Reconciler::default().look(&agent.tablet).await.unwrap();
    let replication = world.engine.server().replication.clone();
    assert_eq!(replication.source.unwrap().port, 3103);
    assert!(replication.running);
}

#[tokio::test]
async fn i4_a_database_without_the_history_of_its_epoch_is_not_opened() {
    let world = World::new().await;
    let agent = world.agent();
    let mut view = view(2, ALIAS, PORT);
    let reconcile = async |view: &seawall_proto::v1::ShardView| {
        agent.hear(view).await;
        Reconciler::default().look(&agent.tablet).await
    };
    if let Some(epoch) = &mut view.epoch {
        epoch.start_position = "0-1-11".into();
    }
    let error = reconcile(&view).await.unwrap_err();
    assert!(error.message().contains("0-1-11"), "{error}");
    assert!(world.engine.server().read_only);
    if let Some(epoch) = &mut view.epoch {
        epoch.start_position = "0-1-10".into();
    }
    reconcile(&view).await.unwrap();
    assert!(!world.engine.server().read_only);
}
