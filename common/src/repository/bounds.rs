//! `coordinator/bounds/`: up to where timestamps may have been given out.
//!
//! A group writes a bound before it gives out a value below it that no earlier bound covers. So whoever
//! begins anew, with nothing but the repository, begins above the highest of them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{header::Repository, layout};
use crate::{
    clock,
    error::{Error, Result},
};

/// What stands in the object. Its key alone counts.
#[derive(Debug, Serialize, Deserialize)]
struct Bound {
    bound: u64,
    group_id: String,
    recorded_unix_ms: u64,
}

impl Repository {
    /// Notes for the group that timestamps up to `bound` may be given out. The group must own the
    /// repository, also after the note was put: whoever takes the repository over reads the bounds
    /// afterwards, so that a note is either seen there or does not count here.
    pub async fn put_bound(&self, group_id: &str, bound: u64) -> Result<()> {
        self.claim(group_id, false).await?;
        let record = Bound {
            bound,
            group_id: group_id.to_owned(),
            recorded_unix_ms: clock::now_unix_ms(),
        };
        let bytes = serde_json::to_vec(&record)
            .map_err(|e| Error::internal(format!("cannot write a bound: {e}")))?;
        // Whoever wrote one that is there already: it says the same.
        self.store()
            .put_if_absent(&layout::bound(bound), Bytes::from(bytes))
            .await?;
        self.check_owner(group_id).await
    }

    /// Up to where any group may have given timestamps out; 0: none was ever noted.
    pub async fn highest_bound(&self) -> Result<u64> {
        let names = self.store().folder(&layout::bounds()).await?.objects;
        self.check_there().await?;
        let bounds = names.iter().filter_map(|name| layout::number(name, 20));
        Ok(bounds.max().unwrap_or(0))
    }
}
