//! Getting the end of a pack, for whoever needs no more of it.

use bytes::Bytes;
use object_store::path::Path;

use super::Trailer;
use crate::{error::Result, repository::header::Repository};

/// Gets index and trailer of most packs at once.
const TAIL_BYTES: u64 = 16 << 10;

/// The end of a pack of `pack_bytes`: at least its index and its trailer. Or why it cannot be one.
pub(in super::super) async fn get_tail(
    repository: &Repository,
    key: &Path,
    pack_bytes: u64,
) -> Result<std::result::Result<Bytes, String>> {
    let get = async |bytes: u64| {
        let range = pack_bytes.saturating_sub(bytes)..pack_bytes;
        repository.store().get_range(key, range).await
    };
    let end = get(TAIL_BYTES).await?;
    let tail_bytes = match Trailer::decode(&end, pack_bytes) {
        Ok(trailer) => trailer.tail_bytes() as u64,
        Err(why) => return Ok(Err(why)),
    };
    Ok(Ok(match tail_bytes > end.len() as u64 {
        true => get(tail_bytes).await?,
        false => end,
    }))
}
