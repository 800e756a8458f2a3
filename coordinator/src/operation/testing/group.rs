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
    /// Comes just before the next try of a schedule.
    pub overtaking: Mutex<Option<Command>>,
    /// How often the state has refused what schedules want.
    pub schedule_refusals: AtomicU32,
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
            overtaking: Mutex::default(),
            schedule_refusals: AtomicU32::new(0),
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
        let of_schedule = match &command {
            Command::Schedules(command) => Some(command),
            _ => None,
        };
        let is_begin = matches!(of_schedule, Some(schedules::Command::Begin { .. }));
        let is_take = matches!(of_schedule, Some(schedules::Command::Take { .. }));
        let is_taken = matches!(of_schedule, Some(schedules::Command::Taken { .. }));
        let fails = match command {
            Command::Retention(retention::Command::Stop { .. }) => Some(&self.fail_stops),
            Command::GroupBackedUp(_) => Some(&self.fail_notes),
            _ if is_begin || is_take => Some(&self.fail_tries),
            _ if is_taken => Some(&self.fail_taken),
            _ => None,
        };
        if fails.is_some_and(take_one) {
            return Err(Error::unavailable("no quorum"));
        }
        let overtaking = self.overtaking.lock().unwrap().take_if(|_| is_begin);
        let response = {
            let mut state = self.state.lock().unwrap();
            overtaking.map(|first| state.apply(&first));
            state.apply(&command)
        };
        self.applied.send_modify(|count| *count += 1);
        if of_schedule.is_some() && matches!(response, Response::Refused(_)) {
            self.schedule_refusals.fetch_add(1, Relaxed);
        }
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

    fn last_applied(&self) -> u64 {
        self.applied.borrow().saturating_sub(1)
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }
}
