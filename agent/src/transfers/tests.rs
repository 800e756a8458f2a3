use seawall_proto::v1::{Nothing, set_throttle_request::Limit};

use super::{limit, report, set_limit};
use crate::testing::{ALIAS, World};

#[tokio::test]
async fn a_limit_holds_at_once_and_outlives_the_agent_until_it_is_taken_back() {
    let mut world = World::new().await;
    world.flags = vec!["--transfer-limit=5MB".into()];
    let agent = world.agent();
    let throttle = async || agent.tablet.repository().await.unwrap().throttle().limit();
    assert_eq!(throttle().await, Some(5_000_000));
    set_limit(&agent.tablet, Some(Limit::BytesPerSecond(0)))
        .await
        .unwrap();
    assert_eq!(throttle().await, Some(0));
    set_limit(&agent.tablet, Some(Limit::Unlimited(Nothing {})))
        .await
        .unwrap();
    assert_eq!(throttle().await, None);
    drop(agent);

    let agent = world.agent();
    assert_eq!(limit(&agent.tablet), None);
    // Before the repository is opened for the first time.
    set_limit(&agent.tablet, Some(Limit::BytesPerSecond(7)))
        .await
        .unwrap();
    let throttle = async || agent.tablet.repository().await.unwrap().throttle().limit();
    assert_eq!(throttle().await, Some(7));
    set_limit(&agent.tablet, Some(Limit::Configured(Nothing {})))
        .await
        .unwrap();
    assert_eq!(throttle().await, Some(5_000_000));
    let refused = set_limit(&agent.tablet, None).await.unwrap_err();
    assert!(refused.message().contains("no limit"), "{refused}");
}

#[tokio::test]
async fn an_idle_agent_reports_its_limit_and_nothing_at_work() {
    let mut world = World::new().await;
    world.flags = vec!["--transfer-limit=0".into()];
    let agent = world.agent();
    let told = report(&agent.tablet, &agent.executor);
    assert_eq!(told.alias, ALIAS);
    assert_eq!(told.limit_bytes_per_second, Some(0));
    assert!(!told.limit_was_set && told.transfers.is_empty());
    let metrics = agent.tablet.metrics.render(&agent.tablet).unwrap();
    assert!(
        metrics.contains("seawall_agent_transfer_limit_bytes_per_second 0"),
        "{metrics}"
    );
}
