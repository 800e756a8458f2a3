//! What is done beside the database: it goes on serving, and nothing of it is left behind.

use std::path::PathBuf;

use seawall_common::{ErrorKind, repository::pack_name};

use crate::{
    call::{Action, Aside, StepCall},
    execute::Answer,
    journal::{OperationState, Outcome, Verification},
    startup::recover,
    testing::{Agent, Driver, HOLD, World, backup_name, backup_steps, drain, error_of, is_done},
};

/// A replica whose backup is complete, and a directory to restore to aside.
async fn backed_up() -> World {
    let mut world = World::new().await;
    let scratch = world.path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    world.flags = vec![format!("--scratch-dir={}", scratch.display())];
    let agent = world.agent();
    let answer = Driver::new().steps(&agent, backup_steps()).await;
    assert!(is_done(&answer), "{answer:?}");
    drop(agent);
    world.mend();
    world
}

fn aside(world: &World) -> Aside {
    Aside {
        shard: world.shard(),
        backup: backup_name(),
        manifest_hash: String::new(),
        concurrency: Some(2),
    }
}

fn verify(world: &World) -> StepCall {
    StepCall::Verify {
        aside: aside(world),
        percent: 100,
        seed: 3,
    }
}

fn test_restore(world: &World) -> StepCall {
    StepCall::TestRestore {
        aside: aside(world),
    }
}

fn found(answer: Answer) -> (Verification, Outcome) {
    match answer {
        Answer::Done(outcome) => (outcome.verification.clone().unwrap(), outcome),
        Answer::Failed(error) | Answer::Undone(error) => panic!("{error}"),
    }
}

fn packs(world: &World) -> Vec<PathBuf> {
    let directory = world.path(&format!(
        "repository/keyspaces/commerce/0/packs/{}",
        backup_name()
    ));
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect()
}

fn left_in_scratch(world: &World) -> usize {
    std::fs::read_dir(world.path("scratch")).unwrap().count()
}

/// Nothing that concerns the tablet's own database was called.
fn is_untouched(world: &World) -> bool {
    let calls = world.calls();
    let touching = [
        "start",
        "stop",
        "stop_replication",
        "replicate_from",
        "adopt",
    ];
    !calls.iter().any(|call| touching.contains(&call.as_str()))
}

#[tokio::test]
async fn a_backup_is_read_back_beside_the_database() {
    let world = backed_up().await;
    let agent = world.agent();
    let (verification, _) = found(Driver::new().step(&agent, verify(&world)).await);
    assert!(verification.passed, "{verification:?}");
    assert_eq!((verification.percent, verification.seed), (100, 3));
    assert!(agent.tablet.journal.read().owner().is_none());
    assert!(is_untouched(&world), "{:?}", world.calls());
}

#[tokio::test]
async fn a_damaged_pack_is_named_and_is_an_answer() {
    let world = backed_up().await;
    let pack = packs(&world).remove(0);
    std::fs::remove_file(&pack).unwrap();
    let agent = world.agent();
    let (verification, outcome) = found(Driver::new().step(&agent, verify(&world)).await);
    assert!(!verification.passed);
    let id = pack.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(verification.message.contains(&id), "{verification:?}");
    assert_eq!(outcome.damaged_packs, std::slice::from_ref(&id));
    assert_eq!(pack_name(id.parse().unwrap()), id);
}

#[tokio::test]
async fn a_backup_is_tested_aside_and_nothing_is_left() {
    let world = backed_up().await;
    let agent = world.agent();
    let (verification, _) = found(Driver::new().step(&agent, test_restore(&world)).await);
    assert!(verification.passed, "{verification:?}");
    assert!(verification.message.contains("1 checksum compared"));
    assert!(world.has_called("stop_scratch"));
    assert_eq!(left_in_scratch(&world), 0);
    assert!(is_untouched(&world), "{:?}", world.calls());
    assert!(world.engine.server().running);
}

#[tokio::test]
async fn a_restore_test_that_meets_damage_fails_and_names_the_pack() {
    let world = backed_up().await;
    let pack = packs(&world).remove(0);
    std::fs::remove_file(&pack).unwrap();
    let agent = world.agent();
    let (verification, outcome) = found(Driver::new().step(&agent, test_restore(&world)).await);
    assert!(!verification.passed);
    assert_eq!(outcome.damaged_packs.len(), 1, "{outcome:?}");
    assert_eq!(left_in_scratch(&world), 0);
    assert!(!world.has_called("start_scratch"), "started on it");
}

/// A restore test of a backup of another database than the one that its checksums were made of.
async fn test_of_damage(world: &World, agent: &Agent) -> StepCall {
    world.engine.server().planted = Some("7".to_owned());
    let other = Driver::new();
    let name: seawall_common::ids::BackupName = "2026-11-22.031500.zone1-102".parse().unwrap();
    for step in backup_steps() {
        let step = match step {
            StepCall::Prepare { may_refer_to, .. } => StepCall::Prepare {
                backup: name.clone(),
                may_refer_to,
            },
            StepCall::Copy {
                epoch,
                concurrency,
                may_refer_to,
                ..
            } => StepCall::Copy {
                backup: name.clone(),
                epoch,
                concurrency,
                may_refer_to,
            },
            other => other,
        };
        assert!(is_done(&other.step(agent, step).await));
    }
    StepCall::TestRestore {
        aside: Aside {
            backup: name,
            ..aside(world)
        },
    }
}

#[tokio::test]
async fn what_was_found_is_an_answer_although_the_rest_could_not_be_tested() {
    let world = backed_up().await;
    let agent = world.agent();
    let step = test_of_damage(&world, &agent).await;
    world.engine.server().failing.insert("check_scratch".into());
    let (verification, _) = found(Driver::new().step(&agent, step).await);
    assert!(!verification.passed, "{verification:?}");
    let message = verification.message;
    assert!(message.contains("another checksum"), "{message}");
    let rest = "the rest was not tested: check_scratch was made to fail";
    assert!(message.contains(rest), "{message}");
    // Where nothing was found it says nothing of the backup.
    let error = error_of(Driver::new().step(&agent, test_restore(&world)).await);
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[tokio::test]
async fn what_was_found_is_told_to_whoever_calls_it_off() {
    let world = backed_up().await;
    let agent = world.agent();
    let step = test_of_damage(&world, &agent).await;
    world.hang("check_scratch");
    for (step, is_damaged) in [(step, true), (test_restore(&world), false)] {
        world.engine.server().calls.clear();
        let driver = Driver::new();
        let call = driver.call(Action::Run(step));
        agent.executor.execute(call).await.unwrap();
        agent
            .until("it hangs", |_| world.has_called("check_scratch"))
            .await;
        // Also to the one who asks again because the answer was lost.
        for _ in 0..2 {
            let answer = driver.put_back(&agent, false).await;
            let Answer::Done(outcome) = answer else {
                panic!("{answer:?}");
            };
            let passed = outcome.verification.map(|found| found.passed);
            assert_eq!(passed, is_damaged.then_some(false));
        }
        assert_eq!(left_in_scratch(&world), 0);
    }
}

#[tokio::test]
async fn a_checksum_that_differs_fails_the_test() {
    let world = backed_up().await;
    let agent = world.agent();
    let step = test_of_damage(&world, &agent).await;
    let (verification, outcome) = found(Driver::new().step(&agent, step).await);
    assert!(!verification.passed);
    assert!(
        verification.message.contains("another checksum"),
        "{verification:?}"
    );
    assert_eq!(outcome.damaged_packs, Vec::<String>::new());
}

#[tokio::test]
async fn an_agent_without_a_scratch_directory_refuses_a_restore_test() {
    let mut world = backed_up().await;
    world.flags.clear();
    let agent = world.agent();
    let error = error_of(Driver::new().step(&agent, test_restore(&world)).await);
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("scratch_dir"), "{error}");
}

/// A restore test that hangs in its check.
async fn hanging_test(world: &World, agent: &Agent, driver: Driver) {
    world.hang("check_scratch");
    let call = driver.call(Action::Run(test_restore(world)));
    agent.executor.execute(call).await.unwrap();
    agent
        .until("the check has begun", |_| world.has_called("start_scratch"))
        .await;
}

#[tokio::test]
async fn i3_a_backup_goes_on_while_a_restore_test_is_at_work() {
    let world = backed_up().await;
    let agent = world.agent();
    let test = Driver::new();
    hanging_test(&world, &agent, test).await;
    let backup = Driver::new();
    let prepare = StepCall::Prepare {
        backup: "2026-11-22.031500.zone1-102".parse().unwrap(),
        may_refer_to: Vec::new(),
    };
    assert!(is_done(&backup.step(&agent, prepare).await));
    let drain = drain(crate::journal::OperationKind::Backup);
    assert!(is_done(&backup.step(&agent, drain).await));
    assert!(is_done(&backup.put_back(&agent, false).await));
    assert!(agent.executor.is_busy(test.id));
    assert!(is_done(&test.put_back(&agent, false).await));
    assert!(!agent.executor.is_busy(test.id));
    assert_eq!(left_in_scratch(&world), 0);
}

#[tokio::test]
async fn what_is_called_off_ends_and_is_not_begun_again() {
    let world = backed_up().await;
    let agent = world.agent();
    let driver = Driver::new();
    hanging_test(&world, &agent, driver).await;
    assert!(is_done(&driver.put_back(&agent, false).await));
    assert_eq!(left_in_scratch(&world), 0);
    assert!(world.has_called("stop_scratch"));
    assert!(is_untouched(&world), "{:?}", world.calls());
    let error = error_of(driver.step(&agent, test_restore(&world)).await);
    assert!(error.message().contains("cancelled"), "{error}");
    assert!(matches!(
        agent.operation(driver.id).state,
        OperationState::Undone { .. }
    ));
}

#[tokio::test]
async fn i4_an_earlier_leader_is_fenced_beside_the_database_too() {
    let world = backed_up().await;
    let agent = world.agent();
    let driver = Driver::new();
    let newer = Driver { term: 6, ..driver };
    found(newer.step(&agent, verify(&world)).await);
    let error = error_of(driver.step(&agent, verify(&world)).await);
    assert_eq!(error.kind(), ErrorKind::Fenced);
    // Whoever asks again finds what was recorded.
    found(newer.step(&agent, verify(&world)).await);
}

#[tokio::test]
async fn no_more_than_a_few_are_at_work_at_a_time() {
    let world = backed_up().await;
    let agent = world.agent();
    let (first, second) = (Driver::new(), Driver::new());
    hanging_test(&world, &agent, first).await;
    let call = second.call(Action::Run(test_restore(&world)));
    agent.executor.execute(call).await.unwrap();
    let error = error_of(Driver::new().step(&agent, verify(&world)).await);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    for driver in [first, second] {
        assert!(is_done(&driver.put_back(&agent, false).await));
    }
    found(Driver::new().step(&agent, verify(&world)).await);
}

#[tokio::test]
async fn i5_work_under_a_lost_hold_is_called_off() {
    let world = backed_up().await;
    let agent = world.agent();
    let driver = Driver::new();
    hanging_test(&world, &agent, driver).await;
    let held = crate::session::holds(&agent.tablet);
    assert!(held.iter().any(|held| held.hold_id == HOLD), "{held:?}");
    crate::session::lose_hold(&agent.tablet, &agent.executor, HOLD)
        .await
        .unwrap();
    agent
        .until("it ends", |agent| !agent.executor.is_busy(driver.id))
        .await;
    assert_eq!(left_in_scratch(&world), 0);
}

#[tokio::test]
async fn i3_a_restore_test_that_does_not_end_holds_nothing_else_up() {
    let world = backed_up().await;
    let agent = world.agent();
    let test = Driver::new();
    hanging_test(&world, &agent, test).await;
    world.hang("stop_scratch");
    let calling_off = Action::PutBack {
        abandon: None,
        reason: "cancelled".into(),
        discard: false,
    };
    let patience = crate::testing::PATIENCE;
    let others = async {
        // Called off twice: by the coordinator, and because its hold is gone.
        let first = test.call(calling_off.clone());
        let first = agent.executor.execute(first).await.unwrap();
        crate::session::lose_hold(&agent.tablet, &agent.executor, HOLD)
            .await
            .unwrap();
        let again = agent.executor.execute(test.call(calling_off)).await;
        let backup = Driver::new();
        let prepare = StepCall::Prepare {
            backup: "2026-11-22.031500.zone1-102".parse().unwrap(),
            may_refer_to: Vec::new(),
        };
        assert!(is_done(&backup.step(&agent, prepare).await));
        assert!(is_done(&backup.put_back(&agent, false).await));
        [first, again.unwrap()]
    };
    let runs = tokio::time::timeout(patience, others).await.unwrap();
    assert!(agent.executor.is_busy(test.id));
    // Whoever has called it off hears of its end only when it has ended.
    for run in runs {
        let ended = tokio::time::timeout(std::time::Duration::from_millis(50), run.end());
        assert!(ended.await.is_err());
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_stopped_says_nothing_of_the_backup() {
    let world = backed_up().await;
    let agent = world.agent();
    world.engine.server().failing.insert("stop_scratch".into());
    let (verification, _) = found(Driver::new().step(&agent, test_restore(&world)).await);
    assert!(verification.passed, "{verification:?}");
}

#[tokio::test]
async fn i3_a_scratch_directory_that_is_not_there_costs_the_restore_test_alone() {
    let world = backed_up().await;
    std::fs::remove_dir(world.path("scratch")).unwrap();
    let agent = world.agent();
    let can_test = |agent: &Agent| crate::status::status(&agent.tablet).can_test_restore;
    let watch = async |is_good: bool| {
        let told = agent.until("told", |agent| can_test(agent) == is_good);
        tokio::select! {
            () = crate::scratch::watch(&agent.tablet) => {}
            () = told => {}
        }
    };
    agent.tablet.settings.check().unwrap();
    watch(false).await;
    let error = error_of(Driver::new().step(&agent, test_restore(&world)).await);
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.message().contains("scratch_dir"), "{error}");
    std::fs::create_dir(world.path("scratch")).unwrap();
    watch(true).await;
    found(Driver::new().step(&agent, test_restore(&world)).await);
}

#[tokio::test]
async fn i3_nothing_but_a_restore_test_waits_for_what_an_earlier_one_left() {
    let world = backed_up().await;
    let agent = world.agent();
    let clearing = agent.tablet.begin_clearing().await;
    let test = Driver::new();
    let call = test.call(Action::Run(test_restore(&world)));
    let run = agent.executor.execute(call).await.unwrap();
    found(Driver::new().step(&agent, verify(&world)).await);
    assert!(!world.has_called("start_scratch"));
    drop(clearing);
    found(run.end().await);
}

#[test]
fn a_killed_agents_restore_test_is_cleared_away_and_can_be_begun_again() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(backed_up());
    let driver = Driver::new();
    world.hang("check_scratch");
    let step = test_restore(&world);
    world.run_and_kill(
        |agent| async move {
            driver.step(&agent, step).await;
        },
        |world| world.has_called("start_scratch"),
    );
    assert_eq!(left_in_scratch(&world), 1);
    world.mend();
    runtime.block_on(async {
        let agent = world.agent();
        recover(&agent.tablet, &agent.executor).await.unwrap();
        agent.tablet.until_cleared().await;
        assert_eq!(left_in_scratch(&world), 0);
        assert!(agent.tablet.journal.read().owner().is_none());
        assert!(is_untouched(&world), "{:?}", world.calls());
        let (verification, _) = found(driver.step(&agent, test_restore(&world)).await);
        assert!(verification.passed);
    });
}
