//! Random commands, failures and times keep what a schedule promises.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{group_tests::*, tests::*, *};
use crate::state::{Command as Any, operations::OperationState, retention, testing::Cluster};

const SHARDS: [&str; 4] = ["commerce/0", "commerce/1", "commerce/2", "other/0"];

#[derive(Clone, Debug)]
enum Act {
    /// Time goes on, or a little back.
    Pass(i32),
    Slot(u8),
    Begin(u8),
    FailToBegin(u8),
    Take,
    Taken(u8),
    Succeed(u8),
    BreakOff(u8),
    Cancel(u8),
    Pause(u8),
    Resume,
    Set(u8),
    StopClock,
    ResumeClock,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (-400_000..4_000_000_i32).prop_map(Act::Pass),
        6 => any::<u8>().prop_map(Act::Slot),
        6 => any::<u8>().prop_map(Act::Begin),
        2 => any::<u8>().prop_map(Act::FailToBegin),
        4 => Just(Act::Take),
        4 => any::<u8>().prop_map(Act::Taken),
        4 => any::<u8>().prop_map(Act::Succeed),
        3 => any::<u8>().prop_map(Act::BreakOff),
        1 => any::<u8>().prop_map(Act::Cancel),
        1 => any::<u8>().prop_map(Act::Pause),
        2 => Just(Act::Resume),
        1 => any::<u8>().prop_map(Act::Set),
        1 => Just(Act::StopClock),
        2 => Just(Act::ResumeClock),
    ]
}

fn open(cluster: &Cluster, n: u8) -> Option<OperationId> {
    let open: Vec<_> = cluster.state.operations.open().map(|o| o.id).collect();
    (!open.is_empty()).then(|| open[usize::from(n) % open.len()])
}

fn shard(n: u8) -> &'static str {
    SHARDS[usize::from(n) % SHARDS.len()]
}

/// Refusals are as good as successes: only what holds afterwards counts.
fn act(cluster: &mut Cluster, act: &Act) {
    let has_run = nightly(cluster).run.is_some();
    match *act {
        Act::Pass(ms) => {
            cluster.now_unix_ms = cluster.now_unix_ms.saturating_add_signed(ms.into());
        }
        Act::Slot(n) => drop(slot(cluster, u64::from(n % 3))),
        Act::Begin(n) if has_run => drop(begin(cluster, shard(n))),
        Act::FailToBegin(n) if has_run => drop(fail_to_begin(cluster, shard(n))),
        Act::Take if has_run => drop(take(cluster)),
        Act::Begin(_) | Act::FailToBegin(_) | Act::Take => {}
        Act::Taken(n) => {
            let begun = cluster.state.schedules.being_taken().next();
            if let Some((of, _)) = begun {
                let error = n.is_multiple_of(2).then_some("the store is away");
                taken(cluster, &of, error).unwrap();
            }
        }
        Act::Succeed(n) => on_open(cluster, n, succeed),
        Act::BreakOff(n) => on_open(cluster, n, break_off),
        Act::Cancel(n) => on_open(cluster, n, |cluster, id| {
            cluster.cancel(id).unwrap();
            cluster.abandon(id).unwrap();
            cluster.finish(id).unwrap();
        }),
        Act::Pause(n) => {
            let until = cluster.now_unix_ms + u64::from(n) * 100_000;
            let command = Command::Pause {
                name: "nightly".into(),
                until_unix_ms: (!n.is_multiple_of(4)).then_some(until),
                now_unix_ms: cluster.now_unix_ms,
            };
            drop(apply_at(cluster, command));
        }
        Act::Resume => {
            let command = Command::Resume {
                name: "nightly".into(),
                now_unix_ms: cluster.now_unix_ms,
            };
            apply_at(cluster, command).unwrap();
        }
        Act::Set(n) => {
            let other_job = match n % 4 {
                0 => of_group().job,
                _ => spec().job,
            };
            let other = Spec {
                job: other_job,
                at_once: u32::from(n % 3) + 1,
                cron: format!("{} 3 * * *", n % 2),
                spread_ms: u64::from(n) * 10_000,
                ..nightly(cluster).spec.clone()
            };
            let (id, now_unix_ms) = (OperationId::generate(), cluster.now_unix_ms);
            let schedules = &cluster.state.schedules;
            let expected = schedules.would_be("nightly", id, &other, now_unix_ms);
            set(cluster, other).unwrap();
            assert_eq!(nightly(cluster), &expected.unwrap());
        }
        Act::StopClock => {
            let why = "wall time jumped".to_owned();
            let stop = retention::Command::Stop { why };
            cluster.apply(Any::Retention(stop)).unwrap();
        }
        Act::ResumeClock => {
            let now_unix_ms = cluster.now_unix_ms;
            let resume = retention::Command::Resume { now_unix_ms };
            cluster.apply(Any::Retention(resume)).unwrap();
        }
    }
}

fn on_open(cluster: &mut Cluster, n: u8, then: impl Fn(&mut Cluster, OperationId)) {
    if let Some(id) = open(cluster, n) {
        then(cluster, id);
    }
}

fn check(cluster: &Cluster, before: &Schedule, act: &Act) {
    let schedule = nightly(cluster);
    let is_open = |id: &OperationId| {
        let operation = cluster.state.operations.get(id).unwrap();
        operation.state.is_open()
    };
    let taking = cluster.state.schedules.being_taken().count();
    assert!(schedule.history.len() <= schedule.spec.history as usize);
    assert!(schedule.runs >= before.runs);
    if !matches!(act, Act::ResumeClock) {
        assert!(schedule.cursor_unix_ms >= before.cursor_unix_ms, "{act:?}");
    }
    let parts = |schedule: &Schedule| -> Vec<Part> {
        let run = schedule.run.iter();
        run.flat_map(|run| run.parts.clone()).collect()
    };
    if schedule.runs > before.runs {
        // Nothing of the run before is open any more.
        let mut left = parts(before).into_iter().filter_map(|part| part.operation);
        assert!(left.all(|id| !is_open(&id)), "two runs overlap");
        assert!(!parts(before).iter().any(Part::is_being_taken));
        let number = schedule.run.as_ref().map(|run| run.number);
        assert!(number.is_none_or(|number| number == schedule.runs));
    }
    for part in parts(schedule) {
        assert!(part.tries <= schedule.spec.tries);
        match part.shard {
            Some(_) => {
                let runs = part.operation.is_some_and(|id| is_open(&id));
                assert_eq!(runs, part.state == PartState::Running, "{part:?}");
            }
            None => {
                assert_eq!(part.operation, None);
                let runs = part.state == PartState::Running;
                assert_eq!(taking, usize::from(runs), "{part:?}");
            }
        }
        let is_of_job = schedule.spec.job.is_for(part.shard.as_ref());
        assert!(is_of_job || part.state != PartState::Waiting, "{part:?}");
    }
    let at_work = cluster.state.operations.open().count();
    assert_eq!(
        at_work + taking,
        schedule.running(),
        "all that is open is of the run"
    );
    // A limit that is set lower lets go on what runs.
    if schedule.running() > before.running() {
        assert!(schedule.running() <= schedule.spec.at_once as usize);
    }
}

/// What must not depend on how much is remembered.
fn course_of(schedule: &Schedule) -> (u64, u64, u64, Option<Run>) {
    let run = schedule.run.clone();
    (schedule.cursor_unix_ms, schedule.runs, schedule.missed, run)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_slot_starts_twice_no_runs_overlap_and_all_bounds_are_kept(
        sequence in proptest::collection::vec(acts(), 1..120),
    ) {
        let mut cluster = cluster(spec());
        let mut started = BTreeSet::new();
        for next in &sequence {
            let before = nightly(&cluster).clone();
            act(&mut cluster, next);
            // The sweeps that failures leave are nobody's here.
            sweep(&mut cluster);
            check(&cluster, &before, next);
            let schedule = nightly(&cluster);
            if schedule.runs > before.runs {
                let slot = schedule.cursor_unix_ms;
                prop_assert!(started.insert(slot), "slot {slot} starts twice");
            }
        }
    }

    #[test]
    fn how_much_is_remembered_changes_nothing_of_what_is_done(
        sequence in proptest::collection::vec(acts(), 1..80),
    ) {
        let mut clusters = [0, 1, 50].map(|history| cluster(Spec { history, ..spec() }));
        let id = nightly(&clusters[0]).id;
        for cluster in &mut clusters {
            cluster.state.schedules.get_mut("nightly").unwrap().id = id;
        }
        for next in &sequence {
            for cluster in &mut clusters {
                act(cluster, next);
                sweep(cluster);
            }
        }
        let courses = clusters.each_ref().map(|cluster| course_of(nightly(cluster)));
        prop_assert_eq!(&courses[0], &courses[1]);
        prop_assert_eq!(&courses[1], &courses[2]);
    }

    #[test]
    fn a_snapshot_at_any_point_changes_nothing(
        before in proptest::collection::vec(acts(), 0..50),
        after in proptest::collection::vec(acts(), 0..50),
    ) {
        let mut cluster = cluster(spec());
        for next in &before {
            act(&mut cluster, next);
            sweep(&mut cluster);
        }
        let snapshot = serde_json::to_vec(&cluster.state).unwrap();
        let mut restored = Cluster {
            state: serde_json::from_slice(&snapshot).unwrap(),
            now_unix_ms: cluster.now_unix_ms,
            log: Vec::new(),
        };
        for next in &after {
            for cluster in [&mut cluster, &mut restored] {
                act(cluster, next);
                sweep(cluster);
            }
        }
        let bytes = |cluster: &Cluster| serde_json::to_vec(&cluster.state.schedules).unwrap();
        prop_assert_eq!(bytes(&restored), bytes(&cluster));
    }
}

/// Ends the sweeps that are open.
fn sweep(cluster: &mut Cluster) {
    let sweeps =
        cluster.state.operations.open().filter(|operation| {
            matches!(operation.spec, crate::state::operations::Spec::Sweep { .. })
        });
    let sweeps: Vec<_> = sweeps.map(|operation| operation.id).collect();
    for id in sweeps {
        cluster.finish(id).unwrap();
        let ended = cluster.state.operations.get(&id).unwrap();
        assert_eq!(ended.state, OperationState::Succeeded);
    }
}
