//! Numbers for Prometheus.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use seawall_common::{access::CallNumbers, tls::TlsNumbers};

use super::{
    backups::{BackupNumbers, Shard},
    disk::DiskNumbers,
    group::GroupNumbers,
    schedules::ScheduleNumbers,
    tablets::TabletNumbers,
};
use crate::{context::Context, operation::Coordination, raft::Node};

type Number = Gauge<u64, AtomicU64>;

const PREFIX: &str = "seawall_coordinator";

pub struct Metrics {
    coordination: Arc<Coordination>,
    registry: Registry,
    term: Number,
    leader: Number,
    is_leader: Number,
    applied_index: Number,
    group: GroupNumbers,
    backups: BackupNumbers,
    tablets: TabletNumbers,
    schedules: ScheduleNumbers,
    collection_stopped: Family<Shard, Number>,
    retention_stopped: Number,
}

impl Metrics {
    /// `timestamps` are counted elsewhere.
    pub fn new(
        context: Arc<Context>,
        timestamps: Counter,
        coordination: Arc<Coordination>,
    ) -> Self {
        let mut all = Registry::default();
        let schedules = ScheduleNumbers::new(all.sub_registry_with_prefix("seawall_schedule"));
        let registry = all.sub_registry_with_prefix(PREFIX);
        let mut gauge = |name: &str, help: &str| {
            let gauge = Number::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let term = gauge("raft_term", "Term of the group as this member knows it");
        let leader = gauge("raft_leader", "Number of the leader, 0 when none is known");
        let is_leader = gauge("raft_is_leader", "1 on the leader");
        let applied_index = gauge("raft_applied_index", "Last entry applied to the state");
        let retention_stopped = gauge(
            "retention_stopped",
            "1 while retention and schedules stand still: the clock jumped, or the group was restored",
        );
        let collection_stopped = Family::default();
        registry.register(
            "collection_stopped",
            "1 while nothing is deleted in a shard because a manifest cannot be believed",
            collection_stopped.clone(),
        );
        let garbage = coordination.collections.deleted();
        for (name, help, counter) in [
            (
                "raft_proposals",
                "Commands committed through this member",
                context.node.proposals(),
            ),
            (
                "timestamps_given",
                "Timestamps that this member gave out",
                timestamps,
            ),
            (
                "collected_objects",
                "Objects that this member deleted as garbage",
                garbage.objects,
            ),
            (
                "collected_bytes",
                "Bytes that this member deleted as garbage",
                garbage.bytes,
            ),
            (
                "retention_removals",
                "Removals that retention started on this member",
                coordination.retention.removals(),
            ),
        ] {
            registry.register(name, help, counter);
        }
        registry.register_collector(Box::new(DiskNumbers {
            data_dir: context.settings.data_dir.clone(),
        }));
        let backups = BackupNumbers::new(registry);
        let tablets = TabletNumbers::new(registry);
        let group = GroupNumbers::new(context, registry);
        Self {
            coordination,
            registry: all,
            group,
            backups,
            tablets,
            schedules,
            term,
            leader,
            is_leader,
            applied_index,
            collection_stopped,
            retention_stopped,
        }
    }

    /// The listener's own numbers.
    pub fn count_connections(&mut self, numbers: TlsNumbers) {
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        registry.register_collector(Box::new(numbers));
    }

    pub fn count_calls(&mut self, numbers: CallNumbers) {
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        registry.register_collector(Box::new(numbers));
    }

    pub fn encode(&self, node: &Node) -> Result<String, std::fmt::Error> {
        let leadership = *node.leadership().borrow();
        self.term.set(leadership.term);
        self.leader.set(leadership.leader.unwrap_or_default());
        self.is_leader.set(leadership.is_ours.into());
        self.applied_index.set(node.last_applied());
        self.group.set(leadership.is_ours);
        node.look(|state| self.backups.set(state));
        self.tablets.set(&self.coordination);
        self.set_of_operations(leadership.is_ours);
        self.schedules.set(&self.coordination, leadership.is_ours);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Only the leader collects and applies retention: of a shard that stands still it alone knows.
    fn set_of_operations(&self, is_leader: bool) {
        let collections = &self.coordination.collections;
        let group = &self.coordination.group;
        self.collection_stopped.clear();
        if is_leader {
            let stopped = collections.stopped();
            let mut shards = group.look(|state| state.topology.shards());
            shards.extend(stopped.keys().cloned());
            for shard in shards {
                let is_stopped = stopped.contains_key(&shard);
                let labels = Shard::from(&shard);
                let number = self.collection_stopped.get_or_create(&labels);
                number.set(is_stopped.into());
            }
        }
        let is_stopped = group.look(|state| state.retention.stopped().is_some());
        self.retention_stopped.set(is_stopped.into());
    }
}
