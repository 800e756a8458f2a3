//! How many tablets there are, and how they are.

use std::sync::atomic::AtomicU64;

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

use crate::operation::Coordination;

type Number = Gauge<u64, AtomicU64>;

pub struct TabletNumbers {
    known: Number,
    serving: Number,
    silent: Number,
}

impl TabletNumbers {
    pub fn new(registry: &mut Registry) -> Self {
        let mut gauge = |name: &str, help: &str| {
            let gauge = Number::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            known: gauge("tablets", "Tablets that are known"),
            serving: gauge(
                "tablets_serving",
                "Tablets that serve; 0 on a member that does not lead",
            ),
            silent: gauge(
                "tablets_silent",
                "Tablets whose agent has registered and is not there; 0 on a member that does not lead",
            ),
        }
    }

    pub fn set(&self, context: &Coordination) {
        let (known, silent) = context.group.look(|state| {
            context.heartbeats.look(|heard| {
                let tablets = state.topology.tablets();
                let silent = tablets.filter(|tablet| heard.is_silent(tablet));
                (state.topology.tablets().count(), silent.count())
            })
        });
        let number = |count: usize| count.try_into().unwrap_or(u64::MAX);
        self.known.set(number(known));
        self.silent.set(number(silent));
        self.serving.set(number(context.serving.count()));
    }
}
