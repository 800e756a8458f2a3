//! Puts packs while the workers go on, a few at a time.

use std::sync::Arc;

use tokio::{sync::mpsc::Receiver, task::JoinSet};

use super::{BackupSource, session::Session};
use crate::{
    error::{Error, Result},
    repository::{
        header::Repository,
        layout,
        manifest::{PackOrigin, PackRecord},
        pack::ClosedPack,
        progress::Progress,
        stages::Stage,
    },
};

/// Puts every pack that comes and returns all of them with their numbers.
pub(super) async fn put_packs(
    repository: &Repository,
    source: &BackupSource,
    session: &Session,
    at_once: usize,
    progress: &Progress,
    mut packs: Receiver<ClosedPack>,
) -> Result<Vec<(u32, PackRecord)>> {
    let origin = Arc::new(PackOrigin {
        backup: source.name.clone(),
        session: session.id,
        encrypted: session.is_encrypted(),
    });
    let mut puts: JoinSet<Result<(u32, PackRecord)>> = JoinSet::new();
    let mut put: Vec<(u32, PackRecord)> = Vec::new();
    let mut more = true;
    while more || !puts.is_empty() {
        tokio::select! {
            pack = packs.recv(), if more && puts.len() < at_once => match pack {
                Some(pack) => {
                    let key = layout::pack(&source.shard, &source.name, pack.id);
                    let (repository, origin) = (repository.clone(), Arc::clone(&origin));
                    let progress = progress.clone();
                    puts.spawn(async move {
                        let record = PackRecord {
                            origin,
                            id: pack.id,
                            bytes: pack.bytes.len() as u32,
                            hash: pack.hash,
                        };
                        let put = repository.store().put_data(&key, pack.bytes);
                        progress.stages().time_request(Stage::Put, put).await?;
                        Ok((pack.number, record))
                    });
                }
                None => more = false,
            },
            Some(ended) = puts.join_next() => {
                let ended = ended
                    .map_err(|e| Error::internal(format!("the put of a pack died: {e}")))??;
                put.push(ended);
                if put.len() == 1 {
                    crate::fault::reach("agent.copy.middle").await?;
                }
            }
        }
    }
    Ok(put)
}
