//! How the group itself is, as numbers: its members, its repository.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use seawall_common::clock::now_unix_ms;

use crate::{
    context::{Context, Ownership},
    raft::Member,
    state::State,
};

type Number = Gauge<u64, AtomicU64>;
type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MemberLabel {
    member: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SilentLabel {
    member: u64,
    /// One without a vote counts for no quorum.
    voter: bool,
}

pub struct GroupNumbers {
    context: Arc<Context>,
    silent: Family<SilentLabel, Seconds>,
    lag: Family<MemberLabel, Number>,
    timestamps_left: Number,
    backed_up: Number,
    repository_error: Number,
    repository_refused: Number,
}

impl GroupNumbers {
    pub fn new(context: Arc<Context>, registry: &mut Registry) -> Self {
        let silent = Family::default();
        registry.register(
            "member_silent_seconds",
            "For how long another member has not answered the leader, 0 while it does; only on the leader",
            silent.clone(),
        );
        let lag = Family::default();
        registry.register(
            "member_lag_entries",
            "Entries of the log that another member does not have yet; only on the leader",
            lag.clone(),
        );
        let mut gauge = |name: &str, help: &str| {
            let gauge = Number::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            context,
            silent,
            lag,
            timestamps_left: gauge(
                "timestamps_left",
                "Timestamps that may be given before the repository must have the next note",
            ),
            backed_up: gauge(
                "group_backup_timestamp_seconds",
                "When the newest backup of the group's own state was taken; 0: none was",
            ),
            repository_error: gauge(
                "repository_error",
                "1 when the last look at the repository failed; the next one comes ten seconds after it has ended",
            ),
            repository_refused: gauge(
                "repository_refused",
                "1 while the repository is not this group's to write",
            ),
        }
    }

    pub fn set(&self, is_leader: bool) {
        let Context { node, .. } = &*self.context;
        self.silent.clear();
        self.lag.clear();
        if is_leader {
            let (own, last_index, now_unix_ms) = (node.id(), node.last_log_index(), now_unix_ms());
            for member in node.members() {
                if member.id != own {
                    self.set_member(&member, last_index, now_unix_ms);
                }
            }
        }
        let left = node.look(|state| {
            let timestamps = &state.timestamps;
            timestamps.recorded().saturating_sub(timestamps.bound())
        });
        self.timestamps_left.set(left);
        let taken = |state: &State| {
            state
                .group_backup
                .as_ref()
                .map(|it| it.taken_unix_ms / 1000)
        };
        self.backed_up.set(node.look(taken).unwrap_or(0));
        let has_error = self.context.looked().error.is_some();
        self.repository_error.set(has_error.into());
        let is_refused = matches!(self.context.ownership(), Ownership::Refused(_));
        self.repository_refused.set(is_refused.into());
    }

    fn set_member(&self, member: &Member, last_index: u64, now_unix_ms: u64) {
        let since_unix_ms = member.silent_since_unix_ms.unwrap_or(now_unix_ms);
        let silent = now_unix_ms.saturating_sub(since_unix_ms) as f64 / 1000.0;
        let labels = SilentLabel {
            member: member.id,
            voter: member.is_voter,
        };
        self.silent.get_or_create(&labels).set(silent);
        let lag = last_index.saturating_sub(member.matched_index.unwrap_or(0));
        let labels = MemberLabel { member: member.id };
        self.lag.get_or_create(&labels).set(lag);
    }
}
