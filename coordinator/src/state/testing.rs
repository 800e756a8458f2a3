//! A small cluster's state, for tests: `commerce/0` with three tablets, `zone1-100` its primary.

use seawall_common::ids::{Alias, BackupName, OperationId, ShardId};

use super::{
    Command, Refusal, Response, State,
    catalogue::Facts,
    epochs::NewEpoch,
    operations::{self, Effect, Finish, Operation, Outcome, Spec, Start},
    topology::{self, DatabaseAddress, Registration, TabletType},
    verification::{self, Verification},
};

pub const GRACE_MS: u64 = 1_000;

pub fn shard() -> ShardId {
    "commerce/0".parse().unwrap()
}

pub fn alias(text: &str) -> Alias {
    text.parse().unwrap()
}

pub fn backup_of(alias_text: &str) -> Spec {
    Spec::Backup {
        alias: alias(alias_text),
        concurrency: 4,
        no_wait: false,
        allow_primary: false,
    }
}

pub fn restore_of(alias_text: &str) -> Spec {
    Spec::Restore {
        alias: alias(alias_text),
        backup: None,
        empty_start: true,
        concurrency: 4,
        allow_broken: false,
    }
}

pub fn verify_of(backup: &BackupName, percent: u32) -> Spec {
    Spec::Verify {
        shard: shard(),
        backup: backup.clone(),
        percent,
        alias: None,
        concurrency: 0,
    }
}

pub fn reparent_to(new_primary: &str) -> Spec {
    Spec::PlannedReparent {
        shard: shard(),
        new_primary: alias(new_primary),
    }
}

pub fn removal_of(backup: &BackupName, force: bool) -> Spec {
    Spec::RemoveBackup {
        shard: shard(),
        backup: backup.clone(),
        force,
        reason: String::new(),
        by_retention: false,
    }
}

pub fn registration(alias_text: &str) -> Registration {
    let alias = alias(alias_text);
    Registration {
        shard: shard(),
        instance: format!("instance of {alias}"),
        agent_address: format!("http://{alias}:7611"),
        database: Some(DatabaseAddress {
            host: "127.0.0.1".into(),
            port: 3306,
            server_id: alias.uid(),
        }),
        engine: "mariadb".into(),
        replace: false,
        writer_key: String::new(),
        other_seen: false,
        alias,
    }
}

#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub state: State,
    pub now_unix_ms: u64,
    /// All that was applied.
    pub log: Vec<Command>,
}

impl Cluster {
    /// Three registered spares that become replicas when they have caught up.
    pub fn new() -> Self {
        let mut cluster = Self {
            state: State::default(),
            now_unix_ms: 1_792_000_000_000,
            log: Vec::new(),
        };
        for alias in ["zone1-100", "zone1-101", "zone1-102"] {
            cluster.register(registration(alias)).unwrap();
        }
        cluster
    }

    pub fn with_primary() -> Self {
        let mut cluster = Self::new();
        let operation = cluster
            .start(Spec::InitShardPrimary {
                shard: shard(),
                alias: alias("zone1-100"),
            })
            .unwrap();
        cluster
            .apply(Command::Topology(topology::Command::NewEpoch(NewEpoch {
                operation: operation.id,
                shard: shard(),
                expected: 0,
                alias: alias("zone1-100"),
                start_position: "".parse().unwrap(),
                repository_epoch: 0,
                now_unix_ms: cluster.now_unix_ms,
            })))
            .unwrap();
        cluster.finish(operation.id).unwrap();
        for text in ["zone1-101", "zone1-102"] {
            let alias = alias(text);
            cluster
                .apply(Command::Topology(topology::Command::CaughtUp { alias }))
                .unwrap();
        }
        cluster
    }

    /// Another shard, whose first tablet is its primary and whose others are replicas.
    pub fn add_shard(&mut self, name: &str, aliases: &[&str]) {
        let shard: ShardId = name.parse().unwrap();
        for text in aliases {
            let registration = Registration {
                shard: shard.clone(),
                ..registration(text)
            };
            self.register(registration).unwrap();
        }
        let operation = self
            .start(Spec::InitShardPrimary {
                shard: shard.clone(),
                alias: alias(aliases[0]),
            })
            .unwrap();
        self.apply(Command::Topology(topology::Command::NewEpoch(NewEpoch {
            operation: operation.id,
            shard,
            expected: 0,
            alias: alias(aliases[0]),
            start_position: "".parse().unwrap(),
            repository_epoch: 0,
            now_unix_ms: self.now_unix_ms,
        })))
        .unwrap();
        self.finish(operation.id).unwrap();
        for text in &aliases[1..] {
            let alias = alias(text);
            self.apply(Command::Topology(topology::Command::CaughtUp { alias }))
                .unwrap();
        }
    }

    pub fn apply(&mut self, command: Command) -> Result<Response, Refusal> {
        self.log.push(command.clone());
        let before = self.state.clone();
        match self.state.apply(&command) {
            Response::Refused(refusal) => {
                assert_eq!(
                    self.state, before,
                    "a refusal changed something: {command:?}"
                );
                Err(refusal)
            }
            response => Ok(response),
        }
    }

    pub fn operate(&mut self, command: operations::Command) -> Result<Response, Refusal> {
        self.apply(Command::Operations(command))
    }

    pub fn register(&mut self, registration: Registration) -> Result<Response, Refusal> {
        self.apply(Command::Topology(topology::Command::Register(registration)))
    }

    pub fn start(&mut self, spec: Spec) -> Result<Operation, Refusal> {
        self.now_unix_ms += 10;
        let start = Start {
            id: OperationId::generate(),
            spec,
            now_unix_ms: self.now_unix_ms,
            deadline_unix_ms: self.now_unix_ms + 60_000,
        };
        match self.operate(operations::Command::Start(start))? {
            Response::Operation(operation) => Ok(*operation),
            other => panic!("{other:?}"),
        }
    }

    /// Ends an operation as its driver does when everything has gone well or been undone.
    pub fn finish(&mut self, id: OperationId) -> Result<Response, Refusal> {
        self.finish_with(id, None)
    }

    pub fn finish_with(
        &mut self,
        id: OperationId,
        error: Option<Refusal>,
    ) -> Result<Response, Refusal> {
        self.operate(operations::Command::Finish(Finish {
            id,
            now_unix_ms: self.now_unix_ms,
            error,
            result: String::new(),
            sweep_not_before_unix_ms: self.now_unix_ms + GRACE_MS,
            sweep_deadline_unix_ms: self.now_unix_ms + 2 * GRACE_MS,
        }))
    }

    pub fn end_step(
        &mut self,
        id: OperationId,
        step: &str,
        effect: Effect,
    ) -> Result<Response, Refusal> {
        self.operate(operations::Command::StepEnded {
            id,
            step: step.into(),
            now_unix_ms: self.now_unix_ms,
            error: None,
            outcome: Outcome::default(),
            effect,
        })
    }

    /// A whole backup, at a position.
    pub fn backed_up(&mut self, alias: &str, position: &str) -> BackupName {
        let operation = self.start(backup_of(alias)).unwrap();
        self.complete_copy(operation.id, position).unwrap();
        self.finish(operation.id).unwrap();
        operation.backup.unwrap()
    }

    pub fn complete_copy(&mut self, id: OperationId, position: &str) -> Result<Response, Refusal> {
        let epoch = self.state.topology.newest_epoch(&shard());
        let facts = Facts {
            engine: "mariadb".into(),
            engine_version: "10.11.19-MariaDB".into(),
            epoch: epoch.map_or(0, |e| e.number),
            position: position.parse().unwrap(),
            manifest_hash: format!("hash of {id}"),
            ended_unix_ms: self.now_unix_ms,
            ..Facts::default()
        };
        self.end_step(id, "copy", Effect::BackupComplete(Box::new(facts)))
    }

    pub fn abandon(&mut self, id: OperationId) -> Result<Response, Refusal> {
        let reason = "given up".to_owned();
        self.end_step(id, "abandon", Effect::BackupRemoved { reason })
    }

    /// What a verification, or a restore test, of a backup came to.
    pub fn verified(&mut self, backup: &BackupName, is_test: bool, result: &Verification) {
        let catalogue = &mut self.state.catalogue;
        verification::record(catalogue, &shard(), backup, result, is_test);
    }

    /// A whole removal.
    pub fn removed(&mut self, backup: &BackupName) {
        let operation = self.start(removal_of(backup, false)).unwrap();
        self.abandon(operation.id).unwrap();
        self.finish(operation.id).unwrap();
    }

    pub fn cancel(&mut self, id: OperationId) -> Result<Response, Refusal> {
        self.operate(operations::Command::Cancel {
            id,
            reason: "test".into(),
        })
    }

    /// Starts an orderly change of primary.
    pub fn reparent(&mut self, new_primary: &str) -> OperationId {
        self.start(reparent_to(new_primary)).unwrap().id
    }

    pub fn promote(&mut self, new_primary: &str, start_position: &str) {
        let operation = self.reparent(new_primary);
        let expected = self.state.topology.newest_epoch(&shard()).unwrap().number;
        self.apply(Command::Topology(topology::Command::NewEpoch(NewEpoch {
            operation,
            shard: shard(),
            expected,
            alias: alias(new_primary),
            start_position: start_position.parse().unwrap(),
            repository_epoch: 0,
            now_unix_ms: self.now_unix_ms,
        })))
        .unwrap();
        self.finish(operation).unwrap();
    }

    pub fn types(&self) -> Vec<(String, TabletType)> {
        let tablets = self.state.topology.tablets();
        tablets
            .map(|tablet| (tablet.alias.to_string(), tablet.tablet_type))
            .collect()
    }

    pub fn type_of(&self, text: &str) -> TabletType {
        self.state
            .topology
            .tablet(&alias(text))
            .unwrap()
            .tablet_type
    }
}
