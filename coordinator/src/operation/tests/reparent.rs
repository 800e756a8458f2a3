//! Orderly changes of primary.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_planned_reparenting_closes_the_old_primary_before_it_opens_the_new_one() {
    let stage = Stage::new(Cluster::with_primary());
    let id = stage.start(reparent_to("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let calls: Vec<_> = stage
        .calls()
        .into_iter()
        .map(|call| format!("{} {}", call.tablet, call.step))
        .collect();
    assert_eq!(
        calls,
        [
            "zone1-102 read_position",
            "zone1-100 demote",
            "zone1-102 reach_position",
            "zone1-102 promote",
            "zone1-100 put_back"
        ]
    );
    assert_eq!(done(&stage), ["epoch 2 of zone1-102"]);
    assert_eq!(
        ended.result,
        "zone1-102 is the primary of commerce/0, epoch 2"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reparenting_that_fails_before_the_new_epoch_opens_the_old_primary_again() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("reach_position", Does::Fail);
    let id = stage.start(reparent_to("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let last = stage.calls().pop().unwrap();
    assert_eq!(
        (last.tablet.as_str(), last.step.as_str()),
        ("zone1-100", "reopen")
    );
    assert_eq!(type_of(&stage, "zone1-100"), TabletType::Primary);
    assert_eq!(stage.look(|s| s.topology.line(&shard()).len()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_keeps_no_primary_from_opening() {
    let stage = Stage::new(Cluster::with_primary());
    *stage.store.failures.lock().unwrap() = 5;
    let id = stage.start(reparent_to("zone1-102")).await;
    stage.called("promote").await;
    assert!(done(&stage).is_empty());
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
    assert_eq!(done(&stage), ["epoch 2 of zone1-102"]);
}

#[tokio::test(start_paused = true)]
async fn that_an_agent_cannot_be_called_is_said_while_it_is_tried_again() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("read_position", Does::BreakTimes(3, Duration::ZERO));
    let id = stage.start(reparent_to("zone1-102")).await;
    stage
        .until(|| {
            stage
                .said(id)
                .starts_with("waits for the agent of zone1-102: ")
        })
        .await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
}
