//! What a restore leaves behind, and for how long.

use std::time::{Duration, SystemTime};

use seawall_common::{ErrorKind, repository::StoredState};

use super::*;
use crate::{
    execute::Answer,
    job::plan_fetch,
    startup::tests::with_backup,
    testing::{Agent, Driver, ROWS, World, backup_name, is_done, restore_steps},
};

const FOR_LONG: Duration = Duration::from_secs(60);

/// Fetches, and then gives up as after a failure.
async fn fetch_and_fail(world: &World, hash: &str) -> Agent {
    let agent = world.agent();
    let driver = Driver::new();
    fetch(&agent, driver, hash).await;
    assert!(is_done(&driver.put_back(&agent, false).await));
    assert!(
        world
            .path("data.seawall-restore/commerce/orders.ibd")
            .exists()
    );
    agent
}

/// What the step of a restore that fetches says of itself.
async fn fetch(agent: &Agent, driver: Driver, hash: &str) -> String {
    let steps = restore_steps(hash)[..2].to_vec();
    match driver.steps(agent, steps).await {
        Answer::Done(outcome) => outcome.note,
        other => panic!("{other:?}"),
    }
}

fn is_left(world: &World) -> bool {
    let directory = world.path("data.seawall-restore").exists();
    let marker = world.path("data.seawall-restore.json").exists();
    assert!(marker || !directory, "a directory of which nothing is said");
    directory
}

fn set_marker(world: &World, field: &str, value: serde_json::Value) {
    let path = world.path("data.seawall-restore.json");
    let text = std::fs::read(&path).unwrap();
    let mut marker: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert!(
        marker[field] != serde_json::Value::Null,
        "no {field}: {marker}"
    );
    marker[field] = value;
    std::fs::write(&path, marker.to_string()).unwrap();
}

#[tokio::test]
async fn after_a_failure_what_was_fetched_stays_and_after_a_cancellation_it_goes() {
    let world = World::empty().await;
    let hash = with_backup(&world).await;
    let agent = fetch_and_fail(&world, &hash).await;
    let driver = Driver::new();
    let note = fetch(&agent, driver, &hash).await;
    assert!(note.contains("in 0 requests"), "{note}");
    assert!(is_done(&driver.call_off(&agent).await));
    assert!(!is_left(&world));
    assert!(!world.engine.data_dir.exists());
}

#[tokio::test]
async fn i6_of_what_another_backup_has_left_nothing_stays() {
    let world = World::empty().await;
    let hash = with_backup(&world).await;
    let agent = fetch_and_fail(&world, &hash).await;
    set_marker(&world, "manifest_hash", "0".repeat(64).into());
    let stranger = world.path("data.seawall-restore/commerce/stranger.ibd");
    std::fs::write(&stranger, b"x").unwrap();
    let note = fetch(&agent, Driver::new(), &hash).await;
    assert!(!note.contains("in 0 requests"), "{note}");
    assert!(!stranger.exists());
}

#[tokio::test]
async fn i6_what_was_altered_in_what_is_left_is_fetched_again() {
    let world = World::empty().await;
    let hash = with_backup(&world).await;
    let agent = fetch_and_fail(&world, &hash).await;
    let file = world.path("data.seawall-restore/commerce/orders.ibd");
    std::fs::write(&file, vec![b'x'; ROWS.len()]).unwrap();
    let note = fetch(&agent, Driver::new(), &hash).await;
    assert!(note.contains("in 1 requests"), "{note}");
    assert_eq!(std::fs::read(&file).unwrap(), ROWS);
}

#[tokio::test]
async fn what_nobody_goes_on_with_is_deleted_in_its_time_and_never_under_a_restore() {
    let mut world = World::empty().await;
    world.flags.push("--partial-restore-kept=60s".into());
    let hash = with_backup(&world).await;
    let agent = fetch_and_fail(&world, &hash).await;
    let age = |ago: Duration| {
        let marker = world.path("data.seawall-restore.json");
        let marker = std::fs::File::options().write(true).open(marker);
        let touched = SystemTime::now() - ago;
        marker.unwrap().set_modified(touched).unwrap();
    };
    age(FOR_LONG / 2);
    discard_old(&agent.tablet).await.unwrap();
    assert!(is_left(&world), "it was young");

    let driver = Driver::new();
    fetch(&agent, driver, &hash).await;
    age(FOR_LONG);
    discard_old(&agent.tablet).await.unwrap();
    assert!(is_left(&world), "a restore was under way");
    assert!(is_done(&driver.put_back(&agent, false).await));
    let by_hand = Locked::take(&world.engine.data_dir).unwrap();
    discard_old(&agent.tablet).await.unwrap();
    assert!(is_left(&world), "somebody restores there by hand");
    drop(by_hand);
    discard_old(&agent.tablet).await.unwrap();
    assert!(!is_left(&world), "nobody has gone on with it");

    // Of which nothing is said: nobody would go on with it.
    std::fs::create_dir(world.path("data.seawall-restore")).unwrap();
    discard_old(&agent.tablet).await.unwrap();
    assert!(!is_left(&world));
}

#[tokio::test]
async fn what_the_replaced_data_holds_is_copied_and_planned() {
    let world = World::empty().await;
    let hash = with_backup(&world).await;
    world.engine.fill(b"old rows");
    world.engine.run_as_replica(crate::testing::PRIMARY_PORT);
    let agent = world.agent();
    let plan = async || plan_fetch(&agent.tablet, &backup_name(), &hash, FOR_LONG).await;
    let planned = plan().await.unwrap();
    let system = b"system".len() as u64;
    assert_eq!(planned.copied_bytes, system);
    assert_eq!(planned.missing_bytes, ROWS.len() as u64);
    assert_eq!(planned.requests, 1);
    assert!(!planned.upper_bound && planned.space[0].needed_bytes > 0);
    assert!(!is_left(&world), "a plan changes nothing");
    let driver = Driver::new();
    let note = fetch(&agent, driver, &hash).await;
    assert!(note.contains(&format!("{system} were copied")), "{note}");
    assert!(note.contains("in 1 requests"), "{note}");
    assert!(world.engine.server().running, "it runs until the install");
    let error = plan().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "a restore is under way");
    assert!(is_done(&driver.put_back(&agent, false).await));
    let planned = plan().await.unwrap();
    assert_eq!((planned.missing_bytes, planned.requests), (0, 0));
    assert_eq!(planned.resumed_bytes, planned.data_bytes);
    let other = plan_fetch(&agent.tablet, &backup_name(), &"0".repeat(64), FOR_LONG).await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(matches!(
        world.stored().await,
        Some(StoredState::Complete { .. })
    ));
}

#[tokio::test]
async fn while_anything_has_the_database_the_engine_is_not_asked_for_its_roots() {
    let world = World::new().await;
    let agent = world.agent();
    let driver = Driver::new();
    let steps = crate::testing::backup_steps()[..2].to_vec();
    assert!(is_done(&driver.steps(&agent, steps).await));
    std::fs::create_dir(world.path("data.seawall-restore")).unwrap();
    discard_old(&agent.tablet).await.unwrap();
    assert!(world.path("data.seawall-restore").exists());
    assert!(!world.has_called("roots"), "{:?}", world.calls());
    assert!(is_done(&driver.put_back(&agent, true).await));
    discard_old(&agent.tablet).await.unwrap();
    assert!(!is_left(&world));
    // As it was last read.
    assert!(!world.has_called("roots"), "{:?}", world.calls());
}
