//! What a backup needs of what lies under `packs/`: read without any key, for the collector.

use super::{
    MANIFEST_BYTES_MAX, PackRecord,
    read::{check_origins, decode_header, get_pack_list},
};
use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
    repository::{header::Repository, layout},
};

/// The packs that a backup needs, whoever wrote them.
///
/// `expected_hash`: what the catalogue says. Another manifest, or anything in it or in its pack
/// lists that does not fit, is [`crate::ErrorKind::Corrupt`]; none is [`crate::ErrorKind::NotFound`].
pub(in super::super) async fn read_needed_packs(
    repository: &Repository,
    shard: &ShardId,
    name: &BackupName,
    expected_hash: Option<&str>,
) -> Result<Vec<PackRecord>> {
    let key = layout::manifest(shard, name);
    let object = repository.store().get(&key, MANIFEST_BYTES_MAX).await?;
    let hash = blake3::hash(&object).to_hex();
    if let Some(expected) = expected_hash
        && expected != hash.as_str()
    {
        return Err(Error::corrupt(format!(
            "object {key} is not the manifest that the catalogue knows: its hash is {hash}, not {expected:?}"
        )));
    }
    let damaged = |why: String| Error::corrupt(format!("object {key} {why}"));
    let (prefix, header, _) =
        decode_header(&object, repository.uuid(), shard, name).map_err(damaged)?;
    let mut packs = Vec::new();
    for part in &header.pack_lists {
        packs.extend(get_pack_list(repository, &header, &prefix, part).await?);
    }
    check_origins(&header, &prefix, &packs).map_err(damaged)?;
    Ok(packs)
}
