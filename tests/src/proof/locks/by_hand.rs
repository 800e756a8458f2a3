//! I5: a hold is one place in one order of events, and the two sides of the backup lock are never
//! held at once, as their holders know it.
//!
//! By hand: what clients acquire, release and see in one scope is linearizable. Programs: from the
//! answer that grants a hold until its lease is over, counted from the last call that kept it alive,
//! nobody holds the other side in an overlapping scope.

use std::{collections::BTreeMap, time::Duration};

use seawall_proto::v1::{
    AcquireHoldRequest, BreakHoldRequest, HeldToken, Hold, KeepHoldsAliveRequest, ListHoldsRequest,
    LockScope, LockSide, ReleaseHoldRequest, locks_client::LocksClient,
};
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};

use super::{
    group::{Answer, Group},
    history::{Call, History, Shared},
};

/// A scope is used for so long; then the next: a short history is checked soon.
const WINDOW: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(8);

#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Acquire { scope: u64, id: u128 },
    Release { scope: u64, id: u128 },
    Look { scope: u64 },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ret {
    Granted {
        token: u64,
    },
    Refused,
    /// By this call or by one before it.
    Released,
    Held {
        by: Option<u128>,
    },
}

impl Op {
    fn scope(&self) -> u64 {
        match self {
            Op::Acquire { scope, .. } | Op::Release { scope, .. } | Op::Look { scope } => *scope,
        }
    }
}

fn keyspace(scope: u64) -> LockScope {
    LockScope {
        keyspace: format!("window{scope}"),
        shard: String::new(),
    }
}

fn text(id: u128) -> String {
    uuid::Uuid::from_u128(id).to_string()
}

/// Acquires, looks and releases by hand.
pub async fn by_hand(client: u64, group: Group, history: History<Op, Ret>) {
    loop {
        let elapsed = group.elapsed();
        let scope = u64::try_from(elapsed.as_millis() / WINDOW.as_millis()).unwrap_or(0);
        let id = uuid::Uuid::new_v4().as_u128();
        let granted = note(client, &group, &history, Op::Acquire { scope, id }).await;
        pause(300).await;
        if rand::random_range(0..2) == 0 {
            note(client, &group, &history, Op::Look { scope }).await;
        }
        if !matches!(granted, Some(Ret::Refused)) {
            note(client, &group, &history, Op::Release { scope, id }).await;
        }
        pause(300).await;
    }
}

async fn pause(most_ms: u64) {
    tokio::time::sleep(Duration::from_millis(rand::random_range(1..most_ms))).await;
}

async fn note(client: u64, group: &Group, history: &History<Op, Ret>, op: Op) -> Option<Ret> {
    let call = history.invoke(client, op.clone());
    let ret = match op {
        Op::Acquire { scope, id } => acquired(acquire(group, id, keyspace(scope), None).await),
        Op::Release { id, .. } => released(release(group, id).await),
        Op::Look { scope } => look(group, scope).await,
    }?;
    history.returned(call, ret.clone());
    Some(ret)
}

fn acquired(answer: Answer<Hold>) -> Option<Ret> {
    match answer {
        Answer::Done(hold) => Some(Ret::Granted { token: hold.token }),
        Answer::Refused(_) => Some(Ret::Refused),
        Answer::Unknown => None,
    }
}

fn released<T>(answer: Answer<T>) -> Option<Ret> {
    match answer {
        Answer::Done(_) | Answer::Refused(_) => Some(Ret::Released),
        Answer::Unknown => None,
    }
}

async fn acquire(
    group: &Group,
    id: u128,
    scope: LockScope,
    lease: Option<(LockSide, u64)>,
) -> Answer<Hold> {
    let request = AcquireHoldRequest {
        id: text(id),
        scope: Some(scope),
        owner: "a client".to_owned(),
        reason: "simulated".to_owned(),
        side: lease.map_or(0, |(side, _)| side.into()),
        lease_ms: lease.map_or(0, |(_, lease_ms)| lease_ms),
        ..AcquireHoldRequest::default()
    };
    let call = |channel| {
        let request = request.clone();
        async move { LocksClient::new(channel).acquire(request).await }
    };
    group.insist(PATIENCE, call).await
}

async fn release(group: &Group, id: u128) -> Answer<()> {
    let call = |channel| async move {
        let request = ReleaseHoldRequest {
            id: text(id),
            scope: Some(LockScope::default()),
        };
        LocksClient::new(channel).release(request).await
    };
    match group.insist(PATIENCE, call).await {
        Answer::Done(_) => Answer::Done(()),
        Answer::Refused(error) => Answer::Refused(error),
        Answer::Unknown => Answer::Unknown,
    }
}

async fn look(group: &Group, scope: u64) -> Option<Ret> {
    let call = |channel| async move { LocksClient::new(channel).list(ListHoldsRequest {}).await };
    let Answer::Done(list) = group.call(call).await else {
        return None;
    };
    let here = |hold: &&Hold| hold.scope == Some(keyspace(scope));
    let id = list.holds.iter().find(here).map(|hold| &hold.id);
    Some(Ret::Held {
        by: id
            .and_then(|id| id.parse::<uuid::Uuid>().ok())
            .map(|id| id.as_u128()),
    })
}

/// What one scope is: nobody's or somebody's, with a token that grows.
#[derive(Clone, Default)]
struct Scope {
    /// The token is not known of a grant whose answer nobody had.
    holder: Option<(u128, Option<u64>)>,
    newest_token: u64,
    ended: Vec<u128>,
}

impl Scope {
    fn grant(&mut self, id: u128, token: u64) -> bool {
        match self.holder {
            Some((holder, known)) if holder == id => {
                self.holder = Some((id, Some(token)));
                let was_new = known.is_none() && token > self.newest_token;
                self.newest_token = self.newest_token.max(token);
                known == Some(token) || was_new
            }
            None if !self.ended.contains(&id) && token > self.newest_token => {
                self.holder = Some((id, Some(token)));
                self.newest_token = token;
                true
            }
            _ => false,
        }
    }

    fn release(&mut self, id: u128) {
        if self.holder.is_some_and(|(holder, _)| holder == id) {
            self.holder = None;
            self.ended.push(id);
        }
    }

    fn is_holder(&self, id: u128) -> bool {
        self.holder.is_some_and(|(holder, _)| holder == id)
    }
}

impl SequentialSpec for Scope {
    type Op = Op;
    type Ret = Ret;

    /// What a call does of which no answer came.
    fn invoke(&mut self, op: &Op) -> Ret {
        match *op {
            Op::Acquire { id, .. } => {
                if self.holder.is_none() && !self.ended.contains(&id) {
                    self.holder = Some((id, None));
                }
            }
            Op::Release { id, .. } => self.release(id),
            Op::Look { .. } => {}
        }
        Ret::Refused
    }

    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        match (op, ret) {
            (Op::Acquire { id, .. }, Ret::Granted { token }) => self.grant(*id, *token),
            (Op::Acquire { id, .. }, Ret::Refused) => {
                !self.is_holder(*id) && (self.holder.is_some() || self.ended.contains(id))
            }
            (Op::Release { id, .. }, Ret::Released) => {
                self.release(*id);
                true
            }
            (Op::Look { .. }, Ret::Held { by }) => self.holder.map(|(holder, _)| holder) == *by,
            _ => false,
        }
    }
}

/// Each scope's calls can be put into one order that explains all answers.
pub fn check(calls: &[Call<Op, Ret>]) -> Result<(), String> {
    let mut scopes: BTreeMap<u64, Vec<&Call<Op, Ret>>> = BTreeMap::new();
    for call in calls {
        scopes.entry(call.op.scope()).or_default().push(call);
    }
    for (scope, calls) in scopes {
        if !is_linearizable(&calls)? {
            let lines: Vec<String> = calls.iter().map(|call| format!("  {call:?}")).collect();
            return Err(format!(
                "I5: no order of events explains what was answered in scope {scope}:\n{}",
                lines.join("\n")
            ));
        }
    }
    Ok(())
}

fn is_linearizable(calls: &[&Call<Op, Ret>]) -> Result<bool, String> {
    // A client whose call has no answer goes on with others: that call counts as a client's of its own.
    let thread = |call: &Call<Op, Ret>| match call.returned {
        Some(_) => (call.client, 0),
        None => (call.client, call.invoked),
    };
    let mut events: Vec<(u64, &Call<Op, Ret>)> = Vec::new();
    for call in calls {
        // A look that had no answer says nothing and does nothing.
        if call.returned.is_none() && matches!(call.op, Op::Look { .. }) {
            continue;
        }
        events.push((call.invoked, call));
        events.extend(call.returned.iter().map(|(returned, _)| (*returned, *call)));
    }
    events.sort_by_key(|(at, _)| *at);
    let mut tester = LinearizabilityTester::new(Scope::default());
    for (at, call) in events {
        match &call.returned {
            Some((returned, ret)) if *returned == at => tester.on_return(thread(call), ret.clone()),
            _ => tester.on_invoke(thread(call), call.op.clone()),
        }?;
    }
    Ok(tester.is_consistent())
}

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
pub fn check_sides(beliefs: &[Belief], broken: &[Broken]) -> Result<(), String> {
    let mut beliefs = beliefs.to_vec();
    for belief in &mut beliefs {
        for broken in broken.iter().filter(|broken| broken.id == belief.id) {
            if broken
                .answered
                .is_some_and(|answered| belief.kept > answered)
            {
                return Err(format!("I5: {belief:?} was kept after {broken:?}"));
            }
            belief.until = belief.until.min(broken.asked);
        }
    }
    for (index, one) in beliefs.iter().enumerate() {
        for other in &beliefs[index + 1..] {
            let at_once = one.from < other.until && other.from < one.until;
            if at_once && one.side != other.side && overlap(&one.scope, &other.scope) {
                return Err(format!("I5: both sides at once: {one:?} and {other:?}"));
            }
        }
    }
    Ok(())
}
