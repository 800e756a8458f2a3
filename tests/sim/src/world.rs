//! The simulated world: three members, clients on hosts of their own, and the nemesis.

use std::time::Duration;

use seawall_coordinator::sim::{self, PORT};
use seawall_tests::proof::{
    group::Group,
    history::{Call, History, Order, Shared},
    locks::{by_hand, sides},
    timestamps,
    verdict::{self, Doubt, Verdict},
};
use tonic::transport::Endpoint;
use turmoil::{Builder, Sim};

use crate::{agents, catalogue, epochs, membership::Operator, nemesis::Nemesis, seats::Seats};

/// The group begins with so many members.
const FOUNDERS: u64 = 3;
/// Here is another one now and then.
const SPARE: &str = "member4";
const OPERATOR: &str = "operator";
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
    catalogue: History<catalogue::Named, catalogue::Ret>,
    /// Backups that are complete.
    backups: Shared<String>,
    beliefs: Shared<sides::Belief>,
    broken: Shared<sides::Broken>,
    /// What was done to the membership.
    changes: Shared<String>,
}

impl Recorded {
    fn new() -> Self {
        let order = Order::default();
        Self {
            timestamps: History::new(&order),
            locks: History::new(&order),
            epochs: History::new(&order),
            catalogue: History::new(&order),
            backups: Shared::default(),
            beliefs: Shared::default(),
            broken: Shared::default(),
            changes: Shared::default(),
            order,
        }
    }
}

/// Runs the world; a line of what happened, or what was violated.
pub fn run(seed: u64, troubled: Duration) -> Result<String, Doubt> {
    let founders: Vec<String> = (1..=FOUNDERS).map(|id| format!("member{id}")).collect();
    let clients: Vec<String> = (1..=CLIENT_HOSTS)
        .map(|id| format!("clients{id}"))
        .collect();
    let addresses: Vec<String> = founders.iter().map(|host| address(host)).collect();
    let seats = Seats::new(
        &founders.iter().cloned().zip(addresses.clone()).collect(),
        &[SPARE.to_owned()],
    );
    let recorded = Recorded::new();
    let mut sim = build(seed, troubled);
    let members: Vec<String> = founders.iter().cloned().chain([SPARE.to_owned()]).collect();
    add_members(&mut sim, &members, &seats);
    add_clients(&mut sim, &clients, &addresses, &recorded);
    sim.host(agents::HOST, {
        let (addresses, history) = (addresses.clone(), recorded.catalogue.clone());
        move || agents::run(group(&addresses), history.clone())
    });
    add_operator(&mut sim, founders, addresses, &seats, &recorded, troubled);
    let mut nemesis = Nemesis::new(&members, &clients);
    let stopped =
        |e: Box<dyn std::error::Error>| Doubt::Violated(format!("the simulation stopped: {e}"));
    let step = |sim: &mut Sim<'_>| {
        seats.carry_out(sim);
        sim.step().map_err(stopped)
    };
    while sim.elapsed() < troubled {
        nemesis.act(&mut sim);
        step(&mut sim)?;
    }
    nemesis.heal(&mut sim);
    let until = sim.elapsed() + HEALED_FOR - ANSWERED_WITHIN;
    while sim.elapsed() < until {
        step(&mut sim)?;
    }
    let healed = recorded.order.length();
    while sim.elapsed() < until + ANSWERED_WITHIN {
        step(&mut sim)?;
    }
    verdict::all([
        check(&recorded),
        check_substance(&recorded),
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

fn add_members(sim: &mut Sim<'_>, hosts: &[String], seats: &Seats) {
    for host in hosts {
        let (seats, own) = (seats.clone(), host.clone());
        sim.host(host.as_str(), move || {
            let (seats, own) = (seats.clone(), own.clone());
            async move { seats.run(&own).await }
        });
    }
}

fn add_operator(
    sim: &mut Sim<'_>,
    hosts: Vec<String>,
    addresses: Vec<String>,
    seats: &Seats,
    recorded: &Recorded,
    until: Duration,
) {
    let (seats, done) = (seats.clone(), recorded.changes.clone());
    sim.host(OPERATOR, move || {
        let operator = Operator {
            group: group(&addresses),
            seats: seats.clone(),
            hosts: hosts.clone(),
            spare: SPARE.to_owned(),
            address,
            until,
            done: done.clone(),
        };
        async move {
            operator.work().await;
            std::future::pending().await
        }
    });
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

fn add_clients(sim: &mut Sim<'_>, hosts: &[String], addresses: &[String], recorded: &Recorded) {
    for (number, host) in (0_u64..).zip(hosts) {
        let (addresses, recorded) = (addresses.to_owned(), recorded.clone());
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
                let backups = recorded.backups.clone();
                if number == 0 {
                    tokio::spawn(catalogue::make(group.clone(), backups.clone()));
                }
                let history = recorded.catalogue.clone();
                tokio::spawn(catalogue::client(
                    base + 41,
                    group.clone(),
                    backups,
                    history,
                ));
                std::future::pending::<()>().await;
                Ok(())
            }
        });
    }
}

fn check(recorded: &Recorded) -> Verdict {
    verdict::all([
        timestamps::check(&recorded.timestamps.calls()),
        sides::check(&recorded.beliefs.all(), &recorded.broken.all()),
        epochs::check(&recorded.epochs.calls()),
        by_hand::check(&recorded.locks.calls()),
        catalogue::check(&recorded.catalogue.calls()),
    ])
}

/// Where nobody was answered, nothing was proved.
fn check_substance(recorded: &Recorded) -> Verdict {
    verdict::all([
        any_answered("timestamps", &recorded.timestamps.calls()),
        any_answered("calls of locks", &recorded.locks.calls()),
        any_answered("calls of epochs", &recorded.epochs.calls()),
        any_answered("calls of the catalogue", &recorded.catalogue.calls()),
    ])
}

fn any_answered<Op, Ret>(what: &str, calls: &[Call<Op, Ret>]) -> Verdict {
    match calls.iter().any(|call| call.returned.is_some()) {
        true => Ok(()),
        false => Err(Doubt::NotChecked(format!(
            "of {} {what} none was answered",
            calls.len()
        ))),
    }
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
        "{troubles} troubles; answered: {} timestamps, {} calls of locks, {} of epochs, \
         {} of the catalogue; {} changes of primary, {} backups, \
         {} holds kept, {} broken; members: {}; fingerprint {:016x}",
        answered(&recorded.timestamps.calls()),
        answered(&recorded.locks.calls()),
        answered(&epochs),
        answered(&recorded.catalogue.calls()),
        changes.count(),
        recorded.backups.all().len(),
        recorded.beliefs.all().len(),
        recorded.broken.all().len(),
        recorded.changes.all().join(", "),
        recorded.timestamps.fingerprint()
            ^ recorded.locks.fingerprint()
            ^ recorded.epochs.fingerprint()
            ^ recorded.catalogue.fingerprint(),
    )
}

fn answered<Op, Ret>(calls: &[Call<Op, Ret>]) -> String {
    let answered = calls.iter().filter(|call| call.returned.is_some()).count();
    format!("{answered} of {}", calls.len())
}
