//! A group of real processes on a network of its own that is cut in every pattern, killed, paused
//! past its leases, and left without room on its disks, with clients at work all the while: what
//! they were answered was right, and after each healing they are answered again.
//!
//! A minute; with `SEAWALL_SOAK` ten. On one thread, which is in the hub of the network.

mod members;
mod namespaces;

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use members::{Member, channels, time_to_answer, wait_for_leader};
use namespaces::Namespaces;
use seawall_tests::{
    harness::scratch::Scratch,
    proof::{
        group::Group,
        history::{History, Order, Shared},
        locks::{by_hand, sides},
        timestamps, verdict,
    },
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

const IDS: [u64; 3] = [1, 2, 3];
const TROUBLE: Duration = Duration::from_secs(4);
const CALM: Duration = Duration::from_secs(1);
/// Past the lease of a hold (2 s) and many elections.
const PAUSE: Duration = Duration::from_secs(4);
/// After a leader's election somebody is answered within this.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Clone, Copy, Debug)]
enum Trouble {
    OneAway,
    Bridge,
    Ring,
    OneWay,
    LeaderAway,
    LeaderKilled,
    OneKilled,
    AllKilled,
    LeaderPaused,
    DiskFull,
}

const TROUBLES: [Trouble; 10] = [
    Trouble::LeaderAway,
    Trouble::Bridge,
    Trouble::LeaderKilled,
    Trouble::Ring,
    Trouble::LeaderPaused,
    Trouble::OneWay,
    Trouble::DiskFull,
    Trouble::OneAway,
    Trouble::AllKilled,
    Trouble::OneKilled,
];

/// In the order in which it is taken down.
struct World {
    members: Vec<Member>,
    network: Namespaces,
    channels: Vec<Channel>,
}

impl World {
    fn member(&mut self, id: u64) -> &mut Member {
        &mut self.members[usize::try_from(id - 1).unwrap_or(0)]
    }

    async fn make(&mut self, trouble: Trouble) -> Result<()> {
        let leader = wait_for_leader(&self.channels, &IDS).await?;
        let [next, last] = [leader % 3 + 1, (leader + 1) % 3 + 1];
        let network = &self.network;
        match trouble {
            Trouble::LeaderAway => {
                network.cut_both(leader, next)?;
                network.cut_both(leader, last)?;
            }
            Trouble::OneAway => {
                network.cut_both(next, leader)?;
                network.cut_both(next, last)?;
            }
            Trouble::Bridge => network.cut_both(leader, next)?,
            Trouble::Ring => {
                network.cut(leader, next)?;
                network.cut(next, last)?;
                network.cut(last, leader)?;
            }
            Trouble::OneWay => {
                network.cut(next, leader)?;
                network.cut(last, leader)?;
            }
            Trouble::LeaderKilled => self.member(leader).kill()?,
            Trouble::OneKilled => self.member(next).kill()?,
            Trouble::AllKilled => {
                for member in &mut self.members {
                    member.kill()?;
                }
            }
            Trouble::LeaderPaused => {
                self.member(leader).pause()?;
                tokio::time::sleep(PAUSE).await;
                self.member(leader).resume()?;
            }
            Trouble::DiskFull => {
                let full = self.member(leader).fill_disk()?;
                tokio::time::sleep(TROUBLE).await;
                drop(full);
            }
        }
        tokio::time::sleep(TROUBLE).await;
        Ok(())
    }

    /// How long it took from a leader's election until somebody was answered.
    async fn heal(&mut self) -> Result<Duration> {
        self.network.heal()?;
        for member in &mut self.members {
            member.start()?;
        }
        wait_for_leader(&self.channels, &IDS).await?;
        time_to_answer(&self.channels, ANSWERED_WITHIN).await
    }
}

struct Clients {
    timestamps: History<timestamps::Op, timestamps::Ret>,
    locks: History<by_hand::Op, by_hand::Ret>,
    beliefs: Shared<sides::Belief>,
    broken: Shared<sides::Broken>,
    /// Ended when dropped.
    _tasks: JoinSet<()>,
}

impl Clients {
    fn start(channels: &[Channel]) -> Self {
        let order = Order::default();
        let (timestamps, locks) = (History::new(&order), History::new(&order));
        let (beliefs, broken) = (Shared::default(), Shared::default());
        let group = Group::new(channels.to_vec(), || BEGAN.elapsed());
        let mut tasks = JoinSet::new();
        for client in 0..4 {
            tasks.spawn(timestamps::client(
                client,
                group.clone(),
                timestamps.clone(),
            ));
            tasks.spawn(sides::program(group.clone(), beliefs.clone()));
        }
        for client in 10..13 {
            tasks.spawn(by_hand::client(client, group.clone(), locks.clone()));
        }
        tasks.spawn(sides::operator(group, broken.clone()));
        Self {
            timestamps,
            locks,
            beliefs,
            broken,
            _tasks: tasks,
        }
    }

    fn check(&self) -> Result<()> {
        verdict::all([
            timestamps::check(&self.timestamps.calls()),
            sides::check(&self.beliefs.all(), &self.broken.all()),
            by_hand::check(&self.locks.calls()),
        ])?;
        Ok(())
    }

    fn report(&self) -> String {
        let calls = self.timestamps.calls();
        let answered = calls.iter().filter(|call| call.returned.is_some()).count();
        format!(
            "{answered} of {} timestamps answered, {} calls of locks, {} holds kept, {} broken",
            calls.len(),
            self.locks.calls().len(),
            self.beliefs.all().len(),
            self.broken.all().len()
        )
    }
}

async fn run(network: Namespaces, long: bool) -> Result<()> {
    let scratch = Scratch::create("group-faults")?;
    let mut members = Vec::new();
    for id in IDS {
        let member = Member::plan(id, &network, scratch.path()).await?;
        member.init(&IDS)?;
        members.push(member);
    }
    let channels = channels(&IDS)?;
    let mut world = World {
        members,
        network,
        channels,
    };
    world.heal().await?;
    let clients = Clients::start(&world.channels);
    let rounds = if long { 10 } else { 1 };
    let mut slowest = Duration::ZERO;
    for trouble in TROUBLES.iter().cycle().take(TROUBLES.len() * rounds) {
        tokio::time::sleep(CALM).await;
        world.make(*trouble).await?;
        let answered = world.heal().await;
        let answered = answered.map_err(|error| {
            let logs = world.members.iter().map(Member::log_text);
            let logs: Vec<String> = logs.collect();
            error.context(format!(
                "after {trouble:?}; the logs:\n{}",
                logs.join("\n---\n")
            ))
        })?;
        println!("{trouble:?}: answered {answered:?} after a leader was there");
        slowest = slowest.max(answered);
    }
    tokio::time::sleep(CALM).await;
    println!(
        "{}; slowest answer after an election {slowest:?}",
        clients.report()
    );
    ensure!(!clients.beliefs.all().is_empty(), "no hold was ever kept");
    clients.check()
}

#[test]
fn i1_i5_a_group_of_processes_is_right_whatever_is_cut_killed_paused_or_full() -> Result<()> {
    let Some(network) = Namespaces::make(&IDS)? else {
        return Ok(());
    };
    let long = std::env::var_os("SEAWALL_SOAK").is_some();
    LazyLock::force(&BEGAN);
    network.enter_hub()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(network, long))
}
