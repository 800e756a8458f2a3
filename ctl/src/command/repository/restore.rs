use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use seawall_common::{
    Error,
    ids::{BackupName, ShardId},
    repository::{
        Fetched, Manifest, Progress, Repository,
        partial::{Locked, Marker, is_worth_keeping},
        read_manifest, restore,
    },
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
///
/// One that was cut off (Ctrl-C, a store that went away) leaves DIRECTORY.seawall-restore; the same command goes on with
/// it and fetches only what is missing.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// commerce/0, commerce/-80
    #[arg(value_name = "KEYSPACE/SHARD")]
    shard: ShardId,
    /// Unset: the newest complete one, by epoch and position, that holds no page that was damaged in the database; if all do, the newest
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
        places
            .check(&Marker::of(&manifest))
            .map_err(Failure::failed)?;
        if let Some(warning) = damaged_pages(&manifest) {
            eprintln!("seawallctl: WARNING: {warning}");
        }
        let fetched = match self.dry_run {
            true => None,
            false => {
                let fetched = self.fetch(repository, &manifest, places.clone()).await;
                Some(fetched.map_err(Failure::failed)?)
            }
        };
        Ok(self.result(repository, &manifest, &places, fetched))
    }

    /// Ctrl-C ends it; what was written so far stays beside the places, to go on with.
    async fn fetch(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        places: Places,
    ) -> Result<Fetched, Error> {
        let (destinations, locked) = places.begin(&Marker::of(manifest))?;
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        let transfer = restore(
            repository,
            manifest,
            &destinations,
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
            let fetched = match ended {
                Ok(fetched) => fetched,
                Err(error) if is_worth_keeping(&error) => return Err(places.kept(error)),
                Err(error) => {
                    locked.iter().try_for_each(Locked::give_up)?;
                    return Err(error);
                }
            };
            places.put_into_place()?;
            locked.iter().try_for_each(Locked::remove)?;
            Ok(fetched)
        })
        .await
    }

    fn result(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        places: &Places,
        fetched: Option<Fetched>,
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
            damaged_pages: header.damaged_pages,
            resumed_bytes: fetched.map(|fetched| fetched.resumed_bytes),
            missing_bytes: fetched.map(|fetched| fetched.missing_bytes),
            manifest_hash: manifest.hash.clone(),
            writer_key: (!header.writer_key.is_empty()).then(|| header.writer_key.clone()),
            writer_is_trusted: repository.pins_writers(),
            roots: places.roots().map(root).collect(),
            not_checked: not_checked(repository),
            next_steps: start::steps(manifest, places.roots()),
        }
    }
}

/// Loud, because a database starts on it and looks well.
fn damaged_pages(manifest: &Manifest) -> Option<String> {
    let (name, count) = (&manifest.header.name, manifest.header.damaged_pages);
    if count == 0 {
        return None;
    }
    let first = manifest.damaged_pages.first().map(|page| {
        let (root, path, number, what) = (&page.root, &page.path, page.page, &page.what);
        format!(", the first of them page {number} of {root}/{path}: {what}")
    });
    Some(format!(
        "backup {name} holds {count} page{} that {} damaged in the database when it was copied{}. \
         It is restored as it was: check those tables before you rely on it",
        if count == 1 { "" } else { "s" },
        if count == 1 { "was" } else { "were" },
        first.unwrap_or_default(),
    ))
}

/// What only others could tell.
fn not_checked(repository: &Repository) -> Vec<String> {
    let mut open = vec![
        "whether the coordinator's catalogue knows this manifest, and nothing newer, and nothing bad of it: none was asked"
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

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("the thread that renames directories died: {e}")))?
}
