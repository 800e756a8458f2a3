//! What backups leave behind when they are cut off, called off or refused, at each of their steps.

use std::time::Duration;

use seawall_common::{ErrorKind, repository::StoredState};

use crate::{
    call::{Action, StepCall},
    execute::Answer,
    journal::{OperationState, Step},
    reconcile::Reconciler,
    startup::recover,
    testing::{
        ALIAS, Agent, Driver, PORT, PRIMARY_PORT, ROWS, World, backup_name, backup_steps, copy,
        error_of, is_done, position, view,
    },
};

/// The methods in which a step can be caught, and how many commands come before.
const PLACES: &[(&str, usize)] = &[
    ("flags", 3),
    ("copy_set", 3),
    ("stop_replication", 4),
    ("stop", 4),
    ("guard_check", 5),
    ("start", 6),
    ("restore_flags", 7),
    ("replicate_from", 7),
    ("position_of", 8),
    ("wait_for", 8),
];

/// Kills an agent that is in the middle of `method` of a backup.
fn kill_in(world: &World, method: &str, commands: usize) -> Driver {
    let driver = Driver::new();
    world.hang(method);
    world.run_and_kill(
        |agent| async move {
            driver
                .steps(&agent, backup_steps()[..commands].to_vec())
                .await;
            std::future::pending::<()>().await;
        },
        |world| world.has_called(method),
    );
    world.mend();
    driver
}

async fn recovered(world: &World) -> Agent {
    let agent = world.agent();
    recover(&agent.tablet, &agent.executor).await.unwrap();
    agent
}

/// I3: running, with its flags, replicating from the primary.
fn assert_back(world: &World, place: &str) {
    let server = world.engine.server();
    assert!(server.running, "{place}: not running");
    assert!(server.replication.running, "{place}: not replicating");
    let port = server.replication.source.as_ref().unwrap().port;
    assert_eq!(port, PRIMARY_PORT, "{place}");
    assert_eq!(server.variables[0].1, "ON", "{place}");
}

#[test]
fn i3_killed_in_any_step_the_database_comes_back() {
    for (method, commands) in PLACES {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let world = runtime.block_on(World::new());
        let driver = kill_in(&world, method, *commands);
        runtime.block_on(async {
            let agent = recovered(&world).await;
            let is_complete = agent.has_done_copy(driver);
            if is_complete {
                agent
                    .until("reinstated", |agent| {
                        agent.has_done(driver.id, Step::Reinstate)
                    })
                    .await;
            } else {
                agent.until_free().await;
            }
            assert_back(&world, method);
            assert_eq!(is_complete, *commands > 5, "{method}");
            let complete = matches!(world.stored().await, Some(StoredState::Complete { .. }));
            assert_eq!(complete, is_complete, "{method}");
            // The next operation is taken, or the old one carried on.
            if is_complete {
                let newer = Driver { term: 6, ..driver };
                let rest = backup_steps()[5..].to_vec();
                assert!(is_done(&newer.steps(&agent, rest).await), "{method}");
            } else {
                let answer = driver.step(&agent, StepCall::Note).await;
                assert!(matches!(answer, Answer::Undone(_)), "{method}: {answer:?}");
                let next = Driver::new();
                let first = backup_steps()[..3].to_vec();
                assert!(is_done(&next.steps(&agent, first).await), "{method}");
            }
        });
    }
}

impl Agent {
    fn has_done_copy(&self, driver: Driver) -> bool {
        self.has_done(driver.id, Step::Copy)
    }
}

#[test]
fn i2_a_copy_cut_off_is_marked_removed_before_anything_else() {
    for hang_in_announcement in [false, true] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let world = runtime.block_on(World::new());
        let driver = Driver::new();
        match hang_in_announcement {
            true => world.coordinator.notes().hang_announcements = true,
            false => world.hang("guard_check"),
        }
        world.run_and_kill(
            |agent| async move {
                driver.steps(&agent, backup_steps()[..5].to_vec()).await;
                std::future::pending::<()>().await;
            },
            |world| match hang_in_announcement {
                true => !world.coordinator.notes().announced.is_empty(),
                false => world.has_called("guard_check"),
            },
        );
        world.mend();
        world.coordinator.notes().hang_announcements = false;
        runtime.block_on(async {
            let agent = recovered(&world).await;
            agent.until_free().await;
            assert!(matches!(
                world.stored().await,
                Some(StoredState::Removed { .. })
            ));
            assert_eq!(world.engine.server().saw_at_start, [true]);
            assert_back(&world, "copy");
        });
    }
}

#[test]
fn i2_a_manifest_that_was_put_before_the_agent_died_is_found_complete() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    let driver = Driver::new();
    world.run_and_kill(
        |agent| async move {
            driver.steps(&agent, backup_steps()[..5].to_vec()).await;
            std::future::pending::<()>().await;
        },
        |world| journal_has_copy(world, driver),
    );
    // As if the agent had died after the put and before it journaled the result.
    runtime.block_on(async {
        let agent = world.agent();
        let id = driver.id;
        let forget = agent.tablet.journal.update(move |contents| {
            contents.operation_mut(id)?.begin(Step::Copy);
            Ok(())
        });
        forget.await.unwrap();
        assert!(!agent.has_done(id, Step::Copy));
        drop(agent);
        let agent = recovered(&world).await;
        let Answer::Done(outcome) = driver.step(&agent, copy()).await else {
            panic!("not recorded as done")
        };
        assert_eq!(outcome.backup.unwrap().name, backup_name());
        assert!(matches!(
            world.stored().await,
            Some(StoredState::Complete { .. })
        ));
    });
}

fn journal_has_copy(world: &World, driver: Driver) -> bool {
    crate::journal::Journal::open(&world.path("state"))
        .unwrap()
        .read()
        .operation(driver.id)
        .is_some_and(|operation| operation.has_done(Step::Copy))
}

#[tokio::test]
async fn i3_replication_that_was_stopped_stays_stopped() {
    let world = World::new().await;
    world.engine.server().replication.running = false;
    world.engine.server().replication.wanted = false;
    let agent = world.agent();
    let driver = Driver::new();
    let steps = backup_steps();
    let Answer::Done(noted) = driver.steps(&agent, steps[..3].to_vec()).await else {
        panic!("not noted")
    };
    assert!(noted.replication_was_stopped);
    assert!(is_done(&driver.steps(&agent, steps[3..].to_vec()).await));
    let wanted = world.engine.server().replication.wanted;
    assert!(!wanted && !world.has_called("position_of"));
    // Nor does reconciling start it, however long it looks.
    for _ in 0..5 {
        Reconciler::default().look(&agent.tablet).await.unwrap();
    }
    assert!(!world.engine.server().replication.wanted);
}

#[tokio::test]
async fn i3_a_tablet_promoted_while_it_is_backed_up_is_not_demoted() {
    let world = World::new().await;
    world.engine.server().stuck = true;
    let agent = world.agent();
    let driver = Driver::new();
    assert!(is_done(
        &driver.steps(&agent, backup_steps()[..7].to_vec()).await
    ));
    let promotion = async {
        agent.until("waits", |_| world.has_called("wait_for")).await;
        let mut call = Driver::new().call(Action::Run(StepCall::Promote));
        call.view = view(2, ALIAS, PORT);
        agent.executor.execute(call).await.unwrap().end().await
    };
    let catching_up = driver.step(&agent, StepCall::CatchUp { no_wait: false });
    let (caught_up, promoted) = tokio::join!(catching_up, promotion);
    assert!(is_done(&promoted), "{promoted:?}");
    assert!(is_done(&caught_up), "{caught_up:?}");
    assert!(is_done(&driver.step(&agent, StepCall::Serve).await));
    Reconciler::default().look(&agent.tablet).await.unwrap();
    assert_leads(&world);

    // Nor does putting a backup back demote it.
    let next = Driver {
        term: 6,
        ..Driver::new()
    };
    agent.hear(&view(2, ALIAS, PORT)).await;
    let prepare = StepCall::Prepare {
        backup: "2026-11-22.031500.zone1-102".parse().unwrap(),
        may_refer_to: Vec::new(),
    };
    assert!(is_done(&next.step(&agent, prepare).await));
    assert!(is_done(
        &next.steps(&agent, backup_steps()[1..4].to_vec()).await
    ));
    assert!(is_done(&next.put_back(&agent, true).await));
    assert_leads(&world);
}

fn assert_leads(world: &World) {
    let server = world.engine.server();
    assert!(server.running && !server.read_only && !server.replication.configured);
}

#[tokio::test]
async fn a_goal_belongs_to_its_epoch() {
    let world = World::new().await;
    world.engine.server().others.extend([
        (PRIMARY_PORT, position("0-1-500")),
        (3103, position("0-3-40")),
    ]);
    // The old primary tells its position, and is gone before it is reached.
    world.engine.server().failing.insert("wait_for".into());
    let agent = world.agent();
    let driver = Driver::new();
    assert!(is_done(
        &driver.steps(&agent, backup_steps()[..7].to_vec()).await
    ));
    let change = async {
        agent.until("waits", |_| world.has_called("wait_for")).await;
        agent.hear(&view(2, "zone1-103", 3103)).await;
        world.mend();
    };
    let (answer, ()) = tokio::join!(
        driver.step(&agent, StepCall::CatchUp { no_wait: false }),
        change
    );
    let Answer::Done(outcome) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(outcome.position, Some(position("0-3-40")));
    let server = world.engine.server();
    assert_eq!(server.replication.source.as_ref().unwrap().port, 3103);
}

#[tokio::test]
async fn with_no_primary_to_be_reached_it_waits_and_does_not_serve() {
    let world = World::new().await;
    world.engine.server().others.clear();
    let agent = world.agent();
    let driver = Driver::new();
    assert!(is_done(
        &driver.steps(&agent, backup_steps()[..7].to_vec()).await
    ));
    let catch_up = driver.step(&agent, StepCall::CatchUp { no_wait: false });
    assert!(
        tokio::time::timeout(Duration::from_millis(300), catch_up)
            .await
            .is_err()
    );
    assert!(!agent.tablet.live.has_caught_up());
    assert!(crate::status::serving(&agent.tablet).is_err());
}

#[tokio::test]
async fn a_refused_announcement_puts_no_manifest() {
    let world = World::new().await;
    world.coordinator.notes().refuse_announcements = true;
    let agent = world.agent();
    let driver = Driver::new();
    let error = error_of(driver.steps(&agent, backup_steps()[..5].to_vec()).await);
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let stored = world.stored().await;
    assert!(
        matches!(stored, Some(StoredState::Incomplete)),
        "{stored:?}"
    );
    assert!(is_done(&driver.put_back(&agent, true).await));
    assert!(matches!(
        world.stored().await,
        Some(StoredState::Removed { .. })
    ));
    assert_back(&world, "announce");
}

#[tokio::test]
async fn i2_a_copy_called_off_is_marked_removed_and_the_database_comes_back() {
    let world = World::new().await;
    world.coordinator.notes().away = true;
    let agent = world.agent();
    let driver = Driver::new();
    let steps = backup_steps();
    assert!(is_done(&driver.steps(&agent, steps[..4].to_vec()).await));
    let undo = async {
        let announcing = |agent: &Agent| agent.operation(driver.id).facts.announced.is_some();
        agent.until("copied", announcing).await;
        driver.put_back(&agent, true).await
    };
    let (copied, undone) = tokio::join!(driver.step(&agent, copy()), undo);
    assert!(matches!(copied, Answer::Undone(_)), "{copied:?}");
    assert!(is_done(&undone));
    assert!(matches!(
        world.stored().await,
        Some(StoredState::Removed { .. })
    ));
    assert_eq!(world.engine.server().saw_at_start, [true]);
    assert_back(&world, "copy");
}

#[tokio::test]
async fn i3_a_database_that_does_not_start_is_tried_until_it_does() {
    let world = World::new().await;
    let agent = world.agent();
    let driver = Driver::new();
    assert!(is_done(
        &driver.steps(&agent, backup_steps()[..4].to_vec()).await
    ));
    world.engine.server().failing.insert("start".into());
    let mend = async {
        agent.until("tried", |_| world.has_called("start")).await;
        assert!(!agent.tablet.live.trouble().is_empty() || !agent.executor.is_busy(driver.id));
        world.mend();
    };
    let (undone, ()) = tokio::join!(driver.put_back(&agent, true), mend);
    assert!(is_done(&undone));
    assert_back(&world, "start");
    assert!(matches!(
        agent.operation(driver.id).state,
        OperationState::Undone { .. }
    ));
}

#[tokio::test]
async fn i3_the_database_does_not_wait_for_a_store_that_takes_no_mark() {
    let world = World::new().await;
    let agent = world.agent();
    let driver = Driver::new();
    assert!(is_done(
        &driver.steps(&agent, backup_steps()[..4].to_vec()).await
    ));
    let (there, gone) = (world.path("repository"), world.path("gone"));
    agent.tablet.repository().await.unwrap();
    std::fs::rename(&there, &gone).unwrap();
    std::fs::write(&there, b"no directory").unwrap();
    assert!(is_done(&driver.put_back(&agent, true).await));
    assert_back(&world, "store");
    assert_eq!(agent.tablet.journal.read().pending_marks.len(), 1);

    std::fs::remove_file(&there).unwrap();
    std::fs::rename(&gone, &there).unwrap();
    super::put_pending_marks(&agent.tablet).await;
    assert!(agent.tablet.journal.read().pending_marks.is_empty());
    assert!(matches!(
        world.stored().await,
        Some(StoredState::Removed { .. })
    ));
    assert_eq!(world.engine.rows().unwrap(), ROWS);
}

#[tokio::test]
async fn i3_a_database_that_dies_after_it_was_started_is_started_again() {
    for steps in [5, 6, 7] {
        let world = World::new().await;
        let agent = world.agent();
        let driver = Driver::new();
        let all = backup_steps();
        assert!(is_done(&driver.steps(&agent, all[..steps].to_vec()).await));
        {
            let mut server = world.engine.server();
            server.running = false;
            server.replication.running = false;
            server.replication.wanted = false;
        }
        let rest = all[steps..].to_vec();
        assert!(is_done(&driver.steps(&agent, rest).await), "after {steps}");
        assert_back(&world, "again");
    }
}

fn stop_replication_by_hand(world: &World) {
    let mut server = world.engine.server();
    server.replication.running = false;
    server.replication.wanted = false;
}

#[tokio::test]
async fn i3_what_is_put_back_before_anything_was_noted_is_left_as_it_is() {
    for steps in [0, 1, 2] {
        let world = World::new().await;
        stop_replication_by_hand(&world);
        let agent = world.agent();
        agent.hear(&view(1, "zone1-101", PRIMARY_PORT)).await;
        Reconciler::default().look(&agent.tablet).await.unwrap();
        let driver = Driver::new();
        driver.steps(&agent, backup_steps()[..steps].to_vec()).await;
        assert!(is_done(&driver.put_back(&agent, true).await));
        assert!(!world.engine.server().replication.wanted, "after {steps}");
        assert!(matches!(
            world.stored().await,
            Some(StoredState::Removed { .. })
        ));
        // A command that comes late does not begin it.
        let late = driver.step(&agent, backup_steps()[0].clone()).await;
        assert!(matches!(late, Answer::Undone(_)), "{late:?}");
    }
}

#[tokio::test]
async fn i3_a_server_that_has_just_come_up_is_not_noted_as_stopped_by_hand() {
    let world = World::new().await;
    let agent = world.agent();
    agent.hear(&view(1, "zone1-101", PRIMARY_PORT)).await;
    Reconciler::default().look(&agent.tablet).await.unwrap();
    world.engine.server().come_up();
    let driver = Driver::new();
    assert!(is_done(&driver.steps(&agent, backup_steps()).await));
    assert_back(&world, "noted");
}

#[tokio::test]
async fn i3_flags_come_back_also_to_a_primary_that_no_heartbeat_has_confirmed_yet() {
    let world = World::new().await;
    let agent = world.agent();
    let driver = Driver::new();
    assert!(is_done(
        &driver.steps(&agent, backup_steps()[..4].to_vec()).await
    ));
    drop(agent);
    world.engine.server().variables.clear();
    let agent = world.agent();
    agent
        .tablet
        .shard
        .learn(&view(2, ALIAS, PORT), false)
        .await
        .unwrap();
    recover(&agent.tablet, &agent.executor).await.unwrap();
    agent.until_free().await;
    let server = world.engine.server();
    assert_eq!(server.variables, [("event_scheduler".into(), "ON".into())]);
    assert!(server.read_only);
}
