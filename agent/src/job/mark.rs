//! The `removed` mark of a backup that is given up (I2): put first, before the hold is let go of.

use std::time::Duration;

use seawall_common::{
    Error, Result,
    ids::{BackupName, OperationId},
};

use crate::{journal::PendingMark, tablet::Tablet};

/// How long the database waits for a store that does not take the mark.
const MARK_LIMIT: Duration = Duration::from_secs(20);

/// Puts the mark. A store that does not take it in time leaves it to [`put_pending_marks`]: the
/// database must come back (I3), and the hold is kept alive until the mark is there.
pub async fn abandon(
    tablet: &Tablet,
    operation: OperationId,
    backup: &BackupName,
    reason: &str,
) -> Result<()> {
    let put = tokio::time::timeout(MARK_LIMIT, put(tablet, backup, reason)).await;
    let error = match put {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => Error::timeout("the repository did not take it in time"),
    };
    tracing::error!("cannot mark backup {backup} as removed yet, trying on: {error}");
    let (backup, reason) = (backup.clone(), reason.to_owned());
    tablet
        .journal
        .update(move |contents| {
            let (hold_id, token) = contents
                .operation(operation)
                .map_or((String::new(), 0), |o| (o.hold_id.clone(), o.token));
            contents.pending_marks.retain(|mark| mark.backup != backup);
            contents.pending_marks.push(PendingMark {
                backup,
                reason,
                hold_id,
                token,
            });
            Ok(())
        })
        .await
}

/// Tries once to put each mark that could not be put before.
pub async fn put_pending_marks(tablet: &Tablet) {
    let pending = tablet.journal.read().pending_marks.clone();
    for mark in pending {
        if let Err(error) = put(tablet, &mark.backup, &mark.reason).await {
            tracing::warn!("cannot mark backup {} as removed yet: {error}", mark.backup);
            continue;
        }
        let forgotten = tablet
            .journal
            .update(move |contents| {
                contents.pending_marks.retain(|other| *other != mark);
                Ok(())
            })
            .await;
        if let Err(error) = forgotten {
            tracing::warn!("{error}");
        }
    }
}

async fn put(tablet: &Tablet, backup: &BackupName, reason: &str) -> Result<()> {
    tablet
        .repository()
        .await?
        .abandon(&tablet.shard_id, backup, reason)
        .await
}
