//! Members of a group for tests, over real connections.

use std::{net::SocketAddr, time::Duration};

use seawall_common::tls::{Dialer, Tls};
use seawall_proto::v1::raft_server::RaftServer;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};

use super::{Compaction, Identity, Members, Node, NodeOptions};
use crate::{
    platform::{
        Missing,
        held_medium::{Hold, hold},
        open_medium,
    },
    state::{Command, State, timestamps::Command as Timestamps},
};

/// One member: its directory, and what runs on it.
pub struct Place {
    directory: TempDir,
    pub id: u64,
    address: SocketAddr,
    running: Option<(Node, CancellationToken, JoinHandle<()>)>,
}

impl Place {
    pub async fn start(&mut self, listener: Option<TcpListener>) {
        self.start_with(listener, Duration::from_millis(500)).await;
    }

    pub async fn start_with(&mut self, listener: Option<TcpListener>, election_timeout: Duration) {
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
            .add_service(RaftServer::new(node.service(stop.clone())))
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listener),
                stop.clone().cancelled_owned(),
            );
        let serving = tokio::spawn(async move { server.await.unwrap() });
        node.join().await.unwrap();
        self.running = Some((node, stop, serving));
    }

    pub async fn stop(&mut self) {
        let (node, stop, serving) = self.running.take().unwrap();
        stop.cancel();
        serving.await.unwrap();
        node.stop().await;
        drop(node);
        // The log's lock is let go of when the last task of the old node has ended.
        let log = self.directory.path().join("log");
        for _ in 0..200 {
            if open_medium(&log, Missing::Refuse).is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// While it lives, nothing is synced to the disk of this one.
    pub fn hold_disk(&self) -> Hold {
        hold(&self.directory.path().join("log"))
    }

    pub fn node(&self) -> &Node {
        &self.running.as_ref().unwrap().0
    }
}

pub async fn group() -> Vec<Place> {
    group_of(3, Duration::from_millis(500)).await
}

pub async fn group_of(count: u64, election_timeout: Duration) -> Vec<Place> {
    let mut listeners = Vec::new();
    for _ in 1..=count {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let mut places = founders(&listeners);
    for (place, listener) in places.iter_mut().zip(listeners) {
        place.start_with(Some(listener), election_timeout).await;
    }
    places
}

/// Those that form a group when they are started, each with its listener.
pub fn founders(listeners: &[TcpListener]) -> Vec<Place> {
    let addresses = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap());
    let numbered = (1..).zip(addresses);
    let members: Members = numbered
        .clone()
        .map(|(id, at)| (id, at.to_string()))
        .collect();
    let place = |(id, address)| {
        let directory = tempfile::tempdir().unwrap();
        Identity::create(directory.path(), id, members.clone()).unwrap();
        Place {
            directory,
            id,
            address,
            running: None,
        }
    };
    numbered.map(place).collect()
}

pub async fn leader(places: &[Place]) -> usize {
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

pub fn reserve(count: u64) -> Command {
    Command::Timestamps(Timestamps::Reserve { count })
}

pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 20 s: {what}");
}

pub async fn until_equal(node: &Node, expected: &State) {
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
