//! I5: what clients acquire, release and see by hand in one scope is linearizable.

use std::collections::BTreeMap;

use seawall_proto::v1::{Hold, ListHoldsRequest, LockScope, locks_client::LocksClient};
use stateright::semantics::SequentialSpec;

use super::{acquire, pause, release};
use crate::proof::{
    group::{Answer, Group},
    history::{Call, History},
    search::{self, CALLS_MAX},
    verdict::{self, Doubt, Verdict},
};

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

/// Acquires, looks and releases by hand.
pub async fn client(client: u64, group: Group, history: History<Op, Ret>) {
    loop {
        let scope = history.length() / CALLS_MAX;
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

/// Each scope's calls can be put into one order that explains all answers, and tokens grow.
pub fn check(calls: &[Call<Op, Ret>]) -> Verdict {
    check_tokens(calls)?;
    let mut scopes: BTreeMap<u64, Vec<&Call<Op, Ret>>> = BTreeMap::new();
    for call in calls {
        // A look that had no answer says nothing and does nothing.
        if call.returned.is_some() || !matches!(call.op, Op::Look { .. }) {
            scopes.entry(call.op.scope()).or_default().push(call);
        }
    }
    verdict::all(scopes.into_iter().map(|(scope, calls)| {
        check_overlaps(scope, &calls)?;
        search::explain(Scope::default(), &format!("scope {scope} (I5)"), &calls)
    }))
}

/// Of a grant: the place of its beginning, of its end, and the token.
fn granted(call: &Call<Op, Ret>) -> Option<(u64, u64, u64)> {
    match call.returned {
        Some((returned, Ret::Granted { token })) => Some((call.invoked, returned, token)),
        _ => None,
    }
}

/// A grant has a greater token than all that were answered before it was asked for, in any scope.
fn check_tokens(calls: &[Call<Op, Ret>]) -> Verdict {
    let mut grants: Vec<(u64, u64, u64)> = calls.iter().filter_map(granted).collect();
    grants.sort_by_key(|(_, _, token)| std::cmp::Reverse(*token));
    // Of those with a greater token, the one that was answered first: when, and its token.
    let mut answered: Option<(u64, u64)> = None;
    let mut last = None;
    for (invoked, returned, token) in grants {
        if last == Some(token) {
            return Err(Doubt::Violated(format!(
                "I5: token {token} is granted twice"
            )));
        }
        if let Some((at, greater)) = answered
            && at < invoked
        {
            return Err(Doubt::Violated(format!(
                "I5: token {token} is granted although {greater} had been before it was asked for"
            )));
        }
        last = Some(token);
        answered = Some(answered.map_or((returned, token), |first| first.min((returned, token))));
    }
    Ok(())
}

/// Nobody is granted a hold while another one has it for certain.
fn check_overlaps(scope: u64, calls: &[&Call<Op, Ret>]) -> Verdict {
    for one in calls {
        let (Op::Acquire { id, .. }, Some((_, since, _))) = (&one.op, granted(one)) else {
            continue;
        };
        let releases = calls
            .iter()
            .filter(|call| matches!(&call.op, Op::Release { id: released, .. } if released == id));
        let until = releases.map(|call| call.invoked).min().unwrap_or(u64::MAX);
        let meanwhile = calls.iter().find(|other| {
            granted(other).is_some_and(|(invoked, returned, _)| since < invoked && returned < until)
        });
        if let Some(other) = meanwhile {
            return Err(Doubt::Violated(format!(
                "I5: scope {scope} was granted twice at once: {one:?} and {other:?}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(client: u64, (invoked, returned): (u64, u64), token: u64) -> Call<Op, Ret> {
        let id = u128::from(token);
        Call {
            client,
            op: Op::Acquire { scope: client, id },
            invoked,
            returned: Some((returned, Ret::Granted { token })),
        }
    }

    #[test]
    fn i5_a_token_is_compared_with_all_greater_ones() {
        let right = [
            grant(1, (0, 9), 1),
            grant(2, (1, 2), 3),
            grant(3, (1, 8), 2),
            grant(4, (9, 10), 4),
        ];
        assert_eq!(check_tokens(&right), Ok(()));
        // 3 was answered before 1 was asked for; 2, which lies between them, was not.
        let backwards = [
            grant(1, (5, 9), 1),
            grant(2, (1, 8), 2),
            grant(3, (1, 2), 3),
        ];
        let said = check_tokens(&backwards).unwrap_err().to_string();
        assert!(said.contains("token 1 is granted although 3"), "{said}");
        let twice = [grant(1, (0, 1), 7), grant(2, (2, 3), 7)];
        let said = check_tokens(&twice).unwrap_err().to_string();
        assert!(said.contains("granted twice"), "{said}");
    }
}
