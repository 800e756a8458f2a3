//! The group's backup by a schedule, whatever comes between its beginning and its end.

use std::{sync::atomic::Ordering, time::Duration};

use seawall_common::Error;

use crate::{
    group::Group as _,
    operation::{
        schedules_tests::{hourly, three_shards},
        testing::{Clocked, FakeStore},
    },
    state::{
        Command,
        operations::OperationState,
        retention,
        schedules::{self, Outcome, PartState, Spec, group_tests},
    },
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn of_group() -> Spec {
    Spec {
        tries: 4,
        history: 10,
        cron: "0 * * * *".into(),
        ..group_tests::of_group()
    }
}

fn keeping(keep: u32) -> Spec {
    Spec {
        job: schedules::Job::GroupBackup { keep },
        ..of_group()
    }
}

impl Clocked {
    fn store(&self) -> &FakeStore {
        &self.stage.store
    }

    fn stored(&self) -> Vec<String> {
        let states = self.store().group_states.lock().unwrap();
        states.keys().cloned().collect()
    }

    fn begun(&self) -> usize {
        *self.store().group_states_begun.lock().unwrap()
    }

    fn hang(&self, hangs: bool) {
        *self.store().hang_group_states.lock().unwrap() = hangs;
    }

    /// A schedule of which the group's backup is being taken, and does not come to an end.
    async fn hanging() -> Self {
        let clocked = Self::new(three_shards());
        clocked.hang(true);
        clocked.set(of_group()).await;
        clocked.stage.until(|| clocked.begun() == 1).await;
        clocked
    }

    async fn ended(&self) -> Outcome {
        self.stage.until(|| self.last().is_some()).await;
        self.last().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_taken_at_each_slot_and_so_many_stay() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    clocked.set(keeping(2)).await;
    tokio::time::sleep(29 * MINUTE).await;
    assert_eq!(clocked.begun(), 0, "its time has not come");
    // The first try meets a store that is away.
    *clocked.store().failures.lock().unwrap() = 1;
    stage
        .until(|| clocked.nightly().failures_in_a_row() == 1)
        .await;
    assert_eq!(clocked.stored(), [""; 0]);
    assert_eq!(clocked.ended().await, Outcome::Succeeded);
    assert_eq!(clocked.nightly().failures_in_a_row(), 0);
    assert_eq!(clocked.begun(), 2);
    let noted = stage.look(|state| state.group_backup.clone());
    assert_eq!(clocked.stored(), [noted.unwrap().name]);
    tokio::time::sleep(5 * HOUR).await;
    assert_eq!((clocked.runs(), clocked.begun()), (6, 7));
    assert_eq!(clocked.stored().len(), 2, "the older ones have gone");
    assert_eq!(clocked.backups().len(), 0, "no tablet was touched");
}

#[tokio::test(start_paused = true)]
async fn a_later_leader_goes_on_with_the_same_try() {
    let clocked = Clocked::hanging().await;
    let stage = &clocked.stage;
    for term in 2..5 {
        stage.resign(term * 2);
        tokio::time::sleep(MINUTE).await;
        let begun = clocked.begun();
        stage.lead(term * 2 + 1);
        stage.until(|| clocked.begun() == begun + 1).await;
        let part = &clocked.nightly().run.unwrap().parts[0];
        assert_eq!((part.state, part.tries), (PartState::Running, 1));
    }
    clocked.hang(false);
    assert_eq!(clocked.ended().await, Outcome::Succeeded);
    assert_eq!((clocked.runs(), clocked.stored().len()), (1, 1));
    let last = clocked.nightly().last.unwrap();
    let took_ms = last.ended_unix_ms - last.begun_unix_ms;
    assert!(took_ms >= 3 * 60_000, "{took_ms}");
    tokio::time::sleep(30 * MINUTE).await;
    assert_eq!(clocked.begun(), 4, "none is taken again");
}

#[tokio::test(start_paused = true)]
async fn what_it_came_to_is_told_until_the_group_knows_it() {
    for is_answer_lost in [false, true] {
        let clocked = Clocked::new(three_shards());
        let group = &clocked.stage.group;
        let fails = match is_answer_lost {
            false => &group.fail_taken,
            true => &group.lose_taken,
        };
        fails.store(7, Ordering::Relaxed);
        clocked.set(of_group()).await;
        assert_eq!(clocked.ended().await, Outcome::Succeeded);
        let left = if is_answer_lost { 6 } else { 0 };
        assert_eq!(fails.load(Ordering::Relaxed), left);
        tokio::time::sleep(20 * MINUTE).await;
        assert_eq!((clocked.begun(), clocked.stored().len()), (1, 1));
        assert_eq!(clocked.nightly().history.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_begun_costs_no_try() {
    let clocked = Clocked::new(three_shards());
    let group = &clocked.stage.group;
    group.fail_tries.store(3, Ordering::Relaxed);
    clocked.set(of_group()).await;
    assert_eq!(clocked.ended().await, Outcome::Succeeded);
    assert_eq!(group.fail_tries.load(Ordering::Relaxed), 0);
    let last = clocked.nightly().last.unwrap();
    let took_ms = last.ended_unix_ms - last.begun_unix_ms;
    assert!(took_ms < 30_000, "{took_ms}");
    assert_eq!(clocked.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_does_not_keep_it_from_its_end_under_whatever_leader() {
    let clocked = Clocked::hanging().await;
    clocked.pause(None).await;
    clocked.stage.lead(2);
    clocked.stage.until(|| clocked.begun() == 2).await;
    clocked.hang(false);
    assert_eq!(clocked.ended().await, Outcome::Succeeded);
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!((clocked.runs(), clocked.begun()), (1, 2), "it is paused");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumped_does_not_keep_it_from_its_end_under_whatever_leader() {
    for jump_ms in [365 * 24 * 3_600_000, -20 * 60_000] {
        let clocked = Clocked::hanging().await;
        let stage = &clocked.stage;
        clocked.off_ms.store(jump_ms, Ordering::Relaxed);
        let is_stopped = || stage.look(|state| state.retention.stopped().is_some());
        stage.until(is_stopped).await;
        stage.lead(2);
        stage.until(|| clocked.begun() == 2).await;
        clocked.hang(false);
        assert_eq!(clocked.ended().await, Outcome::Succeeded);
        tokio::time::sleep(3 * HOUR).await;
        assert_eq!((clocked.runs(), clocked.begun()), (1, 2), "{jump_ms}");
        let now_unix_ms = clocked.wall_unix_ms();
        let resume = retention::Command::Resume { now_unix_ms };
        let resume = stage.group.propose(Command::Retention(resume));
        resume.await.unwrap();
        tokio::time::sleep(MINUTE).await;
        assert_eq!((clocked.runs(), clocked.begun()), (2, 3), "{jump_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_let_go_when_the_schedule_gets_another_job_or_is_removed() {
    let clocked = Clocked::hanging().await;
    clocked.set(hourly()).await;
    tokio::time::sleep(MINUTE / 60).await;
    clocked.hang(false);
    assert_eq!(clocked.last(), Some(Outcome::Cancelled));
    clocked.stage.until(|| clocked.runs() == 2).await;
    clocked
        .stage
        .until(|| clocked.last() == Some(Outcome::Succeeded))
        .await;
    assert_eq!(clocked.stored(), [""; 0]);
    let backups = clocked.backups();
    assert_eq!(backups.len(), 3);
    assert!(backups.iter().all(|o| o.state == OperationState::Succeeded));

    let clocked = Clocked::hanging().await;
    let remove = schedules::Command::Remove {
        name: "nightly".into(),
        now_unix_ms: clocked.wall_unix_ms(),
    };
    clocked.propose(remove).await;
    tokio::time::sleep(MINUTE / 60).await;
    clocked.hang(false);
    tokio::time::sleep(HOUR).await;
    assert_eq!((clocked.begun(), clocked.stored().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_never_ends_is_given_up_and_tried_again() {
    let clocked = Clocked::hanging().await;
    let stage = &clocked.stage;
    stage
        .until(|| clocked.nightly().failures_in_a_row() == 1)
        .await;
    let error = clocked.nightly().run.unwrap().parts[0].error.clone();
    assert!(error.contains("took more than 10m"), "{error}");
    clocked.hang(false);
    assert_eq!(clocked.ended().await, Outcome::Succeeded);
    assert_eq!(clocked.begun(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_when_it_is_safe_does_not_make_it_a_failure() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    clocked.set(keeping(1)).await;
    assert_eq!(clocked.ended().await, Outcome::Succeeded);
    let first = clocked.stored();
    let run_ended = |number| {
        let clocked = &clocked;
        stage.until(move || clocked.nightly().last.unwrap().number == number)
    };
    *clocked.store().tidying_failures.lock().unwrap() = 1;
    stage.group.fail_notes.store(1, Ordering::Relaxed);
    run_ended(2).await;
    let noted = stage.look(|state| state.group_backup.clone());
    assert_eq!(noted.map(|noted| vec![noted.name]), Some(first));
    assert_eq!(clocked.stored().len(), 2);
    *clocked.store().hang_tidying.lock().unwrap() = true;
    run_ended(3).await;
    assert_eq!(clocked.stored().len(), 3);
    *clocked.store().hang_tidying.lock().unwrap() = false;
    run_ended(4).await;
    assert_eq!(clocked.stored().len(), 1, "the next one goes on with it");
    let history = clocked.nightly().history;
    assert!(history.iter().all(|run| run.outcome == Outcome::Succeeded));
    assert_eq!(clocked.begun(), 4, "nothing was tried again");
}

#[tokio::test(start_paused = true)]
async fn two_schedules_take_it_one_after_the_other() {
    let clocked = Clocked::hanging().await;
    let stage = &clocked.stage;
    clocked.set_named("another", of_group()).await;
    let another = || stage.look(|state| state.schedules.get("another").unwrap().clone());
    // The other's slot comes while the first is at work.
    clocked.hang(false);
    assert_eq!(clocked.ended().await, Outcome::Succeeded);
    clocked.hang(true);
    stage.until(|| clocked.runs() == 2).await;
    stage.until(|| another().run.is_some()).await;
    tokio::time::sleep(5 * MINUTE).await;
    assert_eq!(clocked.begun(), 2, "one at a time");
    let running = || another().running() + clocked.nightly().running();
    assert_eq!(running(), 1);
    let waiting = stage.look(|state| {
        let job = of_group().job;
        super::super::waits_for(&stage.context, state, None, &job)
    });
    assert!(waiting.contains("being taken for schedule"), "{waiting}");
    clocked.hang(false);
    stage.until(|| another().last.is_some()).await;
    stage
        .until(|| clocked.nightly().last.unwrap().number == 2)
        .await;
    assert_eq!((clocked.begun(), running()), (3, 0));
    assert_eq!(clocked.refusals(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_repository_of_another_group_gets_none_and_the_schedule_says_so() {
    let clocked = Clocked::new(three_shards());
    let refused = Error::refused("the repository belongs to another group");
    *clocked.store().owner.lock().unwrap() = Some(refused);
    clocked.set(of_group()).await;
    assert_eq!(clocked.ended().await, Outcome::Failed);
    let errors = clocked.nightly().last.unwrap().errors;
    assert!(errors[0].contains("belongs to another group"), "{errors:?}");
    assert_eq!((clocked.begun(), clocked.stored().len()), (0, 0));
}
