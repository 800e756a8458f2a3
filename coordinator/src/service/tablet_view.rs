//! A tablet as clients see it: what the log says of it, and what was last heard.

use seawall_common::clock::now_unix_ms;
use seawall_proto::v1;

use super::convert;
use crate::{
    agents::heartbeats::{Heartbeats, Presence},
    state::{State, topology::Tablet},
};

pub fn tablet(state: &State, heartbeats: &Heartbeats, tablet: &Tablet) -> v1::Tablet {
    let Presence {
        last_heard,
        status,
        is_silent,
        serves,
    } = heartbeats.presence(tablet);
    let newest = state.topology.newest_epoch(&tablet.shard);
    let last_seen_unix_ms = last_heard.map(|heard| {
        let since = u64::try_from(heard.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        now_unix_ms().saturating_sub(since).max(heard.at_unix_ms)
    });
    v1::Tablet {
        alias: tablet.alias.to_string(),
        shard: Some(tablet.shard.to_proto()),
        r#type: convert::tablet_type(tablet.tablet_type).into(),
        instance: tablet.instance.clone().unwrap_or_default(),
        agent_address: tablet.agent_address.clone(),
        database: tablet.database.as_ref().map(convert::database),
        engine: tablet.engine.clone(),
        status,
        last_seen_unix_ms,
        silent: is_silent,
        serving: serves,
        writer_key: tablet.writer_key.clone(),
        epoch: newest.map_or(0, |epoch| epoch.number),
    }
}
