//! What goes wrong in the simulated world, as the seed has it: links are cut in every pattern, one
//! way too, or hold messages back; members crash and lose what they had not synced; disks are slow;
//! clocks jump.

use std::time::Duration;

use rand::seq::SliceRandom as _;
use seawall_coordinator::sim::{self, Controls};
use turmoil::Sim;

/// Between two things that go wrong.
const CALM_MS: u64 = 3000;
/// After a leader is cut off: so long that another is elected, and clients ask both.
const TWO_LEADERS_MS: std::ops::Range<u64> = 4000..8000;
const LATENCY_MS: u64 = 20;
const SLOW_LATENCY_MS: u64 = 700;
const SLOW_DISK_MS: u64 = 150;
const STILL_DISK_MS: u64 = 5000;
/// Clocks jump by up to an hour, to either side.
const JUMP_MS: i64 = 3_600_000;

pub struct Nemesis {
    members: Vec<String>,
    clients: Vec<String>,
    next: Duration,
    /// How often each kind of trouble came, for the report.
    pub troubles: u32,
}

impl Nemesis {
    pub fn new(members: &[String], clients: &[String]) -> Self {
        Self {
            members: members.to_vec(),
            clients: clients.to_vec(),
            // The group forms in peace.
            next: Duration::from_secs(3),
            troubles: 0,
        }
    }

    /// Makes trouble, or less of it, when it is time for that.
    pub fn act(&mut self, sim: &mut Sim<'_>) {
        if sim.elapsed() < self.next {
            return;
        }
        self.next = sim.elapsed() + Duration::from_millis(rand::random_range(50..CALM_MS));
        self.troubles += 1;
        match rand::random_range(0..100) {
            0..6 => self.isolate(sim, self.any()),
            6..16 => {
                // The others can elect one: nothing else is wrong with them.
                self.heal(sim);
                let leader = self.leader(sim).to_owned();
                self.isolate(sim, &leader);
                let calm = Duration::from_millis(rand::random_range(TWO_LEADERS_MS));
                self.next = sim.elapsed() + calm;
            }
            16..22 => self.bridge(sim),
            22..29 => self.one_way(sim),
            29..33 => self.clients_away(sim),
            33..41 => self.hold(sim),
            41..55 => self.crash(sim),
            55..61 => self.slow_network(sim),
            61..65 => self.slow_disk(),
            65..68 => self.still_disk(sim),
            68..71 => self.jump(),
            71..74 => self.crash_all(sim),
            _ => self.heal(sim),
        }
    }

    /// Everything works again, and everybody is up.
    pub fn heal(&self, sim: &mut Sim<'_>) {
        let all: Vec<&String> = self.members.iter().chain(&self.clients).collect();
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                sim.release(one.as_str(), other.as_str());
                sim.repair(one.as_str(), other.as_str());
            }
        }
        sim.set_max_message_latency(Duration::from_millis(LATENCY_MS));
        for member in &self.members {
            Controls::of(member).set_disk_slow_ms(0);
            if !sim.is_host_running(member.as_str()) {
                sim.bounce(member.as_str());
            }
        }
    }

    fn any(&self) -> &str {
        &self.members[rand::random_range(0..self.members.len())]
    }

    /// The host of the leader, or of any member when none leads.
    fn leader(&self, sim: &mut Sim<'_>) -> &str {
        let leader = sim::leader();
        let is_it =
            |host: &&String| leader.as_ref() == Some(host) && sim.is_host_running(host.as_str());
        self.members
            .iter()
            .find(is_it)
            .map_or(self.any(), String::as_str)
    }

    fn shuffled(&self) -> Vec<&str> {
        let mut members: Vec<&str> = self.members.iter().map(String::as_str).collect();
        members.shuffle(&mut rand::rng());
        members
    }

    /// One member reaches none of the others, but clients.
    fn isolate(&self, sim: &mut Sim<'_>, away: &str) {
        for other in self.members.iter().filter(|other| *other != away) {
            sim.partition(away, other.as_str());
        }
    }

    /// Two members reach each other only through the third.
    fn bridge(&self, sim: &mut Sim<'_>) {
        let members = self.shuffled();
        sim.partition(members[0], members[1]);
    }

    fn one_way(&self, sim: &mut Sim<'_>) {
        let members = self.shuffled();
        sim.partition_oneway(members[0], members[1]);
    }

    fn clients_away(&self, sim: &mut Sim<'_>) {
        let member = self.any();
        for client in &self.clients {
            sim.partition(client.as_str(), member);
        }
    }

    /// Messages are kept back, and come all at once when the link is let go.
    fn hold(&self, sim: &mut Sim<'_>) {
        let members = self.shuffled();
        sim.hold(members[0], members[1]);
    }

    fn crash(&self, sim: &mut Sim<'_>) {
        let member = self.any().to_owned();
        match sim.is_host_running(member.as_str()) {
            true => sim.crash(member.as_str()),
            false => sim.bounce(member.as_str()),
        }
    }

    fn crash_all(&self, sim: &mut Sim<'_>) {
        for member in &self.members {
            if sim.is_host_running(member.as_str()) {
                sim.crash(member.as_str());
            }
        }
        for member in &self.members {
            sim.bounce(member.as_str());
        }
    }

    fn slow_network(&self, sim: &mut Sim<'_>) {
        let most_ms = rand::random_range(LATENCY_MS..SLOW_LATENCY_MS);
        sim.set_max_message_latency(Duration::from_millis(most_ms));
    }

    fn slow_disk(&self) {
        let slow_ms = rand::random_range(0..SLOW_DISK_MS);
        Controls::of(self.any()).set_disk_slow_ms(slow_ms);
    }

    /// What the leader writes is with the others long before it is on its own disk, and lost there when
    /// it crashes.
    fn still_disk(&self, sim: &mut Sim<'_>) {
        Controls::of(self.leader(sim)).set_disk_slow_ms(STILL_DISK_MS);
    }

    fn jump(&self) {
        let ahead_ms = rand::random_range(-JUMP_MS..JUMP_MS);
        Controls::of(self.any()).set_clock_ahead_ms(ahead_ms);
    }
}
