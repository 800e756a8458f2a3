//! What a simulated agent copies: nothing, into a backup of which the manifest is a real one. It is
//! announced before it is put, as real agents do.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use seawall_common::{
    Result,
    ids::ShardId,
    repository::{BackupSource, PreparedManifest, Repository},
};
use seawall_coordinator::sim;
use seawall_proto::v1::{self, agents_client::AgentsClient};
use seawall_tests::proof::{
    group::{Answer, Group},
    history::History,
};
use tonic::Status;

use crate::{
    agents,
    catalogue::{Named, Op, Ret},
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Above the clients' numbers: each announcement counts as a client's of its own.
const FIRST_CLIENT: u64 = 10_000;

pub struct Copies {
    group: Group,
    history: History<Named, Ret>,
    /// By name: a step that comes again finds what was prepared.
    prepared: Mutex<BTreeMap<String, PreparedManifest>>,
}

impl Copies {
    pub fn new(group: Group, history: History<Named, Ret>) -> Self {
        Self {
            group,
            history,
            prepared: Mutex::default(),
        }
    }

    pub async fn copy(
        &self,
        request: &v1::ExecuteRequest,
        copy: &v1::CopyStep,
    ) -> Result<v1::Backup, Status> {
        let repository = sim::repository().await?;
        let prepared = self.prepare(&repository, request, copy)?;
        let backup = announced(&prepared);
        self.announce(request, &backup).await?;
        prepared.put(&repository).await?;
        Ok(backup)
    }

    fn prepare(
        &self,
        repository: &Repository,
        request: &v1::ExecuteRequest,
        copy: &v1::CopyStep,
    ) -> Result<PreparedManifest> {
        let mut all = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = all.get(&copy.backup) {
            return Ok(prepared.clone());
        }
        let source = BackupSource {
            shard: ShardId::from_proto(Some(&agents::backed_up_shard()))?,
            name: copy.backup.parse()?,
            alias: request.alias.parse()?,
            engine: "mariadb".to_owned(),
            details: Vec::new(),
            epoch: copy.epoch,
            position: agents::POSITION.parse()?,
            started_unix_ms: 0,
            token: request.token,
            operation: request.operation_id.clone(),
            roots: Vec::new(),
            signer: None,
            page_check: None,
        };
        let prepared = PreparedManifest::of_nothing(repository, &source)?;
        all.insert(copy.backup.clone(), prepared.clone());
        Ok(prepared)
    }

    async fn announce(
        &self,
        request: &v1::ExecuteRequest,
        backup: &v1::Backup,
    ) -> Result<(), Status> {
        let op = Op::Announce {
            hash: backup.manifest_hash.clone(),
        };
        let client = FIRST_CLIENT + self.history.length();
        let call = self.history.invoke(client, (backup.name.clone(), op));
        let request = v1::AnnounceManifestRequest {
            operation_id: request.operation_id.clone(),
            attempt: request.attempt,
            token: request.token,
            backup: Some(backup.clone()),
        };
        let announce = |channel| {
            let request = request.clone();
            async move { AgentsClient::new(channel).announce_manifest(request).await }
        };
        match self.group.insist(PATIENCE, announce).await {
            Answer::Done(_) => {
                self.history.returned(call, Ret::Done);
                Ok(())
            }
            Answer::Refused(error) => {
                self.history.returned(call, Ret::Refused);
                Err(error.into())
            }
            Answer::Unknown => Err(Status::unavailable("the group does not answer")),
        }
    }
}

fn announced(prepared: &PreparedManifest) -> v1::Backup {
    let header = prepared.header();
    v1::Backup {
        name: header.name.to_string(),
        engine: header.engine.clone(),
        epoch: header.epoch,
        position: header.position.to_string(),
        started_unix_ms: header.started_unix_ms,
        ended_unix_ms: header.ended_unix_ms,
        manifest_hash: prepared.hash().to_owned(),
        ..v1::Backup::default()
    }
}
