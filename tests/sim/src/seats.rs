//! Which member runs on each host, over the life of a world: a host whose disk is lost, or whose
//! member was removed, begins again as another member that waits to be added.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use seawall_common::ErrorKind;
use seawall_coordinator::sim::{self, Member};
use turmoil::Sim;

#[derive(Clone)]
pub struct Seats(Arc<Mutex<Inner>>);

struct Inner {
    members: BTreeMap<String, Member>,
    /// Where a member that joins finds the group.
    group: Vec<String>,
    newest_id: u64,
    /// Hosts whose disks are to be lost at the next step of the world.
    losing: Vec<String>,
    /// Numbers that are being taken out of the group: their members end.
    leaving: Vec<u64>,
}

impl Seats {
    /// `founders` form the group, each `spare` host waits to be added to it; with their addresses.
    pub fn new(founders: &BTreeMap<String, String>, spare: &[String]) -> Self {
        let addresses: BTreeMap<u64, String> = (1..).zip(founders.values().cloned()).collect();
        let of_group = (1..).zip(founders.keys()).map(|(id, host)| Member {
            id,
            host: host.clone(),
            members: addresses.clone(),
            join: Vec::new(),
        });
        let group: Vec<String> = founders.values().cloned().collect();
        let mut inner = Inner {
            members: of_group
                .map(|member| (member.host.clone(), member))
                .collect(),
            newest_id: founders.len() as u64,
            group,
            losing: Vec::new(),
            leaving: Vec::new(),
        };
        spare.iter().for_each(|host| inner.sit(host));
        Self(Arc::new(Mutex::new(inner)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the member that is on a host now.
    pub fn id_on(&self, host: &str) -> u64 {
        self.inner().members.get(host).map_or(0, |member| member.id)
    }

    /// A member is about to be taken out of the group.
    pub fn leaves(&self, id: u64) {
        self.inner().leaving.push(id);
    }

    /// The disk of a host is lost now, with the member on it.
    pub fn lose_disk(&self, host: &str) {
        let mut inner = self.inner();
        inner.sit(host);
        inner.losing.push(host.to_owned());
    }

    /// What the world owes: hosts with a new disk start anew.
    pub fn carry_out(&self, sim: &mut Sim<'_>) {
        let losing = std::mem::take(&mut self.inner().losing);
        for host in losing {
            if sim.is_host_running(host.as_str()) {
                sim.crash(host.as_str());
            }
            sim.bounce(host.as_str());
        }
    }

    /// Runs the member of a host.
    pub async fn run(&self, host: &str) -> turmoil::Result {
        let member = self.inner().members.get(host).cloned();
        let member = member.ok_or("no member's host")?;
        let id = member.id;
        let ended = sim::run(member).await;
        match ended {
            // As it shall once it hears that it was removed; then nothing runs there.
            Err(e) if e.kind() == ErrorKind::Fenced && self.inner().leaving.contains(&id) => {
                std::future::pending().await
            }
            ended => Ok(ended?),
        }
    }
}

impl Inner {
    /// A new member, under a number that none has had, waits on the host to be added.
    fn sit(&mut self, host: &str) {
        self.newest_id += 1;
        let member = Member {
            id: self.newest_id,
            host: host.to_owned(),
            members: BTreeMap::new(),
            join: self.group.clone(),
        };
        self.members.insert(host.to_owned(), member);
    }
}
