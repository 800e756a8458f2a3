//! Three nodes in one process, over real connections.

use std::{net::SocketAddr, time::Duration};

use seawall_common::tls::{Dialer, Tls};
use seawall_proto::v1::raft_server::RaftServer;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};

use super::{Compaction, Identity, Members, Node, NodeOptions};
use crate::platform::held_medium::{Hold, hold};
use crate::state::{
    Command, Response, State,
    timestamps::{Command as Timestamps, Granted},
};

struct Place {
    directory: TempDir,
    id: u64,
    address: SocketAddr,
    running: Option<(Node, CancellationToken, JoinHandle<()>)>,
}

impl Place {
    async fn start(&mut self, listener: Option<TcpListener>) {
        self.start_with(listener, Duration::from_millis(500)).await;
    }

    async fn start_with(&mut self, listener: Option<TcpListener>, election_timeout: Duration) {
        let listener = match listener {
            Some(listener) => listener,
            None => TcpListener::bind(self.address).await.unwrap(),
        };
        let identity = Identity::open(self.directory.path()).unwrap().unwrap();
        let options = NodeOptions {
            data_dir: self.directory.path().to_owned(),
            heartbeat_interval: election_timeout / 5,
            election_timeout,
            dialer: Dialer::new(Tls::off().unwrap()),
            compaction: Compaction::default(),
        };
        let node = Node::open(identity, options).await.unwrap();
        let stop = CancellationToken::new();
        let server = Server::builder()
            .add_service(RaftServer::new(node.service()))
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listener),
                stop.clone().cancelled_owned(),
            );
        let serving = tokio::spawn(async move { server.await.unwrap() });
        node.join().await.unwrap();
        self.running = Some((node, stop, serving));
    }

    async fn stop(&mut self) {
        let (node, stop, serving) = self.running.take().unwrap();
        stop.cancel();
        serving.await.unwrap();
        node.stop().await;
        drop(node);
        // The log's lock is let go of when the last task of the old node has ended.
        let log = self.directory.path().join("log");
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if sled::Config::new().path(&log).open().is_ok() {
                return;
            }
        }
    }

    /// While it lives, nothing is synced to the disk of this one.
    fn hold_disk(&self) -> Hold {
        hold(&self.directory.path().join("log"))
    }

    fn node(&self) -> &Node {
        &self.running.as_ref().unwrap().0
    }
}

async fn group() -> Vec<Place> {
    group_of(3, Duration::from_millis(500)).await
}

async fn group_of(count: u64, election_timeout: Duration) -> Vec<Place> {
    let mut members = Members::new();
    let mut listeners = Vec::new();
    for id in 1..=count {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        members.insert(id, listener.local_addr().unwrap().to_string());
        listeners.push(listener);
    }
    let mut places = Vec::new();
    for (id, listener) in (1..).zip(listeners) {
        let directory = tempfile::tempdir().unwrap();
        Identity::create(directory.path(), id, members.clone()).unwrap();
        let mut place = Place {
            directory,
            id,
            address: listener.local_addr().unwrap(),
            running: None,
        };
        place.start_with(Some(listener), election_timeout).await;
        places.push(place);
    }
    places
}

async fn leader(places: &[Place]) -> usize {
    for _ in 0..1000 {
        for (at, place) in places.iter().enumerate() {
            if let Some((node, ..)) = &place.running
                && node.prove_leadership().await.is_ok()
            {
                return at;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no leader");
}

fn reserve(count: u64) -> Command {
    Command::Timestamps(Timestamps::Reserve { count })
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 20 s: {what}");
}

/// Proposes, and leaves the answer to come.
fn proposed(node: &Node, count: u64) -> JoinHandle<seawall_common::Result<Response>> {
    let node = node.clone();
    tokio::spawn(async move { node.propose(reserve(count)).await })
}

async fn until_equal(node: &Node, expected: &State) {
    for _ in 0..1000 {
        if node.look(|state| state == expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!(
        "the states do not become equal: {:?}",
        node.look(Clone::clone)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_wait_together_share_entries_and_each_gets_its_own_answer() {
    let places = group().await;
    let leader = places[leader(&places).await].node().clone();
    let before = leader.last_applied();
    let waiting = (1..=200).map(|count| {
        let leader = leader.clone();
        async move { (count, leader.propose(reserve(count)).await.unwrap()) }
    });
    let mut granted = Vec::new();
    for (count, response) in futures::future::join_all(waiting).await {
        let Response::TimestampsGranted(Granted { first, last }) = response else {
            panic!("{response:?}");
        };
        assert_eq!(last - first + 1, count, "somebody else's answer");
        granted.push((first, last));
    }
    granted.sort_unstable();
    assert!(granted.windows(2).all(|two| two[0].1 < two[1].0));
    let entries = leader.last_applied() - before;
    assert!(entries <= 20, "200 commands took {entries} entries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_too_far_behind_is_brought_up_by_a_snapshot() {
    let mut places = group().await;
    let at = leader(&places).await;
    let behind = (at + 1) % 3;
    places[behind].stop().await;
    let node = places[at].node().clone();
    for _ in 0..50 {
        node.propose(reserve(7)).await.unwrap();
    }
    let upto = node.last_applied();
    node.compact(upto).await;
    node.propose(reserve(7)).await.unwrap();
    let expected = node.look(Clone::clone);

    places[behind].start(None).await;
    until_equal(places[behind].node(), &expected).await;

    // What it was sent is durable: it comes back with it, and goes on from there.
    places[behind].stop().await;
    places[behind].start(None).await;
    until_equal(places[behind].node(), &expected).await;
    node.propose(reserve(7)).await.unwrap();
    until_equal(places[behind].node(), &node.look(Clone::clone)).await;
    assert_eq!(places[behind].id, behind as u64 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_no_entry_can_hold_is_refused() {
    let places = group().await;
    let leader = places[leader(&places).await].node().clone();
    let group_id = "x".repeat(super::durable_log::VALUE_BYTES_MAX);
    let refused = leader
        .propose(Command::NameGroup {
            group_id,
            repository_id: String::new(),
        })
        .await;
    assert!(refused.unwrap_err().message().contains("larger than"));
    leader.propose(reserve(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_others_have_counts_when_it_is_on_the_leaders_disk() {
    // Nobody stands for election while the leader's disk is waited for.
    let places = group_of(3, Duration::from_secs(10)).await;
    let at = leader(&places).await;
    let leader = places[at].node();
    let others = || {
        (0..3)
            .filter(|other| *other != at)
            .map(|other| places[other].node())
    };
    let before = leader.look(Clone::clone);
    for node in others() {
        until_equal(node, &before).await;
    }
    let held = places[at].hold_disk();
    let last = leader.last_log_index();
    let answer = proposed(leader, 7);
    until("the others have the entry", || {
        others().all(|node| node.last_log_index() > last)
    })
    .await;
    // Long enough for their answers to arrive.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!answer.is_finished(), "answered from memory");
    let counted =
        |member: super::Member| member.id == leader.id() || member.matched_index == Some(last);
    assert!(leader.members().into_iter().all(counted), "counted");
    for place in &places {
        assert!(place.node().look(|state| *state == before), "applied");
    }
    drop(held);
    answer.await.unwrap().unwrap();
    let after = leader.look(Clone::clone);
    assert_ne!(after, before);
    leader.propose(reserve(1)).await.unwrap();
    for node in others() {
        until_equal(node, &leader.look(Clone::clone)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_stands_still_is_replaced_and_follows_when_it_goes_on() {
    let places = group().await;
    let at = leader(&places).await;
    let old = places[at].node();
    let held = places[at].hold_disk();
    let answer = proposed(old, 7);
    let others = || {
        (0..3)
            .filter(|other| *other != at)
            .map(|other| places[other].node())
    };
    until("another leads", || {
        others().any(|node| node.leadership().borrow().is_ours)
    })
    .await;
    let new = others().find(|node| node.leadership().borrow().is_ours);
    let new = new.unwrap();
    new.propose(reserve(1)).await.unwrap();
    drop(held);
    // It was sent before: whoever leads now has it, and the old leader hears of that or gives up.
    let _ = answer.await.unwrap();
    until_equal(old, &new.look(Clone::clone)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_alone_answers_when_it_is_on_its_disk() {
    let places = group_of(1, Duration::from_millis(500)).await;
    leader(&places).await;
    let node = places[0].node();
    let before = node.look(Clone::clone);
    let held = places[0].hold_disk();
    let answer = proposed(node, 7);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!answer.is_finished(), "answered from memory");
    assert!(node.look(|state| *state == before), "applied");
    drop(held);
    answer.await.unwrap().unwrap();
}
