//! When a member stands for election.

use std::time::Duration;

use tokio::{runtime::Handle, time::Instant};

use super::Raft;

/// After so many election timeouts a member that does not hear its program stands all the same.
const UNHEARD_MAX: u32 = 8;

pub struct Timing {
    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
}

/// Whether this member stands for election when it hears of no leader.
///
/// Other members are heard through the threads of the program. One whose program is so busy that it
/// does not hear the leader would take it for gone: meanwhile it does not stand, and then not before
/// the leader has had time to be heard. That ends after a while: it may be the clients of a leader that
/// is gone who keep it busy, and the others may need its log.
///
/// The library draws a member's patience once, when it starts. Two that stand at the same moment would
/// do so again and again, each with its own vote: so after an election that nobody won a coin decides.
pub async fn stand_for_election(raft: Raft, program: Handle, timing: Timing) {
    let pause = timing.heartbeat_interval / 2;
    let metrics = raft.server_metrics();
    let now = Instant::now();
    let (mut heard_last, mut unheard_last) = (now, None);
    loop {
        let is_heard = tokio::time::timeout(pause, program.spawn(async {}));
        let now = Instant::now();
        match is_heard.await.is_ok_and(|heard| heard.is_ok()) {
            true => heard_last = now,
            false => unheard_last = Some(now),
        }
        let is_waiting = unheard_last.is_some_and(|at| at.elapsed() < timing.election_timeout);
        let hears = !is_waiting || heard_last.elapsed() > timing.election_timeout * UNHEARD_MAX;
        let is_contested = {
            let metrics = metrics.borrow();
            let voters = metrics.membership_config.membership().voter_ids().count();
            voters > 1 && !metrics.vote.is_committed()
        };
        raft.runtime_config()
            .elect(hears && (!is_contested || rand::random()));
        tokio::time::sleep(pause).await;
    }
}
