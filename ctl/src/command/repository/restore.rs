use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use seawall_common::{
    Error,
    ids::{BackupName, ShardId},
    repository::{Manifest, Progress, Repository, download, read_manifest},
};
use tokio_util::sync::CancellationToken;

use super::{
    choose, contents, options,
    place::{Places, RootPlace},
    start,
};
use crate::{
    exit::{Failure, Outcome},
    output::{Output, json, progress::TransferProgress, table},
};

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Restores a backup into a fresh directory: every byte verified, nothing in its place before all of it is
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// Unset: the newest complete one, by epoch and position
    #[arg(value_name = "BACKUP")]
    name: Option<BackupName>,
    /// Where each of the backup's roots goes, below its name (DIRECTORY/data); not there yet, or empty
    #[arg(long, value_name = "DIRECTORY")]
    target: Option<PathBuf>,
    /// Another place for one root; may be repeated
    #[arg(long, value_name = "NAME=DIRECTORY")]
    root: Vec<RootPlace>,
    /// Read and check manifest and lists, say what would be restored, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Pieces that are fetched and written at the same time
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
    #[command(flatten)]
    repository: options::RepositoryOptions,
}

impl Restore {
    pub async fn run(self, output: Output) -> Outcome {
        let Some(config) = self.repository.config()? else {
            return Ok(());
        };
        let repository = options::open(&config).await?;
        let restored = self.restored(&repository).await;
        let result = restored.map_err(|failure| failure.of(format!("restore {}", self.shard)))?;
        output.print(
            &result,
            || result.name.clone(),
            || table::restored_backup(&result),
        )
    }

    async fn restored(&self, repository: &Repository) -> Outcome<json::RestoredBackup> {
        let contents = contents(repository, Some(&self.shard)).await?;
        let of_shard = contents.first().ok_or_else(|| {
            Failure::failed(Error::internal("the shard's contents were not read"))
        })?;
        let (header, hash) = choose(repository, of_shard, self.name.as_ref())?;
        // The hash is that of a moment ago: a manifest that is another one by now is not taken.
        let manifest = read_manifest(repository, &self.shard, &header.name, Some(hash))
            .await
            .map_err(Failure::failed)?;
        let roots: Vec<&str> = manifest.roots.iter().map(|r| r.name.as_str()).collect();
        let places =
            Places::new(&roots, self.target.as_deref(), &self.root).map_err(Failure::usage)?;
        places.check().map_err(Failure::failed)?;
        if !self.dry_run {
            self.fetch(repository, &manifest, places.clone())
                .await
                .map_err(Failure::failed)?;
        }
        Ok(self.result(repository, &manifest, &places))
    }

    /// Ctrl-C ends it, and leaves nothing behind.
    async fn fetch(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        places: Places,
    ) -> Result<(), Error> {
        places.begin()?;
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        let written = places.written();
        let transfer = download(
            repository,
            manifest,
            &written,
            self.concurrency as usize,
            &progress,
            &cancel,
        );
        let mut shown = TransferProgress::new(format!("restore {}", manifest.header.name));
        let ended = {
            tokio::pin!(transfer);
            loop {
                tokio::select! {
                    ended = &mut transfer => break ended,
                    _ = tokio::signal::ctrl_c(), if !cancel.is_cancelled() => cancel.cancel(),
                    () = tokio::time::sleep(LOOK_EVERY) => shown.update(progress.snapshot()),
                }
            }
        };
        drop(shown);
        on_disk(move || {
            let outcome = ended.and_then(|()| places.put_into_place());
            if outcome.is_err() {
                places.give_up()?;
            }
            outcome
        })
        .await
    }

    fn result(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        places: &Places,
    ) -> json::RestoredBackup {
        let header = &manifest.header;
        let position = header.position.to_string();
        let root = |(name, path): (&str, &Path)| json::RestoredRoot {
            name: name.to_owned(),
            path: path.display().to_string(),
        };
        json::RestoredBackup {
            name: header.name.to_string(),
            keyspace: self.shard.keyspace().to_owned(),
            shard: self.shard.shard().to_owned(),
            dry_run: self.dry_run,
            engine: header.engine.clone(),
            engine_version: manifest.detail("version").map(str::to_owned),
            epoch: header.epoch,
            position: (!position.is_empty()).then_some(position),
            logical_bytes: header.logical_bytes,
            files: header.files,
            manifest_hash: manifest.hash.clone(),
            writer_key: (!header.writer_key.is_empty()).then(|| header.writer_key.clone()),
            writer_is_trusted: repository.pins_writers(),
            roots: places.roots().map(root).collect(),
            not_checked: not_checked(repository),
            next_steps: start::steps(manifest, places.roots()),
        }
    }
}

/// What only others could tell.
fn not_checked(repository: &Repository) -> Vec<String> {
    let mut open = vec![
        "whether the coordinator's catalogue knows this manifest, and nothing newer: none was asked"
            .to_owned(),
    ];
    if !repository.pins_writers() {
        open.push(
            "who wrote it: no writers are pinned (--repository-trusted-writers), so whoever can write to the repository could have made it"
                .to_owned(),
        );
    }
    open
}

async fn on_disk(work: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("the thread that renames directories died: {e}")))?
}
