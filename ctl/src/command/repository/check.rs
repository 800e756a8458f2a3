use std::time::Duration;

use seawall_common::{
    Error,
    ids::{BackupName, ShardId},
    repository::{InspectOptions, Inspection, Progress, Repository, inspect},
};
use tokio_util::sync::CancellationToken;

use super::{catalogue, options};
use crate::{
    cli::Global,
    exit::{Failure, Outcome},
    output::{json, progress::TransferProgress, table},
};

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Checks a repository: that nothing is damaged or missing, and what nobody refers to. Exit status 1: damage
///
/// Without an identity all but the contents of encrypted backups is checked. With --coordinator the backups are compared
/// with the catalogue too.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// commerce/0, commerce/-80; unset: every shard, and what lies beside them
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: Option<ShardId>,
    /// Only this backup and what it reaches
    #[arg(value_name = "BACKUP", requires = "shard")]
    name: Option<BackupName>,
    /// Also read every pack: its hash, and, where an identity opens it, every chunk. What several backups share is read
    /// once
    #[arg(long)]
    read_data: bool,
    /// Packs that are read at the same time
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
    #[command(flatten)]
    repository: options::RepositoryOptions,
}

impl Check {
    pub async fn run(self, global: &Global) -> Outcome {
        let Some(config) = self.repository.config()? else {
            return Ok(());
        };
        let repository = options::open(&config).await?;
        let inspection = self.inspect(&repository).await;
        let inspection = inspection.map_err(|error| Failure::failed(error).of("check"))?;
        let differences = match global.named_coordinators() {
            Some(members) => {
                let client = global.client_of(members, |name| std::env::var(name).ok())?;
                let compared = catalogue::compare(&client, &inspection).await;
                Some(compared.map_err(|failure| failure.of("check"))?)
            }
            None => None,
        };
        let result = json::CheckedRepository::new(&repository, &inspection, differences);
        global.output.print(
            &result,
            || result.names(),
            || table::checked_repository(&result),
        )?;
        match result.first_damage() {
            None => Ok(()),
            Some(first) => Err(Failure::failed(
                Error::corrupt(format!("{} is damaged: {first}", repository.url()))
                    .hint("Backups that do not reach what is damaged can be restored."),
            )
            .of("check")),
        }
    }

    /// Ctrl-C ends it.
    async fn inspect(&self, repository: &Repository) -> Result<Inspection, Error> {
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        let options = InspectOptions {
            shard: self.shard.clone(),
            backup: self.name.clone(),
            read_data: self.read_data,
            concurrency: self.concurrency as usize,
        };
        let mut shown = TransferProgress::new("reading back".to_owned());
        let work = inspect(repository, &options, &progress, &cancel);
        tokio::pin!(work);
        loop {
            tokio::select! {
                ended = &mut work => return ended,
                _ = tokio::signal::ctrl_c(), if !cancel.is_cancelled() => cancel.cancel(),
                () = tokio::time::sleep(LOOK_EVERY) => shown.update(progress.snapshot()),
            }
        }
    }
}
