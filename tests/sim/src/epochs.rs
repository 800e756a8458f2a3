//! I4: a shard has one line of epochs. It only grows, each number by one; whoever reads it later
//! sees at least as much of it; a change of primary that was reported done stands in it.

use std::{collections::BTreeMap, time::Duration};

use seawall_proto::v1::{
    GetHistoryRequest, InitShardPrimarySpec, PlannedReparentSpec, operation_spec::Spec,
    topology_client::TopologyClient,
};

use seawall_tests::proof::{
    group::{Answer, Group},
    history::{Call, History},
    verdict::{Doubt, Verdict},
};

use crate::{
    agents,
    operations::{Ended, carry_out},
};

#[derive(Clone, Debug)]
pub enum Op {
    Change { to: String },
    Read,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ret {
    Changed,
    NotChanged,
    /// Numbers and primaries.
    Line(Vec<(u64, String)>),
}

/// Makes one tablet after the other the primary.
pub async fn change(client: u64, group: Group, history: History<Op, Ret>) {
    loop {
        let aliases = agents::aliases();
        let to = aliases[rand::random_range(0..aliases.len())].clone();
        let spec = match read(&group).await {
            Some(line) if !line.is_empty() => Spec::PlannedReparent(PlannedReparentSpec {
                shard: Some(agents::shard()),
                new_primary: to.clone(),
            }),
            _ => Spec::InitShardPrimary(InitShardPrimarySpec {
                shard: Some(agents::shard()),
                alias: to.clone(),
            }),
        };
        let call = history.invoke(client, Op::Change { to });
        if let Some(ended) = carry_out(&group, spec).await {
            let ret = match ended {
                Ended::Done { .. } => Ret::Changed,
                Ended::NotDone => Ret::NotChanged,
            };
            history.returned(call, ret);
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(100..2000))).await;
    }
}

/// Reads the line now and then.
pub async fn look(client: u64, group: Group, history: History<Op, Ret>) {
    loop {
        tokio::time::sleep(Duration::from_millis(rand::random_range(50..600))).await;
        let call = history.invoke(client, Op::Read);
        if let Some(line) = read(&group).await {
            history.returned(call, Ret::Line(line));
        }
    }
}

async fn read(group: &Group) -> Option<Vec<(u64, String)>> {
    let call = |channel| async move {
        let request = GetHistoryRequest {
            shard: Some(agents::shard()),
        };
        TopologyClient::new(channel).get_history(request).await
    };
    match group.call(call).await {
        Answer::Done(history) => Some(
            history
                .epochs
                .into_iter()
                .map(|epoch| (epoch.number, epoch.alias))
                .collect(),
        ),
        Answer::Refused(_) | Answer::Unknown => None,
    }
}

/// Of all that was read and changed.
pub fn check(calls: &[Call<Op, Ret>]) -> Verdict {
    let mut longest: &[(u64, String)] = &[];
    for call in calls {
        let Some((_, Ret::Line(line))) = &call.returned else {
            continue;
        };
        if line
            .iter()
            .zip(1..)
            .any(|((number, _), expected)| *number != expected)
        {
            return Err(Doubt::Violated(format!(
                "I4: the numbers of {line:?} do not grow by one"
            )));
        }
        let shared = longest.len().min(line.len());
        if longest[..shared] != line[..shared] {
            return Err(Doubt::Violated(format!(
                "I4: two lines of one shard: {longest:?} and {line:?}"
            )));
        }
        if line.len() > longest.len() {
            longest = line;
        }
    }
    calls.iter().try_for_each(|later| check_one(calls, later))
}

/// What had been answered before a read began is in what it read.
fn check_one(calls: &[Call<Op, Ret>], later: &Call<Op, Ret>) -> Verdict {
    let Some((_, Ret::Line(line))) = &later.returned else {
        return Ok(());
    };
    let before = |call: &&Call<Op, Ret>| {
        call.returned
            .as_ref()
            .is_some_and(|(at, _)| *at < later.invoked)
    };
    let mut changes: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls.iter().filter(before) {
        match (&call.op, &call.returned) {
            (_, Some((_, Ret::Line(earlier)))) if earlier.len() > line.len() => {
                return Err(Doubt::Violated(format!(
                    "I4: {later:?} read less than {call:?} before it"
                )));
            }
            (Op::Change { to }, Some((_, Ret::Changed))) => *changes.entry(to).or_default() += 1,
            _ => {}
        }
    }
    for (to, changes) in changes {
        let epochs = line.iter().filter(|(_, primary)| primary == to).count();
        if epochs < changes {
            return Err(Doubt::Violated(format!(
                "I4: {changes} changes to {to} had been reported before {later:?}"
            )));
        }
    }
    Ok(())
}
