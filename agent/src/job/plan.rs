//! What a restore would fetch onto this tablet: read, told, and nothing changed.

use std::time::Duration;

use seawall_common::{
    Error, Result,
    ids::BackupName,
    repository::{self, Progress, plan_restore, read_manifest},
};
use seawall_proto::v1;
use tokio_util::sync::CancellationToken;

use super::{fetch, partial};
use crate::tablet::Tablet;

/// Reads what is here for at most `limit`. Ends when it is dropped.
pub async fn plan_fetch(
    tablet: &Tablet,
    backup: &BackupName,
    manifest_hash: &str,
    limit: Duration,
) -> Result<v1::FetchPlan> {
    if let Some(operation) = tablet.journal.read().owner() {
        return Err(Error::refused(format!(
            "operation {} has the database of {}: what is here changes under it",
            operation.id, tablet.alias
        ))
        .hint("Ask again when it has ended."));
    }
    let repository = tablet.repository().await?;
    let expected = Some(manifest_hash).filter(|hash| !hash.is_empty());
    let manifest = read_manifest(repository, &tablet.shard_id, backup, expected).await?;
    let roots = tablet.engine.roots().await?;
    fetch::check_fits(tablet, &manifest, &roots)?;
    fetch::check_version(&manifest, &tablet.engine.program_version().await?)?;
    let destinations = partial::look(&roots, &manifest.hash);
    let (progress, never) = (Progress::new(), CancellationToken::new());
    let plan = plan_restore(
        repository,
        &manifest,
        &destinations,
        tablet.settings.restore_concurrency,
        limit,
        &progress,
        &never,
    )
    .await?;
    Ok(to_proto(&plan))
}

fn to_proto(plan: &repository::FetchPlan) -> v1::FetchPlan {
    let space = |space: &repository::Space| v1::FileSystemSpace {
        path: space.path.display().to_string(),
        needed_bytes: space.needed_bytes(),
        free_bytes: space.free_bytes,
    };
    let fetched = &plan.fetched;
    v1::FetchPlan {
        data_bytes: plan.data_bytes,
        resumed_bytes: fetched.resumed_bytes,
        copied_bytes: fetched.copied_bytes,
        missing_bytes: fetched.missing_bytes,
        fetch_bytes: fetched.requested_bytes,
        requests: fetched.requests,
        upper_bound: plan.is_upper_bound,
        space: plan.space.iter().map(space).collect(),
    }
}
