//! Tablets, and the epochs of a shard.

use seawall_proto::v1;
use serde::Serialize;

use super::{keyspace, known, shard, time, word};

#[derive(Debug, Serialize)]
pub struct Tablet {
    alias: String,
    keyspace: Option<String>,
    shard: Option<String>,
    r#type: String,
    serving: bool,
    silent: bool,
    position: Option<String>,
    lag_ms: Option<u64>,
    epoch: u64,
    engine: Option<String>,
    engine_version: Option<String>,
    last_seen_at: Option<String>,
    message: Option<String>,
    database_running: Option<bool>,
    read_only: Option<bool>,
    replicating: Option<bool>,
    operation_id: Option<String>,
    step: Option<String>,
    agent_address: Option<String>,
    database_address: Option<String>,
    server_id: Option<u32>,
    instance: Option<String>,
    writer_key: Option<String>,
}

impl From<&v1::Tablet> for Tablet {
    fn from(tablet: &v1::Tablet) -> Self {
        let status = tablet.status.as_ref();
        let database = tablet.database.as_ref();
        Self {
            alias: tablet.alias.clone(),
            keyspace: keyspace(tablet.shard.as_ref()),
            shard: shard(tablet.shard.as_ref()),
            r#type: word(tablet.r#type()),
            serving: tablet.serving,
            silent: tablet.silent,
            position: status.and_then(|s| known(&s.position)),
            lag_ms: status.and_then(|s| s.lag_ms),
            epoch: tablet.epoch,
            engine: known(&tablet.engine),
            engine_version: status.and_then(|s| known(&s.engine_version)),
            last_seen_at: tablet.last_seen_unix_ms.and_then(time),
            message: status.and_then(|s| known(&s.message)),
            database_running: status.map(|s| s.database_running),
            read_only: status.map(|s| s.read_only),
            replicating: status.map(|s| s.replicating),
            operation_id: status.and_then(|s| known(&s.operation_id)),
            step: status.and_then(|s| known(&s.step)),
            agent_address: known(&tablet.agent_address),
            database_address: database.map(|d| format!("{}:{}", d.host, d.port)),
            server_id: database.map(|d| d.server_id),
            instance: known(&tablet.instance),
            writer_key: known(&tablet.writer_key),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Tablets {
    tablets: Vec<Tablet>,
}

impl From<&[v1::Tablet]> for Tablets {
    fn from(tablets: &[v1::Tablet]) -> Self {
        Self {
            tablets: tablets.iter().map(Tablet::from).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Epoch {
    number: u64,
    alias: String,
    server_id: u32,
    start_position: Option<String>,
    began_at: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct History {
    epochs: Vec<Epoch>,
}

impl From<&[v1::Epoch]> for History {
    fn from(epochs: &[v1::Epoch]) -> Self {
        Self {
            epochs: epochs
                .iter()
                .map(|epoch| Epoch {
                    number: epoch.number,
                    alias: epoch.alias.clone(),
                    server_id: epoch.server_id,
                    start_position: known(&epoch.start_position),
                    began_at: time(epoch.began_unix_ms),
                })
                .collect(),
        }
    }
}
