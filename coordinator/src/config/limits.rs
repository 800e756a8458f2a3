//! Bounds of one member.

use seawall_common::{
    Error, Result,
    access::CallLimits,
    config::{Kind, Setting},
};
use serde::Deserialize;

/// Each is a bound of one member; whoever comes beyond it is refused, and told so.
pub(super) const LIMIT_SETTINGS: &[Setting] = &[
    Setting::new(
        "limits.connections",
        Kind::Integer,
        "Connections to each listener; each agent keeps one",
    )
    .default("16384"),
    Setting::new(
        "limits.requests",
        Kind::Integer,
        "Calls under way, watches and streams of agents not counted",
    )
    .default("16384"),
    Setting::new(
        "limits.requests_per_connection",
        Kind::Integer,
        "Calls under way on one connection; another coordinator's is not counted",
    )
    .default("4096"),
    Setting::new("limits.watchers", Kind::Integer, "Watches under way").default("16384"),
    Setting::new(
        "limits.agents",
        Kind::Integer,
        "Streams of agents under way",
    )
    .default("16384"),
];

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub connections: usize,
    requests: usize,
    requests_per_connection: usize,
    watchers: usize,
    agents: usize,
}

/// More than any machine has files and memory for.
const LIMIT_MAX: usize = 1_000_000;

impl Limits {
    pub fn calls(&self) -> CallLimits {
        CallLimits {
            requests: self.requests,
            requests_per_connection: self.requests_per_connection,
            watchers: self.watchers,
            agents: self.agents,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        for (key, value) in [
            ("connections", self.connections),
            ("requests", self.requests),
            ("requests_per_connection", self.requests_per_connection),
            ("watchers", self.watchers),
            ("agents", self.agents),
        ] {
            if !(1..=LIMIT_MAX).contains(&value) {
                return Err(Error::invalid(format!(
                    "limits.{key} is {value}, not between 1 and {LIMIT_MAX}"
                )));
            }
        }
        Ok(())
    }
}
