//! I5: from the answer that grants a program a hold until its lease is over, counted from the last
//! call that kept it alive, nobody holds the other side in an overlapping scope.

use std::time::Duration;

use seawall_proto::v1::{
    BreakHoldRequest, HeldToken, KeepHoldsAliveRequest, ListHoldsRequest, LockScope, LockSide,
    locks_client::LocksClient,
};

use super::{acquire, pause, release, text};
use crate::proof::{
    group::{Answer, Group},
    history::Shared,
    verdict::{Doubt, Verdict},
};

/// From when to when a program knew that it had a hold, since the run began.
#[derive(Clone, Debug)]
pub struct Belief {
    id: u128,
    side: LockSide,
    scope: LockScope,
    from: Duration,
    until: Duration,
    /// When it asked for the last time and was told that it has the hold.
    kept: Duration,
}

const LEASE: Duration = Duration::from_secs(2);

/// Acquires holds on either side and keeps them alive for a while.
pub async fn program(group: Group, beliefs: Shared<Belief>) {
    loop {
        pause(500).await;
        let side = match rand::random_range(0..2) {
            0 => LockSide::Backup,
            _ => LockSide::Delete,
        };
        let shard = match rand::random_range(0..3) {
            0 => String::new(),
            shard => shard.to_string(),
        };
        let scope = LockScope {
            keyspace: "sides".to_owned(),
            shard,
        };
        let id = uuid::Uuid::new_v4().as_u128();
        let asked = group.elapsed();
        let lease_ms = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        let answer = acquire(&group, id, scope.clone(), Some((side, lease_ms))).await;
        if let Answer::Done(hold) = answer {
            let belief = Belief {
                id,
                side,
                scope,
                from: group.elapsed(),
                until: asked + LEASE,
                kept: asked,
            };
            beliefs.push(keep(&group, hold.token, belief).await);
        }
        // Whether or not that is answered: the lease ends it, too.
        release(&group, id).await;
    }
}

/// A hold that an operator broke, and what he knows of when.
#[derive(Clone, Debug)]
pub struct Broken {
    id: u128,
    asked: Duration,
    /// None: it is not known whether it was.
    answered: Option<Duration>,
}

/// Breaks a hold of a program now and then.
pub async fn operator(group: Group, broken: Shared<Broken>) {
    loop {
        pause(6_000).await;
        let list =
            |channel| async move { LocksClient::new(channel).list(ListHoldsRequest {}).await };
        let Answer::Done(list) = group.call(list).await else {
            continue;
        };
        let Some(hold) = list.holds.iter().find(|hold| hold.lease_ms != 0) else {
            continue;
        };
        let asked = group.elapsed();
        let call = |channel| {
            let request = BreakHoldRequest {
                id: hold.id.clone(),
                scope: Some(LockScope::default()),
                reason: "simulated".to_owned(),
                operator: "an operator".to_owned(),
            };
            async move { LocksClient::new(channel).r#break(request).await }
        };
        let answer = group.call(call).await;
        if matches!(answer, Answer::Refused(_)) {
            continue;
        }
        broken.push(Broken {
            id: hold.id.parse::<uuid::Uuid>().unwrap_or_default().as_u128(),
            asked,
            answered: matches!(answer, Answer::Done(_)).then(|| group.elapsed()),
        });
    }
}

/// Keeps a hold alive for a while, or until it is lost.
async fn keep(group: &Group, token: u64, mut belief: Belief) -> Belief {
    let enough = group.elapsed() + Duration::from_millis(rand::random_range(1..15_000));
    while group.elapsed() < enough {
        pause(1500).await;
        let asked = group.elapsed();
        let call = |channel| async move {
            let held = HeldToken {
                hold_id: text(belief.id),
                token,
            };
            let request = KeepHoldsAliveRequest { holds: vec![held] };
            LocksClient::new(channel).keep_alive(request).await
        };
        match group.call(call).await {
            Answer::Done(kept) if kept.lost_holds.is_empty() => {
                belief.until = asked + LEASE;
                belief.kept = asked;
            }
            Answer::Done(_) => return belief,
            Answer::Refused(_) | Answer::Unknown => {}
        }
    }
    // It lets go of it now, and knows from now on that it may be somebody else's.
    belief.until = belief.until.min(group.elapsed());
    belief
}

fn overlap(one: &LockScope, other: &LockScope) -> bool {
    one.shard.is_empty() || other.shard.is_empty() || one.shard == other.shard
}

/// Nobody believed to hold one side while somebody else believed to hold the other; nobody was told
/// that he has a hold after whoever broke it had been told so.
pub fn check(beliefs: &[Belief], broken: &[Broken]) -> Verdict {
    let mut beliefs = beliefs.to_vec();
    for belief in &mut beliefs {
        for broken in broken.iter().filter(|broken| broken.id == belief.id) {
            if broken
                .answered
                .is_some_and(|answered| belief.kept > answered)
            {
                return Err(Doubt::Violated(format!(
                    "I5: {belief:?} was kept after {broken:?}"
                )));
            }
            belief.until = belief.until.min(broken.asked);
        }
    }
    for (index, one) in beliefs.iter().enumerate() {
        for other in &beliefs[index + 1..] {
            let at_once = one.from < other.until && other.from < one.until;
            if at_once && one.side != other.side && overlap(&one.scope, &other.scope) {
                return Err(Doubt::Violated(format!(
                    "I5: both sides at once: {one:?} and {other:?}"
                )));
            }
        }
    }
    Ok(())
}
