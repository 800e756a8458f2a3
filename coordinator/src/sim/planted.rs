//! Defects that a test plants to see whether the simulation finds them.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use seawall_common::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Timestamps are given on a proof from before they were taken.
    ProofFirst = 1,
    /// The log answers before it is on disk.
    NoFsync,
    /// A hold's older token is as good as its newest.
    OldToken,
    /// A member that starts from a snapshot does not know the bound of timestamps any more.
    ForgottenBound,
    /// Now and then a member applies a command twice.
    AppliedTwice,
}

impl Bug {
    pub const ALL: [Self; 5] = [
        Self::ProofFirst,
        Self::NoFsync,
        Self::OldToken,
        Self::ForgottenBound,
        Self::AppliedTwice,
    ];
}

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// All members of this process have the defect from now on.
pub fn plant(bug: Bug) {
    PLANTED.store(bug as u8, Ordering::Relaxed);
}

pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.load(Ordering::Relaxed) == bug as u8
}

/// For how long a proof is believed by who has [`Bug::ProofFirst`].
const BELIEVED_FOR: Duration = Duration::from_secs(3600);

/// When each term was proved last, in the time of the simulation: each host's own clock begins when
/// it starts.
static PROVED: Mutex<BTreeMap<u64, Duration>> = Mutex::new(BTreeMap::new());

/// What `proof` comes to; with [`Bug::ProofFirst`] one from before will do.
pub(crate) async fn proved(term: u64, proof: impl Future<Output = Result<u64>>) -> Result<u64> {
    if was_proved(term) {
        return Ok(term);
    }
    let proved = proof.await?;
    note_proof(proved);
    Ok(proved)
}

fn was_proved(term: u64) -> bool {
    let proved = PROVED.lock().unwrap_or_else(PoisonError::into_inner);
    let now = turmoil::sim_elapsed().unwrap_or_default();
    let is_fresh = |at: &Duration| now < *at + BELIEVED_FOR;
    is_planted(Bug::ProofFirst) && proved.get(&term).is_some_and(is_fresh)
}

fn note_proof(term: u64) {
    let mut proved = PROVED.lock().unwrap_or_else(PoisonError::into_inner);
    proved.insert(term, turmoil::sim_elapsed().unwrap_or_default());
}
