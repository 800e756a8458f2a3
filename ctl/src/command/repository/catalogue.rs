//! What lies in a repository against what the coordinator's catalogue says of it.

use std::collections::BTreeSet;

use seawall_common::{
    ids::ShardId,
    repository::{InspectedBackup, Inspection, StoredState},
};
use seawall_proto::v1::{self, BackupState, catalogue_client::CatalogueClient};

use crate::{
    client::Client,
    exit::Outcome,
    output::json::{CatalogueDifference, known},
};

/// Of the shards that were looked at.
pub async fn compare(client: &Client, found: &Inspection) -> Outcome<Vec<CatalogueDifference>> {
    let shards: BTreeSet<&ShardId> = found.backups.iter().map(|b| &b.shard).collect();
    let mut differences = Vec::new();
    for shard in shards {
        let request = v1::ListBackupsRequest {
            shard: Some(shard.to_proto()),
            all: true,
        };
        let response = client
            .call(|channel| {
                let request = request.clone();
                async move { CatalogueClient::new(channel).list_backups(request).await }
            })
            .await?;
        let stored: Vec<&InspectedBackup> =
            found.backups.iter().filter(|b| b.shard == *shard).collect();
        let mut add = |(name, what, is_damage): (&str, String, bool)| {
            differences.push(CatalogueDifference {
                keyspace: shard.keyspace().to_owned(),
                shard: shard.shard().to_owned(),
                name: name.to_owned(),
                what,
                damage: is_damage,
            });
        };
        differences_of(&response.backups, &stored).for_each(&mut add);
    }
    Ok(differences)
}

/// What is wrong with which backup, and whether it means that something was lost.
fn differences_of<'a>(
    catalogue: &'a [v1::Backup],
    stored: &'a [&InspectedBackup],
) -> impl Iterator<Item = (&'a str, String, bool)> {
    let lost = catalogue.iter().filter_map(|entry| {
        let should_be_there = matches!(
            entry.state(),
            BackupState::Complete | BackupState::Broken
        );
        let stored = stored.iter().find(|b| b.name.as_str() == entry.name);
        let what = match stored.map(|b| &b.state) {
            _ if !should_be_there => return None,
            Some(StoredState::Complete { manifest_hash, .. }) => {
                let expected = known(&entry.manifest_hash).filter(|hash| hash != manifest_hash)?;
                format!("its manifest is not the one that the catalogue knows: {manifest_hash}, not {expected}")
            }
            Some(StoredState::Broken { .. }) => return None,
            Some(StoredState::Removed { reason }) => {
                format!("the catalogue has it, the repository says that it was removed: {reason}")
            }
            Some(StoredState::Incomplete) | None => {
                "the catalogue has it, and its manifest is missing".to_owned()
            }
        };
        Some((entry.name.as_str(), what, true))
    });
    let unknown = stored.iter().filter_map(|stored| {
        let is_complete = matches!(stored.state, StoredState::Complete { .. });
        let entry = catalogue.iter().find(|e| e.name == stored.name.as_str());
        let what = match entry.map(v1::Backup::state) {
            _ if !is_complete => return None,
            None => "it is complete, and the catalogue does not know it",
            Some(BackupState::Removed) => "it is complete, and the catalogue has it as removed",
            Some(_) => return None,
        };
        Some((stored.name.as_str(), what.to_owned(), false))
    });
    lost.chain(unknown)
}
