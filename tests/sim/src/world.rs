//! The simulated world: three members, clients on hosts of their own, and the nemesis.

use std::{collections::BTreeMap, time::Duration};

use seawall_coordinator::sim::{self, Member, PORT};
use seawall_tests::proof::{
    group::Group,
    history::{Call, History, Order, Shared},
    locks::{by_hand, sides},
    timestamps,
    verdict::{self, Doubt, Verdict},
};
use tonic::transport::Endpoint;
use turmoil::{Builder, Sim};

use crate::{agents, epochs, nemesis::Nemesis};

const MEMBERS: u64 = 3;
const CLIENT_HOSTS: u64 = 3;
const TICK: Duration = Duration::from_millis(2);
/// After everything has been healed, for so long at most until all is done again.
const HEALED_FOR: Duration = Duration::from_secs(20);
/// Within so long of the end everybody has been answered.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// What clients did.
#[derive(Clone)]
struct Recorded {
    order: Order,
    timestamps: History<timestamps::Op, timestamps::Ret>,
    locks: History<by_hand::Op, by_hand::Ret>,
    epochs: History<epochs::Op, epochs::Ret>,
    beliefs: Shared<sides::Belief>,
    broken: Shared<sides::Broken>,
}

impl Recorded {
    fn new() -> Self {
        let order = Order::default();
        Self {
            timestamps: History::new(&order),
            locks: History::new(&order),
            epochs: History::new(&order),
            beliefs: Shared::default(),
            broken: Shared::default(),
            order,
        }
    }
}

/// Runs the world; a line of what happened, or what was violated.
pub fn run(seed: u64, troubled: Duration) -> Result<String, Doubt> {
    let members: Vec<String> = (1..=MEMBERS).map(|id| format!("member{id}")).collect();
    let clients: Vec<String> = (1..=CLIENT_HOSTS)
        .map(|id| format!("clients{id}"))
        .collect();
    let recorded = Recorded::new();
    let mut sim = build(seed, troubled);
    add_members(&mut sim, &members);
    add_clients(&mut sim, &clients, &members, &recorded);
    add_agents(&mut sim, &members);
    let mut nemesis = Nemesis::new(&members, &clients);
    let stopped =
        |e: Box<dyn std::error::Error>| Doubt::Violated(format!("the simulation stopped: {e}"));
    while sim.elapsed() < troubled {
        nemesis.act(&mut sim);
        sim.step().map_err(stopped)?;
    }
    nemesis.heal(&mut sim);
    let until = sim.elapsed() + HEALED_FOR - ANSWERED_WITHIN;
    while sim.elapsed() < until {
        sim.step().map_err(stopped)?;
    }
    let healed = recorded.order.length();
    while sim.elapsed() < until + ANSWERED_WITHIN {
        sim.step().map_err(stopped)?;
    }
    verdict::all([
        check(&recorded),
        check_answered(&recorded, healed),
        check_members(),
    ])?;
    Ok(report(&recorded, nemesis.troubles))
}

fn build<'a>(seed: u64, troubled: Duration) -> Sim<'a> {
    let mut builder = Builder::new();
    builder
        .rng_seed(seed)
        .simulation_duration(troubled + HEALED_FOR * 2)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .tcp_capacity(4096)
        .enable_random_order();
    builder.fs().sync_probability(0.02);
    builder.build()
}

fn address(host: &str) -> String {
    format!("{host}:{PORT}")
}

fn add_members(sim: &mut Sim<'_>, hosts: &[String]) {
    let members: BTreeMap<u64, String> =
        (1..).zip(hosts.iter().map(|host| address(host))).collect();
    for (id, host) in (1..).zip(hosts) {
        let member = Member {
            id,
            host: host.clone(),
            members: members.clone(),
        };
        sim.host(host.as_str(), move || {
            let member = member.clone();
            async move { Ok(sim::run(member).await?) }
        });
    }
}

fn group(addresses: &[String]) -> Group {
    let second = Duration::from_secs(1);
    let channel = |address: &String| {
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.expect("an address of the simulation");
        sim::connect(
            &endpoint
                .connect_timeout(second)
                .http2_keep_alive_interval(second)
                .keep_alive_timeout(second),
        )
    };
    let elapsed = || turmoil::sim_elapsed().unwrap_or_default();
    Group::new(addresses.iter().map(channel).collect(), elapsed)
}

fn add_clients(sim: &mut Sim<'_>, hosts: &[String], members: &[String], recorded: &Recorded) {
    let addresses: Vec<String> = members.iter().map(|host| address(host)).collect();
    for (number, host) in (0_u64..).zip(hosts) {
        let (addresses, recorded) = (addresses.clone(), recorded.clone());
        sim.host(host.as_str(), move || {
            let (group, recorded) = (group(&addresses), recorded.clone());
            async move {
                let base = number * 100;
                for client in 1..=2 {
                    let history = recorded.timestamps.clone();
                    tokio::spawn(timestamps::client(base + client, group.clone(), history));
                }
                tokio::spawn(by_hand::client(
                    base + 11,
                    group.clone(),
                    recorded.locks.clone(),
                ));
                for _ in 0..2 {
                    tokio::spawn(sides::program(group.clone(), recorded.beliefs.clone()));
                }
                tokio::spawn(sides::operator(group.clone(), recorded.broken.clone()));
                let history = recorded.epochs.clone();
                tokio::spawn(epochs::change(base + 31, group.clone(), history.clone()));
                tokio::spawn(epochs::look(base + 32, group.clone(), history));
                std::future::pending::<()>().await;
                Ok(())
            }
        });
    }
}

fn add_agents(sim: &mut Sim<'_>, members: &[String]) {
    let addresses: Vec<String> = members.iter().map(|host| address(host)).collect();
    sim.host(agents::HOST, move || agents::run(group(&addresses)));
}

fn check(recorded: &Recorded) -> Verdict {
    verdict::all([
        timestamps::check(&recorded.timestamps.calls()),
        sides::check(&recorded.beliefs.all(), &recorded.broken.all()),
        epochs::check(&recorded.epochs.calls()),
        by_hand::check(&recorded.locks.calls()),
    ])
}

/// With everything healed, everybody is served again.
fn check_answered(recorded: &Recorded, healed: u64) -> Verdict {
    let calls = recorded.timestamps.calls();
    for client in (0..CLIENT_HOSTS).flat_map(|host| [host * 100 + 1, host * 100 + 2]) {
        let of_client = calls.iter().filter(|call| call.client == client);
        let mut answered = of_client.filter_map(|call| call.returned.map(|(at, _)| at));
        if !answered.any(|at| at > healed) {
            return Err(Doubt::Violated(format!(
                "client {client} was not answered within {ANSWERED_WITHIN:?}, long after everything was healed"
            )));
        }
    }
    Ok(())
}

/// The state is a function of the log alone: members that have applied as much have the same.
fn check_members() -> Verdict {
    let states = sim::states();
    for (host, applied, state) in &states[1..] {
        let (first, first_applied, first_state) = &states[0];
        if applied == first_applied && state != first_state {
            return Err(Doubt::Violated(format!(
                "{first} and {host} have both applied {applied} entries, and differ:\n{first_state}\n{state}"
            )));
        }
    }
    Ok(())
}

fn report(recorded: &Recorded, troubles: u32) -> String {
    let epochs = recorded.epochs.calls();
    let changes = epochs
        .iter()
        .filter(|call| matches!(call.returned, Some((_, epochs::Ret::Changed))));
    format!(
        "{troubles} troubles; answered: {} timestamps, {} calls of locks, {} of epochs; {} changes of primary, \
         {} holds kept, {} broken; fingerprint {:016x}",
        answered(&recorded.timestamps.calls()),
        answered(&recorded.locks.calls()),
        answered(&epochs),
        changes.count(),
        recorded.beliefs.all().len(),
        recorded.broken.all().len(),
        recorded.timestamps.fingerprint()
            ^ recorded.locks.fingerprint()
            ^ recorded.epochs.fingerprint(),
    )
}

fn answered<Op, Ret>(calls: &[Call<Op, Ret>]) -> String {
    let answered = calls.iter().filter(|call| call.returned.is_some()).count();
    format!("{answered} of {}", calls.len())
}
