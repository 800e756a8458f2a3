//! Members whose programs are busy with other things: each has a runtime of its own, as a process has.

use std::time::Duration;

use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};

use super::{
    Node,
    places::{Place, founders, leader, reserve, until},
};

const ELECTION_TIMEOUT: Duration = Duration::from_millis(1000);
/// Whoever hears nothing of the leader for so long stands for election.
const BUSY: Duration = Duration::from_millis(4000);

/// A group of three, and who leads it.
struct Programs {
    runtimes: Vec<Runtime>,
    places: Vec<Place>,
    leader: usize,
}

impl Programs {
    fn start() -> Self {
        let runtime = |_| {
            let mut runtime = Builder::new_multi_thread();
            runtime.worker_threads(1).enable_all().build().unwrap()
        };
        let runtimes: Vec<Runtime> = (0..3).map(runtime).collect();
        let bind = |runtime: &Runtime| runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let listeners: Vec<TcpListener> = runtimes.iter().map(bind).collect();
        let mut places = founders(&listeners);
        for ((place, runtime), listener) in places.iter_mut().zip(&runtimes).zip(listeners) {
            runtime.block_on(place.start_with(Some(listener), ELECTION_TIMEOUT));
        }
        let leader = runtimes[0].block_on(leader(&places));
        let knows = |place: &Place| place.node().leadership().borrow().leader.is_some();
        runtimes[0].block_on(until("all know who leads", || places.iter().all(knows)));
        Self {
            runtimes,
            places,
            leader,
        }
    }

    fn leader(&self) -> &Node {
        self.places[self.leader].node()
    }

    fn terms(&self) -> Vec<u64> {
        let term = |place: &Place| place.node().leadership().borrow().term;
        self.places.iter().map(term).collect()
    }
}

#[test]
fn a_leader_whose_program_is_busy_stays_in_office() {
    let programs = Programs::start();
    let before = programs.terms();
    let busy = programs.runtimes[programs.leader].spawn(async { std::thread::sleep(BUSY) });
    std::thread::sleep(BUSY);
    assert_eq!(programs.terms(), before, "another term has begun");
    assert!(programs.leader().leadership().borrow().is_ours);
    programs.runtimes[programs.leader].block_on(busy).unwrap();
    let proposed = programs.leader().propose(reserve(1));
    programs.runtimes[programs.leader]
        .block_on(proposed)
        .unwrap();
}

#[test]
fn a_follower_whose_program_is_busy_takes_nobody_for_gone() {
    let programs = Programs::start();
    let before = programs.terms();
    let follower = (programs.leader + 1) % 3;
    for _ in 0..2 {
        let busy = programs.runtimes[follower].spawn(async { std::thread::sleep(BUSY) });
        programs.runtimes[follower].block_on(busy).unwrap();
        // Long enough to stand for election, if it had not heard what came meanwhile.
        std::thread::sleep(ELECTION_TIMEOUT);
    }
    assert_eq!(programs.terms(), before, "another term has begun");
    assert!(programs.leader().leadership().borrow().is_ours);
}

#[test]
fn a_long_look_at_the_state_holds_up_what_is_applied_and_not_the_office() {
    let programs = Programs::start();
    let (before, applied) = (programs.terms(), programs.leader().last_applied());
    let node = programs.leader().clone();
    let looking = std::thread::spawn(move || node.look(|_| std::thread::sleep(BUSY)));
    let node = programs.leader().clone();
    let proposed =
        programs.runtimes[programs.leader].spawn(async move { node.propose(reserve(1)).await });
    let committed = || {
        programs
            .places
            .iter()
            .any(|place| place.node().last_applied() > applied)
    };
    // Others may apply it meanwhile.
    programs.runtimes[(programs.leader + 1) % 3].block_on(until("it is committed", committed));
    assert!(!proposed.is_finished(), "answered while somebody looks");
    looking.join().unwrap();
    programs.runtimes[programs.leader]
        .block_on(proposed)
        .unwrap()
        .unwrap();
    assert_eq!(programs.terms(), before, "another term has begun");
}

#[test]
fn others_hear_soon_of_what_is_committed_though_no_entry_follows() {
    let programs = Programs::start();
    let runtime = &programs.runtimes[programs.leader];
    let heartbeat = ELECTION_TIMEOUT / 5;
    let mut waited = Vec::new();
    for _ in 0..9 {
        runtime
            .block_on(programs.leader().propose(reserve(1)))
            .unwrap();
        let applied = programs.leader().last_applied();
        let begin = std::time::Instant::now();
        let all = || {
            programs
                .places
                .iter()
                .all(|place| place.node().last_applied() >= applied)
        };
        while !all() {
            assert!(begin.elapsed() < BUSY, "not heard of");
            std::thread::sleep(Duration::from_millis(1));
        }
        waited.push(begin.elapsed());
    }
    waited.sort_unstable();
    assert!(waited[4] < heartbeat / 3, "heard of after {waited:?}");
}
