//! What lies in the store: listings, and the deletion of what they show.

use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use futures::{Stream, StreamExt, TryStreamExt};
use object_store::{ObjectMeta, path::Path};

use super::Store;
use crate::{
    error::{Error, ErrorKind, Result},
    repository::failure::convert,
};

/// More objects than this under one prefix are not listed.
const LISTED_MAX: usize = 1 << 22;
/// As many objects are listed in one go, with one time limit; clouds give them in pages of as many.
const PAGE: usize = 1000;
/// As many objects are deleted in one go; no cloud takes more in one request.
const DELETED_AT_ONCE: usize = 256;

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::repository) struct Listed {
    pub key: Path,
    pub bytes: u64,
}

/// What lies directly under a prefix, by its last name.
#[derive(Clone, Debug, Default)]
pub(in crate::repository) struct Folder {
    pub folders: Vec<String>,
    pub objects: Vec<String>,
}

type Stored = Pin<Box<dyn Stream<Item = object_store::Result<ObjectMeta>> + Send>>;

impl Store {
    /// Every object under a prefix, however deep. Each page has its own tries; one that failed is
    /// begun again behind the last object that is known.
    pub async fn list(&self, prefix: &Path) -> Result<Vec<Listed>> {
        let mut listed: Vec<Listed> = Vec::new();
        let mut in_order = true;
        let open: Mutex<Option<Stored>> = Mutex::new(Some(self.inner.list(Some(prefix))));
        loop {
            let after = listed.last().map(|object| &object.key);
            let page = || async {
                #[cfg(feature = "fault-injection")]
                self.faults.before("repository.list", prefix).await?;
                // A stream that failed is never put back.
                let kept = open.lock().unwrap_or_else(PoisonError::into_inner).take();
                let mut stream = match (kept, after) {
                    (Some(stream), _) => stream,
                    (None, None) => self.inner.list(Some(prefix)),
                    (None, Some(after)) if in_order => {
                        self.inner.list_with_offset(Some(prefix), after)
                    }
                    (None, Some(_)) => return Err(out_of_order(prefix)),
                };
                let page = next_page(&mut stream, prefix).await?;
                *open.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
                Ok(page)
            };
            let page = self.retry.run(&format!("list {prefix}"), page).await?;
            let is_last = page.len() < PAGE;
            listed.extend(page);
            in_order = in_order && listed.is_sorted_by(|one, next| one.key < next.key);
            if is_last {
                #[cfg(feature = "fault-injection")]
                self.faults.cut_listing(&mut listed);
                return Ok(listed);
            }
            if listed.len() > LISTED_MAX {
                return Err(Error::exhausted(format!(
                    "more than {LISTED_MAX} objects lie under {prefix}: so many are not listed"
                ))
                .hint("Let backups go that are not needed (docs/retention.md), and look for what else lies there."));
            }
        }
    }

    /// Whether any object lies under a prefix. A directory without one is nothing.
    pub async fn has_any(&self, prefix: &Path) -> Result<bool> {
        let what = format!("list {prefix}");
        let list = || async {
            #[cfg(feature = "fault-injection")]
            self.faults.before("repository.list", prefix).await?;
            let first = self.inner.list(Some(prefix)).try_next().await;
            Ok(first.map_err(|e| convert("list", prefix, &e))?.is_some())
        };
        self.retry.run(&what, list).await
    }

    /// The names directly under a prefix.
    pub async fn folder(&self, prefix: &Path) -> Result<Folder> {
        let what = format!("list {prefix}");
        let list = || async {
            #[cfg(feature = "fault-injection")]
            self.faults.before("repository.list", prefix).await?;
            let listed = self.inner.list_with_delimiter(Some(prefix)).await;
            listed.map_err(|e| convert("list", prefix, &e))
        };
        let result = self.retry.run(&what, list).await?;
        let name = |path: &Path| path.filename().map(str::to_owned);
        let objects = result.objects.iter().map(|meta| &meta.location);
        let folder = Folder {
            folders: result.common_prefixes.iter().filter_map(name).collect(),
            objects: objects.filter_map(name).collect(),
        };
        #[cfg(feature = "fault-injection")]
        let folder = {
            let mut folder = folder;
            self.faults.cut_listing(&mut folder.folders);
            self.faults.cut_listing(&mut folder.objects);
            folder
        };
        Ok(folder)
    }

    /// Deletes objects; those that are not there are no error.
    pub async fn delete(&self, keys: Vec<Path>) -> Result<()> {
        for batch in keys.chunks(DELETED_AT_ONCE) {
            let what = format!("delete {} objects", batch.len());
            let delete = || async {
                #[cfg(feature = "fault-injection")]
                for key in batch {
                    self.faults.before("repository.delete", key).await?;
                }
                let keys = batch.to_vec();
                #[cfg(feature = "fault-injection")]
                let (keys, died) = self.faults.die_deleting(keys);
                let keys = futures::stream::iter(keys).map(Ok).boxed();
                let mut deleted = self.inner.delete_stream(keys);
                // All of them are tried before the first that failed is told.
                let mut failed = None;
                while let Some(one) = deleted.next().await {
                    match one.map_err(|e| convert("delete", &batch[0], &e)) {
                        Err(e) if e.kind() != ErrorKind::NotFound => failed = failed.or(Some(e)),
                        _ => {}
                    }
                }
                #[cfg(feature = "fault-injection")]
                let failed = failed.or(died);
                failed.map_or(Ok(()), Err)
            };
            self.retry.run(&what, delete).await?;
        }
        Ok(())
    }
}

async fn next_page(stream: &mut Stored, prefix: &Path) -> Result<Vec<Listed>> {
    let mut page = Vec::new();
    while page.len() < PAGE {
        let next = stream.try_next().await;
        let Some(meta) = next.map_err(|e| convert("list", prefix, &e))? else {
            break;
        };
        page.push(Listed {
            key: meta.location,
            bytes: meta.size,
        });
    }
    Ok(page)
}

/// What a listing that is not in order has given already cannot be skipped.
fn out_of_order(prefix: &Path) -> Error {
    Error::internal(format!(
        "the listing of {prefix} broke off and cannot be gone on with: the store does not list in the order of keys"
    ))
    .hint("Try again when the store is less busy; behind a gateway that reorders listings, use the store itself.")
}
