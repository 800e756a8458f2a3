use std::time::Duration;

use seawall_proto::v1::{self, OperationState as Known, operation_spec::Spec};

use super::*;
use crate::{
    execute::Answer,
    journal::{OperationState, Step},
    testing::{
        Agent, Driver, PATIENCE, ROWS, World, backup_name, backup_steps, is_done, position,
        restore_steps,
    },
};

/// A repository with one complete backup; answers its manifest's hash.
pub(crate) async fn with_backup(world: &World) -> String {
    world.engine.fill(ROWS);
    world.engine.run_as_replica(crate::testing::PRIMARY_PORT);
    {
        let mut server = world.engine.server();
        server.position = position("0-1-10");
        server
            .others
            .insert(crate::testing::PRIMARY_PORT, position("0-1-20"));
    }
    let agent = world.agent();
    let driver = Driver::new();
    let answer = driver.steps(&agent, backup_steps()[..5].to_vec()).await;
    let Answer::Done(outcome) = answer else {
        panic!("{answer:?}")
    };
    assert!(is_done(
        &driver.steps(&agent, backup_steps()[5..].to_vec()).await
    ));
    drop(agent);
    // The machine is lost; another one takes its place.
    std::fs::remove_dir_all(&world.engine.data_dir).unwrap();
    std::fs::remove_dir_all(world.path("state")).unwrap();
    *world.engine.server() = Default::default();
    world
        .engine
        .server()
        .others
        .insert(crate::testing::PRIMARY_PORT, position("0-1-20"));
    outcome.backup.unwrap().manifest_hash
}

fn restoring(mut world: World) -> World {
    world.flags = vec!["--restore-from-backup".into()];
    world
}

/// Drives the restore that the agent asked for, as a coordinator would.
async fn serve_restore(world: &World, agent: &Agent, steps: usize, hash: &str) -> Driver {
    agent
        .until("asked for", |_| {
            !world.coordinator.notes().started.is_empty()
        })
        .await;
    let request = world.coordinator.notes().started[0].clone();
    let spec = request.spec.and_then(|spec| spec.spec);
    assert!(
        matches!(&spec, Some(Spec::Restore(restore)) if restore.empty_start),
        "{spec:?}"
    );
    tell(world, &request.id, Known::Running, "");
    let driver = Driver {
        id: request.id.parse().unwrap(),
        ..Driver::new()
    };
    driver
        .steps(agent, restore_steps(hash)[..steps].to_vec())
        .await;
    driver
}

fn tell(world: &World, id: &str, state: Known, backup: &str) {
    let operation = v1::Operation {
        id: id.into(),
        state: state.into(),
        backup: backup.into(),
        error: "it has failed".into(),
        ..Default::default()
    };
    world
        .coordinator
        .notes()
        .operations
        .insert(id.into(), operation);
}

#[tokio::test]
async fn an_empty_tablet_is_restored_on_the_coordinators_word() {
    let world = restoring(World::empty().await);
    let hash = with_backup(&world).await;
    let agent = world.agent();
    agent.tablet.live.set_registered(1);
    let serve = async {
        let driver = serve_restore(&world, &agent, 7, &hash).await;
        tell(
            &world,
            &driver.id.to_string(),
            Known::Succeeded,
            backup_name().as_str(),
        );
        driver
    };
    let settled = settle(&agent.tablet, &agent.executor);
    let ((), driver) = tokio::join!(settled, serve);
    assert_eq!(agent.operation(driver.id).state, OperationState::Done);
    assert_eq!(world.engine.rows().unwrap(), ROWS);
    let server = world.engine.server();
    assert_eq!(server.adopted, [position("0-1-10")]);
    assert_eq!(server.position, position("0-1-20"));
    assert!(server.running && server.replication.running);
}

#[tokio::test]
async fn a_shard_without_any_backup_starts_empty_and_only_if_told_to() {
    for initialize in [false, true] {
        let mut world = restoring(World::empty().await);
        world.flags.push(format!("--initialize={initialize}"));
        let agent = world.agent();
        agent.hear(&seawall_proto::v1::ShardView::default()).await;
        agent.tablet.live.set_registered(1);
        let serve = async {
            let driver = serve_restore(&world, &agent, 0, "").await;
            tell(&world, &driver.id.to_string(), Known::Succeeded, "");
        };
        tokio::join!(settle(&agent.tablet, &agent.executor), serve);
        assert_eq!(world.has_called("initialize"), initialize);
    }
}

#[tokio::test]
async fn a_restore_that_fails_is_no_empty_start() {
    let mut world = restoring(World::empty().await);
    world.flags.push("--initialize".into());
    let agent = world.agent();
    agent.tablet.live.set_registered(1);
    let serve = async {
        let driver = serve_restore(&world, &agent, 0, "").await;
        tell(&world, &driver.id.to_string(), Known::Failed, "");
        let trouble = |agent: &Agent| agent.tablet.live.trouble().contains("it has failed");
        agent.until("said", trouble).await;
    };
    let settled = settle(&agent.tablet, &agent.executor);
    tokio::select! {
        () = settled => panic!("it started without data"),
        () = serve => {}
    }
    assert!(!world.has_called("initialize"));
}

#[tokio::test]
async fn i10_a_primary_whose_data_is_gone_gets_no_empty_database_in_its_place() {
    let mut world = World::empty().await;
    world.flags.push("--initialize".into());
    let agent = world.agent();
    agent
        .hear(&crate::testing::view(
            2,
            crate::testing::ALIAS,
            crate::testing::PORT,
        ))
        .await;
    let trouble = |agent: &Agent| agent.tablet.live.trouble().contains("its data is gone");
    tokio::select! {
        () = settle(&agent.tablet, &agent.executor) => panic!("it started without data"),
        () = agent.until("said", trouble) => {}
    }
    assert!(!world.has_called("initialize"));
}

#[tokio::test]
async fn user_data_is_never_touched_and_without_the_setting_nothing_is_restored() {
    let world = restoring(World::new().await);
    let agent = world.agent();
    settle(&agent.tablet, &agent.executor).await;
    assert!(world.coordinator.notes().started.is_empty());
    assert_eq!(world.engine.rows().unwrap(), ROWS);

    let world = World::empty().await;
    let agent = world.agent();
    settle(&agent.tablet, &agent.executor).await;
    assert!(world.coordinator.notes().started.is_empty());
    assert!(!world.engine.data_dir.exists());
}

#[tokio::test]
async fn data_that_appears_while_a_restore_is_fetched_is_not_replaced() {
    let world = restoring(World::empty().await);
    let hash = with_backup(&world).await;
    let agent = world.agent();
    agent.tablet.live.set_registered(1);
    let serve = async {
        let driver = serve_restore(&world, &agent, 2, &hash).await;
        world.engine.fill(b"somebody's rows");
        let answer = driver.step(&agent, crate::call::StepCall::Install).await;
        assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
        assert!(is_done(&driver.put_back(&agent, false).await));
    };
    tokio::select! {
        () = settle(&agent.tablet, &agent.executor) => panic!("settled"),
        () = serve => {}
    }
    assert_eq!(world.engine.rows().unwrap(), b"somebody's rows");
}

#[test]
fn i6_a_restore_cut_off_leaves_nothing_that_looks_restored_and_begins_again() {
    // Killed while fetching (the directory is there), and between the renames.
    for (killed_in, steps) in [(Step::Fetch, 2), (Step::Install, 3)] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let world = restoring(runtime.block_on(World::empty()));
        let hash = runtime.block_on(with_backup(&world));
        let driver = Driver::new();
        let expected = hash.clone();
        world.run_and_kill(
            |agent| async move {
                driver
                    .steps(&agent, restore_steps(&expected)[..steps].to_vec())
                    .await;
                std::future::pending::<()>().await;
            },
            |world| {
                crate::journal::Journal::open(&world.path("state")).is_ok_and(|journal| {
                    journal
                        .read()
                        .operation(driver.id)
                        .is_some_and(|operation| operation.has_done(killed_in))
                })
            },
        );
        runtime.block_on(async {
            forget_step(&world, driver, killed_in).await;
            let agent = world.agent();
            recover(&agent.tablet, &agent.executor).await.unwrap();
            agent.until_free().await;
            assert!(!world.engine.data_dir.exists(), "{killed_in:?}");
            assert!(!world.has_called("start"), "{killed_in:?}");
            let late = driver.step(&agent, crate::call::StepCall::Install).await;
            assert!(matches!(late, Answer::Undone(_)), "{late:?}");
            // What was fetched is there yet, and nothing of it is fetched again.
            let again = Driver::new();
            let fetched = again
                .steps(&agent, restore_steps(&hash)[..2].to_vec())
                .await;
            let Answer::Done(fetched) = fetched else {
                panic!("{fetched:?}")
            };
            assert!(fetched.note.contains("in 0 requests"), "{}", fetched.note);
            let rest = restore_steps(&hash)[2..].to_vec();
            assert!(is_done(&again.steps(&agent, rest).await));
            assert_eq!(world.engine.rows().unwrap(), ROWS);
            assert_nothing_is_left(&world);
        });
    }
}

fn assert_nothing_is_left(world: &World) {
    for left in [
        "data.seawall-old",
        "data.seawall-restore",
        "data.seawall-restore.json",
    ] {
        assert!(!world.path(left).exists(), "{left}");
    }
}

/// As if the agent had died before it journaled the step's result.
async fn forget_step(world: &World, driver: Driver, step: Step) {
    let agent = world.agent();
    let id = driver.id;
    let forgotten = agent.tablet.journal.update(move |contents| {
        contents.operation_mut(id)?.begin(step);
        Ok(())
    });
    forgotten.await.unwrap();
}

#[tokio::test]
async fn i6_a_damaged_pack_is_named_and_leaves_no_directory() {
    let world = World::empty().await;
    let hash = with_backup(&world).await;
    let packs = world.path("repository/keyspaces/commerce/0/packs");
    let pack = walkdir::WalkDir::new(packs)
        .into_iter()
        .filter_map(Result::ok)
        .find(|entry| {
            entry.file_type().is_file()
                && entry.path().parent().unwrap().file_name() != Some("keys".as_ref())
        })
        .unwrap();
    let mut bytes = std::fs::read(pack.path()).unwrap();
    // In the first chunk.
    bytes[80] ^= 1;
    std::fs::write(pack.path(), bytes).unwrap();
    let agent = world.agent();
    let driver = Driver::new();
    let error = crate::testing::error_of(
        driver
            .steps(&agent, restore_steps(&hash)[..2].to_vec())
            .await,
    );
    let name = pack.file_name().to_string_lossy();
    assert!(error.to_string().contains(&*name), "{error}");
    assert!(!world.path("data.seawall-restore").exists());
    assert!(!world.engine.data_dir.exists());
}

#[tokio::test]
async fn i6_another_manifest_than_the_catalogues_is_not_restored() {
    let world = World::empty().await;
    with_backup(&world).await;
    let agent = world.agent();
    let other = "0".repeat(64);
    let answer = Driver::new()
        .steps(&agent, restore_steps(&other)[..2].to_vec())
        .await;
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    assert!(!world.path("data.seawall-restore").exists());
}

#[tokio::test]
async fn i3_a_restore_over_data_that_is_given_up_brings_the_old_data_back() {
    let world = World::empty().await;
    let hash = with_backup(&world).await;
    world.engine.fill(b"old rows");
    world.engine.run_as_replica(crate::testing::PRIMARY_PORT);
    world.engine.server().failing.insert("start".into());
    let agent = world.agent();
    let driver = Driver::new();
    let answer = driver
        .steps(&agent, restore_steps(&hash)[..4].to_vec())
        .await;
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    assert_eq!(world.engine.rows().unwrap(), ROWS);
    assert!(world.path("data.seawall-old").exists());
    world.mend();
    assert!(is_done(&driver.call_off(&agent).await));
    assert_eq!(world.engine.rows().unwrap(), b"old rows");
    assert!(world.engine.server().running);
    assert_nothing_is_left(&world);
}

#[tokio::test]
async fn with_no_coordinator_it_restores_from_the_repository_alone() {
    let mut world = restoring(World::empty().await);
    with_backup(&world).await;
    world.flags.push("--restore-alone-after=100ms".into());
    world.coordinator.notes().away = true;
    let agent = world.agent();
    tokio::time::timeout(PATIENCE, settle(&agent.tablet, &agent.executor))
        .await
        .unwrap();
    assert_eq!(world.engine.rows().unwrap(), ROWS);
    let server = world.engine.server();
    assert!(server.running && server.read_only);
    assert_eq!(server.adopted, [position("0-1-10")]);
    assert!(agent.tablet.journal.read().owner().is_none());
}

#[tokio::test]
async fn i6_restoring_alone_waits_for_an_operation_that_came_first() {
    let mut world = restoring(World::empty().await);
    with_backup(&world).await;
    world.flags.push("--restore-alone-after=500ms".into());
    world.coordinator.notes().away = true;
    let agent = world.agent();
    let driver = Driver::new();
    let come_first = async {
        let waits = |agent: &Agent| agent.tablet.live.trouble().contains("no user data");
        agent.until("waiting for a coordinator", waits).await;
        let first = driver.step(&agent, restore_steps("")[0].clone()).await;
        assert!(is_done(&first), "{first:?}");
        let heard = |agent: &Agent| {
            agent
                .tablet
                .live
                .trouble()
                .contains("has the database by now")
        };
        agent.until("waiting for the operation", heard).await;
        assert!(!world.engine.data_dir.exists());
        assert!(is_done(&driver.put_back(&agent, false).await));
    };
    let settled = tokio::time::timeout(PATIENCE, settle(&agent.tablet, &agent.executor));
    let (settled, ()) = tokio::join!(settled, come_first);
    settled.unwrap();
    assert_eq!(world.engine.rows().unwrap(), ROWS);
}

#[tokio::test]
async fn i6_what_an_earlier_restore_left_behind_is_in_nobodys_way() {
    let world = World::empty().await;
    let hash = with_backup(&world).await;
    world.engine.fill(b"old rows");
    for left in ["data.seawall-old", "data.seawall-restore"] {
        std::fs::create_dir(world.path(left)).unwrap();
        std::fs::write(world.path(left).join("left"), b"left").unwrap();
    }
    let agent = world.agent();
    let answer = Driver::new().steps(&agent, restore_steps(&hash)).await;
    assert!(is_done(&answer), "{answer:?}");
    assert_eq!(world.engine.rows().unwrap(), ROWS);
    assert!(!world.engine.data_dir.join("left").exists());
    assert_nothing_is_left(&world);
}

#[test]
fn i6_an_agent_killed_before_it_deleted_the_old_data_does_so_later() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::empty());
    let hash = runtime.block_on(with_backup(&world));
    world.engine.fill(b"old rows");
    world.hang("adopt");
    let driver = Driver::new();
    world.run_and_kill(
        |agent| async move {
            driver
                .steps(&agent, restore_steps(&hash)[..4].to_vec())
                .await;
        },
        |world| world.has_called("adopt"),
    );
    world.mend();
    assert!(world.path("data.seawall-old").exists());
    runtime.block_on(async {
        let agent = world.agent();
        recover(&agent.tablet, &agent.executor).await.unwrap();
        let reinstated = |agent: &Agent| agent.has_done(driver.id, Step::Reinstate);
        agent.until("reinstated", reinstated).await;
        assert_eq!(world.engine.rows().unwrap(), ROWS);
        assert_eq!(world.engine.server().adopted, [position("0-1-10")]);
        assert!(!world.path("data.seawall-old").exists());
    });
}

#[tokio::test]
async fn alone_with_backups_that_are_all_incomplete_is_an_error() {
    let mut world = restoring(World::empty().await);
    with_backup(&world).await;
    let manifest = world.path(&format!(
        "repository/keyspaces/commerce/0/backups/{}/manifest",
        backup_name()
    ));
    std::fs::remove_file(manifest).unwrap();
    world.flags.push("--restore-alone-after=10ms".into());
    world.flags.push("--initialize".into());
    world.coordinator.notes().away = true;
    let agent = world.agent();
    let settled = settle(&agent.tablet, &agent.executor);
    assert!(
        tokio::time::timeout(Duration::from_secs(2), settled)
            .await
            .is_err()
    );
    let trouble = agent.tablet.live.trouble();
    assert!(trouble.contains("incomplete"), "{trouble}");
    assert!(!world.has_called("initialize"));
}

#[tokio::test]
async fn i3_a_demoted_primary_whose_machine_was_booted_is_started_while_the_change_goes_on() {
    let world = World::new().await;
    let agent = world.agent();
    let us = crate::testing::view(2, crate::testing::ALIAS, crate::testing::PORT);
    agent.hear(&us).await;
    let driver = Driver::new();
    let demoted = driver.step(&agent, crate::call::StepCall::Demote).await;
    assert!(is_done(&demoted), "{demoted:?}");
    drop(agent);
    world.engine.server().running = false;
    let agent = world.agent();
    recover(&agent.tablet, &agent.executor).await.unwrap();
    tokio::time::timeout(PATIENCE, settle(&agent.tablet, &agent.executor))
        .await
        .unwrap();
    let mut reconciler = crate::reconcile::Reconciler::default();
    reconciler.look(&agent.tablet).await.unwrap();
    let server = world.engine.server();
    assert!(server.running && server.read_only);
}
