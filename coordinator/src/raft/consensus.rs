//! What runs on the thread of the consensus (`docs/decisions/0019`).

use std::sync::Arc;

use seawall_common::{Error, Result};

use super::{
    Identity, Raft, log::LogStore, machine::Machine, network::Channels, options::NodeOptions,
    proposals::Proposals, replication::Network, rounds::Rounds,
};
use crate::platform::Missing;

/// What has a thread of its own: however busy the rest of the program is, heartbeats go out, and
/// votes are answered.
pub struct Consensus {
    pub raft: Raft,
    pub machine: Machine,
    pub proposals: Proposals,
    pub rounds: Rounds,
    pub channels: Channels,
}

impl Consensus {
    pub async fn start(identity: Identity, options: NodeOptions) -> Result<Self> {
        // One that knows its group has had a log.
        let if_missing = match identity.has_group() {
            true => Missing::Refuse,
            false => Missing::Make,
        };
        let log = options.data_dir.join("log");
        let log = LogStore::open(identity.id(), log, if_missing).await?;
        let snapshots = options.data_dir.join("snapshots");
        let machine = Machine::open(snapshots, log.on_disk().clone()).await?;
        let log = log.purged_when_covered(machine.covered());
        if let Some(purged) = log.purged()?
            && machine.last_applied().is_none_or(|last| last < purged)
        {
            return Err(Error::corrupt(format!(
                "the log begins after entry {}, but no snapshot reaches that far",
                purged.index
            ))
            .hint("Remove this member from the group and add it under a new id."));
        }
        let channels = Channels::new(options.dialer.clone(), options.election_timeout);
        let network = Network {
            identity: identity.clone(),
            channels: channels.clone(),
            on_disk: log.on_disk().clone(),
            heartbeat_interval: options.heartbeat_interval,
        };
        let failed = |e: &dyn std::fmt::Display| Error::internal(format!("cannot start Raft: {e}"));
        let config = Arc::new(options.raft_config()?);
        let raft = Raft::new(identity.id(), config, network, log, machine.clone()).await;
        let raft = raft.map_err(|e| failed(&e))?;
        // Once Raft's core answers, it has said what membership its log has.
        raft.is_initialized().await.map_err(|e| failed(&e))?;
        Ok(Self {
            proposals: Proposals::start(raft.clone()),
            rounds: Rounds::start(raft.clone()),
            raft,
            machine,
            channels,
        })
    }
}
