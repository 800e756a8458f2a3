//! How large the state of a fleet is: for the benchmark, which is outside of this crate. What it
//! holds is brought into it by the state's own commands, as tablets that register and as backups that
//! a scan of the repository finds.

use seawall_common::{
    Error, Result,
    ids::{Alias, BackupName, ShardId},
};

use crate::state::{
    Command, State,
    catalogue::{self, Facts, Found, Known},
    topology::{self, DatabaseAddress, Registration},
};

const DAY_MS: u64 = 24 * 3600 * 1000;
const FIRST_UNIX_MS: u64 = 1_760_000_000_000;

/// A fleet's state, as every member of the group has it in memory.
#[derive(Clone)]
pub struct Fleet(State);

impl Fleet {
    /// Two tablets in each shard, and a backup of each on as many days.
    pub fn new(shards: u32, days: u32) -> Result<Self> {
        let mut fleet = Self(State::default());
        for number in 0..shards {
            let shard = ShardId::new("commerce", &format!("{number:x}"))?;
            let aliases =
                [2 * number + 1, 2 * number + 2].map(|uid| format!("zone1-{uid}").parse::<Alias>());
            let [primary, replica] = aliases;
            let replica = replica?;
            for alias in [primary?, replica.clone()] {
                let register = topology::Command::Register(registration(&shard, &alias));
                fleet.apply(Command::Topology(register))?;
            }
            let found = (0..days).map(|day| found(&replica, day));
            let import = catalogue::Command::Import {
                shard: shard.clone(),
                found: found.collect::<Result<_>>()?,
                missing: Vec::new(),
            };
            fleet.apply(Command::Catalogue(import))?;
        }
        Ok(fleet)
    }

    /// What a snapshot holds, and a new member gets.
    pub fn snapshot(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.0)
            .map_err(|e| Error::internal(format!("cannot write the state: {e}")))
    }

    pub fn of_snapshot(bytes: &[u8]) -> Result<Self> {
        let state = serde_json::from_slice(bytes)
            .map_err(|e| Error::corrupt(format!("cannot read the state: {e}")))?;
        Ok(Self(state))
    }

    fn apply(&mut self, command: Command) -> Result<()> {
        self.0.apply(&command).into_result().map(drop)
    }
}

fn registration(shard: &ShardId, alias: &Alias) -> Registration {
    let host = format!("db{}.prod.example.com", alias.uid());
    Registration {
        alias: alias.clone(),
        shard: shard.clone(),
        instance: uuid::Uuid::from_u128(alias.uid().into()).to_string(),
        agent_address: format!("http://{host}:7611"),
        database: Some(DatabaseAddress {
            host,
            port: 3306,
            server_id: alias.uid(),
        }),
        engine: "mariadb".into(),
        writer_key: "ab".repeat(32),
        replace: false,
        other_seen: false,
    }
}

fn found(alias: &Alias, day: u32) -> Result<Found> {
    let started_unix_ms = FIRST_UNIX_MS + u64::from(day) * DAY_MS;
    let hash = u128::from(alias.uid()) << 64 | u128::from(day);
    Ok(Found {
        name: BackupName::new(started_unix_ms, alias, 0)?,
        alias: alias.to_string(),
        known: Known::Complete,
        facts: Facts {
            engine: "mariadb".into(),
            engine_version: "10.11.19-MariaDB-0+deb12u1-log".into(),
            epoch: 3,
            position: format!("0-{}-{}", alias.uid(), 1_000_000 * (u64::from(day) + 1)).parse()?,
            started_unix_ms,
            ended_unix_ms: started_unix_ms + 1_800_000,
            logical_bytes: 250_000_000_000,
            stored_bytes: 9_000_000_000,
            files: 3_000,
            encrypted: true,
            manifest_hash: format!("{hash:064x}"),
            damaged_pages: 0,
            writer_key: "ab".repeat(32),
        },
        note: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backup_is_in_the_snapshot_and_comes_out_of_it_again() {
        let fleet = Fleet::new(3, 5).unwrap();
        let read = Fleet::of_snapshot(&fleet.snapshot().unwrap()).unwrap();
        assert_eq!(read.0, fleet.0);
        let shards: Vec<_> = fleet.0.topology.shards().into_iter().collect();
        assert_eq!(shards.len(), 3);
        for shard in &shards {
            assert_eq!(fleet.0.catalogue.complete_ones(shard).count(), 5);
        }
    }
}
