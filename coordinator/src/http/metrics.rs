//! Numbers for Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use super::backups::BackupNumbers;
use crate::raft::Node;

type Number = Gauge<u64, AtomicU64>;

pub struct Metrics {
    registry: Registry,
    term: Number,
    leader: Number,
    is_leader: Number,
    applied_index: Number,
    log_bytes: Number,
    backups: BackupNumbers,
}

impl Metrics {
    /// `proposals` and `timestamps` are counted elsewhere.
    pub fn new(proposals: Counter, timestamps: Counter) -> Self {
        let mut registry = Registry::with_prefix("seawall_coordinator");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Number::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let term = gauge("raft_term", "Term of the group as this member knows it");
        let leader = gauge("raft_leader", "Number of the leader, 0 when none is known");
        let is_leader = gauge("raft_is_leader", "1 on the leader");
        let applied_index = gauge("raft_applied_index", "Last entry applied to the state");
        let log_bytes = gauge("raft_log_bytes", "Size of the log on disk");
        registry.register(
            "raft_proposals",
            "Commands committed through this member",
            proposals,
        );
        registry.register(
            "timestamps_given",
            "Timestamps that this member gave out",
            timestamps,
        );
        let backups = BackupNumbers::new(&mut registry);
        Self {
            registry,
            backups,
            term,
            leader,
            is_leader,
            applied_index,
            log_bytes,
        }
    }

    pub fn encode(&self, node: &Node) -> Result<String, std::fmt::Error> {
        let leadership = *node.leadership().borrow();
        self.term.set(leadership.term);
        self.leader.set(leadership.leader.unwrap_or_default());
        self.is_leader.set(leadership.is_ours.into());
        self.applied_index.set(node.last_applied());
        self.log_bytes.set(node.log_bytes());
        node.look(|state| self.backups.set(state));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
