use seawall_common::{
    ErrorKind,
    ids::ShardId,
    repository::{Repository, StoredBackup},
};

use super::{ShardContents, contents, options};
use crate::{
    command::lines,
    exit::{Failure, Outcome},
    output::{Output, json, table},
};

/// Lists what lies in a repository: every backup with its state, position and sizes
#[derive(Debug, clap::Args)]
pub struct List {
    /// commerce/0, commerce/-80; unset: every shard
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: Option<ShardId>,
    #[command(flatten)]
    repository: options::RepositoryOptions,
}

impl List {
    pub async fn run(self, output: Output) -> Outcome {
        let Some(config) = self.repository.config()? else {
            return Ok(());
        };
        let repository = options::open(&config).await?;
        let listed = self.listed(&repository).await;
        let (owner, contents) = listed.map_err(|failure| failure.of("list"))?;
        output.print(
            &json::StoredRepository::new(&repository, owner.as_ref(), rows(&contents)),
            || self.names(&contents),
            || table::stored_backups(&repository, rows(&contents)),
        )
    }

    async fn listed(
        &self,
        repository: &Repository,
    ) -> Outcome<(
        Option<seawall_common::repository::Owner>,
        Vec<ShardContents>,
    )> {
        let owner = match repository.owner().await {
            // What is damaged does not hide the backups; a check says it in full.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                eprintln!("seawallctl: {error}");
                None
            }
            other => other.map_err(Failure::failed)?,
        };
        Ok((owner, contents(repository, self.shard.as_ref()).await?))
    }

    /// With its shard before each name, unless only one was asked for.
    fn names(&self, contents: &[ShardContents]) -> String {
        let names: Vec<String> = rows(contents)
            .map(|(shard, backup)| match self.shard {
                Some(_) => backup.name.to_string(),
                None => format!("{shard} {}", backup.name),
            })
            .collect();
        lines(names.iter().map(String::as_str))
    }
}

fn rows(contents: &[ShardContents]) -> impl Iterator<Item = (&ShardId, &StoredBackup)> {
    contents
        .iter()
        .flat_map(|of| of.backups.iter().map(|backup| (&of.shard, backup)))
}
