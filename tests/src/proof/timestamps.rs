//! I1: a request that begins after another was answered gets a greater timestamp, whoever asks; no
//! value is given twice; nothing at or below a fast-forward is given after its answer.

use std::time::Duration;

use seawall_proto::v1::{
    FastForwardRequest, FetchTimestampRequest, timestamps_client::TimestampsClient,
};

use super::{
    group::{Answer, Group},
    history::{Call, History},
    verdict::{Doubt, Verdict},
};

#[derive(Clone, Debug)]
pub enum Op {
    Fetch { count: u32 },
    FastForward { to: u64 },
}

/// The first and the last of what was given; of a fast-forward twice the bound.
pub type Ret = (u64, u64);

pub async fn client(client: u64, group: Group, history: History<Op, Ret>) {
    let mut newest = 0;
    loop {
        let op = match rand::random_range(0..100) {
            0..2 => Op::FastForward {
                to: newest + rand::random_range(0..1_000_000),
            },
            2..20 => Op::Fetch {
                count: rand::random_range(1..70_000),
            },
            _ => Op::Fetch { count: 1 },
        };
        let call = history.invoke(client, op.clone());
        let answer = ask(&group, op).await;
        if let Answer::Done(given) = answer {
            newest = given.1;
            history.returned(call, given);
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(1..60))).await;
    }
}

async fn ask(group: &Group, op: Op) -> Answer<Ret> {
    match op {
        Op::Fetch { count } => {
            let answer = group.call(|channel| async move {
                let request = FetchTimestampRequest { count };
                TimestampsClient::new(channel).fetch(request).await
            });
            match answer.await {
                Answer::Done(given) => {
                    Answer::Done((given.first, given.first + u64::from(given.count) - 1))
                }
                Answer::Refused(error) => Answer::Refused(error),
                Answer::Unknown => Answer::Unknown,
            }
        }
        Op::FastForward { to } => {
            let answer = group.call(|channel| async move {
                let request = FastForwardRequest { timestamp: to };
                TimestampsClient::new(channel).fast_forward(request).await
            });
            match answer.await {
                Answer::Done(done) => Answer::Done((done.bound, done.bound)),
                Answer::Refused(error) => Answer::Refused(error),
                Answer::Unknown => Answer::Unknown,
            }
        }
    }
}

/// Looks through the calls in the order in which things happened.
pub fn check(calls: &[Call<Op, Ret>]) -> Verdict {
    let mut events: Vec<(u64, &Call<Op, Ret>)> = Vec::new();
    for call in calls {
        events.push((call.invoked, call));
        if let Some((returned, _)) = call.returned {
            events.push((returned, call));
        }
    }
    events.sort_by_key(|(at, _)| *at);
    let mut newest = 0;
    let mut floors = std::collections::BTreeMap::new();
    for (at, call) in events {
        if at == call.invoked {
            floors.insert(call.invoked, newest);
            continue;
        }
        let Some((_, (first, last))) = call.returned else {
            continue;
        };
        let floor = floors.get(&call.invoked).copied().unwrap_or(0);
        let is_right = match call.op {
            Op::Fetch { .. } => first > floor,
            Op::FastForward { to } => last >= to && last >= floor,
        };
        if !is_right {
            return Err(Doubt::Violated(format!(
                "I1: {call:?} was answered although {floor} had been answered before it began"
            )));
        }
        newest = newest.max(last);
    }
    given_once(calls)
}

fn given_once(calls: &[Call<Op, Ret>]) -> Verdict {
    let fetched = calls
        .iter()
        .filter(|call| matches!(call.op, Op::Fetch { .. }));
    let mut ranges: Vec<Ret> = fetched
        .filter_map(|call| call.returned.map(|(_, ret)| ret))
        .collect();
    ranges.sort_unstable();
    match ranges.windows(2).find(|pair| pair[0].1 >= pair[1].0) {
        Some(pair) => Err(Doubt::Violated(format!(
            "I1: given twice: {:?} and {:?}",
            pair[0], pair[1]
        ))),
        None => Ok(()),
    }
}
