//! A group of one, in memory: what is proposed is applied, and a test says who leads.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use async_trait::async_trait;
use seawall_common::{Error, Result};
use tokio::sync::watch;

use crate::{
    group::Group,
    raft::Leadership,
    state::{Command, Response, State, retention, schedules},
};

/// About what the log takes.
const COMMAND_BYTES_MAX: usize = 64_000;

pub struct MemoryGroup {
    state: Mutex<State>,
    applied: watch::Sender<u64>,
    pub(super) leadership: watch::Sender<Leadership>,
    /// No quorum answers.
    fails_proofs: AtomicBool,
    /// So many times it cannot be recorded that retention stops.
    pub fail_stops: AtomicU32,
    /// So many times no try of a schedule can be begun.
    pub fail_tries: AtomicU32,
    /// So many times it cannot be recorded what the group's backup came to.
    pub fail_taken: AtomicU32,
    /// So many times that is recorded, and the answer is lost.
    pub lose_taken: AtomicU32,
    /// So many times it cannot be noted that the group's backup was taken.
    pub fail_notes: AtomicU32,
}

impl MemoryGroup {
    pub fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            applied: watch::Sender::new(0),
            leadership: watch::Sender::new(Leadership::default()),
            fails_proofs: AtomicBool::new(false),
            fail_stops: AtomicU32::new(0),
            fail_tries: AtomicU32::new(0),
            fail_taken: AtomicU32::new(0),
            lose_taken: AtomicU32::new(0),
            fail_notes: AtomicU32::new(0),
        }
    }

    pub fn fail_proofs(&self, fails: bool) {
        self.fails_proofs.store(fails, Relaxed);
    }
}

/// False: none was left.
fn take_one(left: &AtomicU32) -> bool {
    let less = |left: u32| left.checked_sub(1);
    left.fetch_update(Relaxed, Relaxed, less).is_ok()
}

#[async_trait]
impl Group for MemoryGroup {
    async fn propose(&self, command: Command) -> Result<Response> {
        let bytes = serde_json::to_vec(&command).unwrap().len();
        assert!(bytes < COMMAND_BYTES_MAX, "a command of {bytes} bytes");
        let fails = match command {
            Command::Retention(retention::Command::Stop { .. }) => Some(&self.fail_stops),
            Command::Schedules(
                schedules::Command::Begin { .. } | schedules::Command::Take { .. },
            ) => Some(&self.fail_tries),
            Command::Schedules(schedules::Command::Taken { .. }) => Some(&self.fail_taken),
            Command::GroupBackedUp(_) => Some(&self.fail_notes),
            _ => None,
        };
        if fails.is_some_and(take_one) {
            return Err(Error::unavailable("no quorum"));
        }
        let response = self.state.lock().unwrap().apply(&command);
        self.applied.send_modify(|count| *count += 1);
        let is_taken = matches!(
            command,
            Command::Schedules(schedules::Command::Taken { .. })
        );
        if is_taken && take_one(&self.lose_taken) {
            return Err(Error::timeout("no answer"));
        }
        response.into_result()
    }

    async fn prove_leadership(&self) -> Result<u64> {
        match self.fails_proofs.load(Relaxed) {
            true => Err(Error::unavailable("no quorum")),
            false => Ok(self.leadership.borrow().term),
        }
    }

    fn look_with(&self, look: &mut dyn FnMut(&State)) {
        look(&self.state.lock().unwrap());
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
}
