//! Consensus: one replicated log of commands, and who leads.
//!
//! The Raft library is known in this folder and nowhere else. The rest of the program sees
//! [`Node`]: propose a command, read after a quorum has agreed, learn who leads and what has been
//! applied. Below it lie the durable log, the snapshot files, the state machine
//! around [`crate::state::State`], the network, and the member's identity.

#[cfg(test)]
mod conformance;
mod durable_log;
#[cfg(test)]
mod group_tests;
mod identity;
mod log;
mod machine;
mod network;
mod node;
mod proposals;
mod rounds;
mod service;
mod snapshot;

pub use identity::{Identity, Members};
pub use network::MESSAGE_BYTES_MAX;
pub use node::{Leadership, Node, NodeOptions};
pub use service::RaftService;

use std::io::Cursor;

use crate::state::{Command, Response};

openraft::declare_raft_types!(
    /// One entry carries the commands that waited at the same moment.
    pub(crate) Types:
        D = Vec<Command>,
        R = Vec<Response>,
        NodeId = u64,
        Node = openraft::BasicNode,
        SnapshotData = Cursor<Vec<u8>>,
);

type LogId = openraft::LogId<u64>;
type Vote = openraft::Vote<u64>;
type Entry = openraft::Entry<Types>;
type StoredMembership = openraft::StoredMembership<u64, openraft::BasicNode>;
type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::BasicNode>;
type StorageError = openraft::StorageError<u64>;
type Raft = openraft::Raft<Types>;
