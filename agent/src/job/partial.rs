//! What a restore that was cut off leaves, `<data>.seawall-restore`, and the marker beside it that
//! says of which backup it is.
//!
//! A restore of the same backup goes on with it; everything in it is verified again, so the marker
//! decides only whether that is worth while. Nothing ever starts on it (I6). It goes when the
//! operator cancels the restore, when another backup is restored, when going on makes no sense
//! (the backup is damaged, the disk is full or fails), and when nobody has gone on with it for as long as
//! `partial_restore_kept`. See `docs/decisions/0009-what-is-left-of-a-restore.md`.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use seawall_common::{
    Error, ErrorKind, Result,
    clock::now_unix_ms,
    ids::BackupName,
    repository::{Destination, Destinations, Manifest},
};
use serde::{Deserialize, Serialize};

use super::install::{beside, sync_parent};
use crate::tablet::Tablet;

/// Behind the name of a directory: what is being fetched for it.
pub(super) const PARTIAL: &str = ".seawall-restore";
const MARKER: &str = ".seawall-restore.json";

type Roots = Vec<(String, PathBuf)>;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    backup: BackupName,
    manifest_hash: String,
    /// When a restore last began with it, or went on.
    touched_unix_ms: u64,
}

/// Gets everything ready to restore a backup beside `roots`: what is there of the same one stays,
/// anything else goes.
pub(super) async fn prepare(
    tablet: &Tablet,
    roots: &Roots,
    manifest: &Manifest,
) -> Result<Destinations> {
    let _alone = tablet.lock_partial_restore().await;
    let marker = Marker {
        backup: manifest.header.name.clone(),
        manifest_hash: manifest.hash.clone(),
        touched_unix_ms: now_unix_ms(),
    };
    let roots = roots.clone();
    on_disk(move || {
        let mut destinations = look(&roots, &marker.manifest_hash);
        for (name, root) in &roots {
            let failed = |e: &io::Error| Error::io("make ready to restore", root, e);
            if destinations.get(name).is_some_and(|d| !d.resume) {
                delete(root).map_err(|e| failed(&e))?;
            }
            // Before the first byte: nothing is ever there without a word about what it is.
            marker.write(root).map_err(|e| failed(&e))?;
        }
        for destination in destinations.values_mut() {
            destination.resume &= destination.directory.is_dir();
        }
        Ok(destinations)
    })
    .await
}

/// Where each root would go, and what of it is there now.
pub(crate) fn look(roots: &[(String, PathBuf)], manifest_hash: &str) -> Destinations {
    let destination = |root: &Path| {
        let is_same = Marker::read(root).is_some_and(|known| known.manifest_hash == manifest_hash);
        let directory = beside(root, PARTIAL);
        Destination {
            resume: is_same && directory.is_dir(),
            directory,
            old: root.is_dir().then(|| root.to_owned()),
        }
    };
    let destinations = roots
        .iter()
        .map(|(name, root)| (name.clone(), destination(root)));
    destinations.collect()
}

/// Whether what was fetched before this failure is of use to the next try. Not when the disk has
/// failed, which is [`ErrorKind::Internal`] here: the memory may show what never reached it.
pub(super) fn is_worth_keeping(error: &Error) -> bool {
    use ErrorKind::{Cancelled, Fenced, Refused, Timeout, Unavailable};
    matches!(
        error.kind(),
        Unavailable | Timeout | Cancelled | Fenced | Refused
    )
}

/// Deletes what is left, and what is said of it.
pub(super) async fn discard(tablet: &Tablet) -> Result<()> {
    let _alone = tablet.lock_partial_restore().await;
    let roots = tablet.engine.known_roots().await?;
    on_disk(move || {
        roots.iter().try_for_each(|(_, root)| {
            delete(root).map_err(|e| Error::io("delete what was fetched for", root, &e))
        })
    })
    .await
}

/// Deletes what nobody has gone on with for too long, unless an operation has the database: a
/// restore may go on with it, and while files are copied nothing is asked of the engine.
pub async fn discard_old(tablet: &Tablet) -> Result<()> {
    let _alone = tablet.lock_partial_restore().await;
    if tablet.journal.read().owner().is_some() {
        return Ok(());
    }
    let limit = tablet.settings.partial_restore_kept;
    let roots = tablet.engine.known_roots().await?;
    on_disk(move || {
        for (_, root) in roots.iter().filter(|(_, root)| is_old(root, limit)) {
            tracing::info!("deleting what is left of a restore of {}", root.display());
            delete(root).map_err(|e| Error::io("delete what was fetched for", root, &e))?;
        }
        Ok(())
    })
    .await
}

fn is_old(root: &Path, limit: Duration) -> bool {
    let is_there = |ending| beside(root, ending).symlink_metadata().is_ok();
    if !is_there(PARTIAL) && !is_there(MARKER) {
        return false;
    }
    Marker::read(root).is_none_or(|marker| {
        let age_ms = now_unix_ms().saturating_sub(marker.touched_unix_ms);
        Duration::from_millis(age_ms) >= limit
    })
}

/// The directory first: it is never there without its marker.
fn delete(root: &Path) -> io::Result<()> {
    super::install::delete(&beside(root, PARTIAL))?;
    match std::fs::remove_file(beside(root, MARKER)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => sync_parent(root),
    }
}

impl Marker {
    /// Nothing where it cannot be understood: then it is worth nothing.
    fn read(root: &Path) -> Option<Self> {
        let bytes = std::fs::read(beside(root, MARKER)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn write(&self, root: &Path) -> io::Result<()> {
        let (new, path) = (beside(root, ".seawall-restore.new"), beside(root, MARKER));
        let mut file = File::create(&new)?;
        io::Write::write_all(&mut file, &serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        sync_parent(&path)
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("the thread that looks at what is left died: {e}")))?
}

#[cfg(test)]
mod tests;
