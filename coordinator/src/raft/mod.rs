//! Consensus: one replicated log of commands, and who leads.
//!
//! The Raft library is known in this folder and nowhere else. The rest of the program sees
//! [`Node`]: propose a command, read after a quorum has agreed, learn who leads and what has been
//! applied. Below it lie the durable log, the snapshot files, the state machine
//! around [`crate::state::State`], the network, and the member's identity.

mod append_stream;
#[cfg(test)]
mod busy_tests;
#[cfg(test)]
mod conformance;
mod consensus;
mod durable_log;
mod elections;
#[cfg(test)]
mod group_tests;
mod identity;
mod joining;
mod log;
mod log_writer;
mod machine;
mod members;
mod network;
mod node;
mod options;
#[cfg(test)]
mod places;
mod proposals;
mod recent;
mod refusals;
mod replication;
mod restored;
mod roster;
mod rounds;
mod runtime;
mod service;
mod snapshot;

pub use identity::{Identity, Members};
pub use members::CaughtUp;
pub use network::MESSAGE_BYTES_MAX;
pub use node::{Leadership, Member, Node};
pub use options::{Compaction, NodeOptions};
pub use restored::{Beginning, make as make_restored};
pub use service::RaftService;

use std::io::Cursor;

use serde::{Deserialize, Serialize};

use crate::state::{Command, Response};

/// What the membership in the log says of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    pub addr: String,
    /// Of its data directory. Empty for those that `init` made, until the membership is changed first:
    /// each member notes theirs when it first hears of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
}

openraft::declare_raft_types!(
    /// One entry carries the commands that waited at the same moment.
    pub(crate) Types:
        D = Vec<Command>,
        R = Vec<Response>,
        NodeId = u64,
        Node = Seat,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = runtime::Runtime,
);

type LogId = openraft::LogId<u64>;
type Vote = openraft::Vote<u64>;
type Entry = openraft::Entry<Types>;
type StoredMembership = openraft::StoredMembership<u64, Seat>;
type SnapshotMeta = openraft::SnapshotMeta<u64, Seat>;
type StorageError = openraft::StorageError<u64>;
type Raft = openraft::Raft<Types>;
