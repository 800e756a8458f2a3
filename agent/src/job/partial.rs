//! What a restore that was cut off leaves of this tablet's roots; see
//! [`seawall_common::repository::partial`] for what lies there.
//!
//! It goes when the operator cancels the restore, when another backup is restored, when going on
//! makes no sense (the backup is damaged, the disk is full or fails), and when nobody has gone on with
//! it for as long as `partial_restore_kept`. See `docs/decisions/0009-what-is-left-of-a-restore.md`.

use std::path::{Path, PathBuf};

use seawall_common::{
    Error, ErrorKind, Result,
    repository::{
        Destinations, Manifest,
        partial::{self, Locked, Marker},
    },
};

use crate::tablet::Tablet;

type Roots = Vec<(String, PathBuf)>;

/// Gets everything ready to restore a backup beside `roots`: what is there of the same one stays,
/// anything else goes. Nobody else touches it while the second is kept.
pub(super) async fn prepare(
    tablet: &Tablet,
    roots: &Roots,
    manifest: &Manifest,
) -> Result<(Destinations, Vec<Locked>)> {
    let _alone = tablet.lock_partial_restore().await;
    let marker = Marker::of(manifest);
    let hash = manifest.hash.clone();
    let roots = roots.clone();
    on_disk(move || {
        let locked = roots.iter().map(|(_, root)| marker.lock_alone(root));
        let locked = locked.collect::<Result<_>>()?;
        Ok((look(&roots, &hash), locked))
    })
    .await
}

/// Where each root would go, and what of it is there now.
pub(crate) fn look(roots: &[(String, PathBuf)], manifest_hash: &str) -> Destinations {
    let destinations = roots
        .iter()
        .map(|(name, root)| (name.clone(), partial::destination(root, manifest_hash)));
    destinations.collect()
}

/// Deletes what is left, and what is said of it.
pub(super) async fn discard(tablet: &Tablet) -> Result<()> {
    let _alone = tablet.lock_partial_restore().await;
    let roots = tablet.engine.known_roots().await?;
    on_disk(move || roots.iter().try_for_each(|(_, root)| delete(root))).await
}

/// Keeps everybody else from what was fetched while it is moved into its place.
pub(super) async fn lock(roots: Vec<PathBuf>) -> Result<Vec<Locked>> {
    on_disk(move || roots.iter().map(|root| Locked::take(root)).collect()).await
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
        for (_, root) in roots
            .iter()
            .filter(|(_, root)| partial::is_old(root, limit))
        {
            tracing::info!("deleting what is left of a restore of {}", root.display());
            delete(root)?;
        }
        Ok(())
    })
    .await
}

/// Not what somebody else restores there by hand.
fn delete(root: &Path) -> Result<()> {
    match partial::discard(root) {
        Err(e) if e.kind() == ErrorKind::Conflict => {
            tracing::info!("not deleted: {e}");
            Ok(())
        }
        other => other,
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
