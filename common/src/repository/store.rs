//! The object store as the repository uses it: create-only puts, bounded gets, listings, deletes;
//! each tried again within a bound. Nothing is ever overwritten.

use std::{ops::Range, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, path::Path};

use super::{config::RepositoryConfig, failure::convert, local, retry::Retry, throttle::Throttle};
use crate::error::{Error, ErrorKind, Result};

/// More objects than this under one prefix are not listed.
const LISTED_MAX: usize = 1 << 22;
/// How often a put is begun again when the store says "exists" and then finds nothing.
const READ_BACK_TRIES: usize = 3;
/// Deletes in flight at once.
const DELETES_AT_ONCE: usize = 16;

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub key: Path,
    pub bytes: u64,
}

/// What lies directly under a prefix, by its last name.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    pub folders: Vec<String>,
    pub objects: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Store {
    inner: Arc<dyn ObjectStore>,
    directory: PathBuf,
    retry: Retry,
    throttle: Throttle,
    #[cfg(feature = "fault-injection")]
    pub faults: super::faults::Faults,
}

impl Store {
    /// `create`: the directory is made when it is not there.
    pub async fn open(config: &RepositoryConfig, create: bool) -> Result<Self> {
        let directory = config.directory()?;
        let retry = Retry {
            request_timeout: config.request_timeout()?,
            retry_limit: config.retry_limit()?,
        };
        let url = config.url.clone();
        let root = directory.clone();
        let local = tokio::task::spawn_blocking(move || local::open(&root, &url, create))
            .await
            .map_err(|e| Error::internal(format!("the thread that opens the store died: {e}")))??;
        Ok(Self {
            inner: Arc::new(local),
            directory,
            retry,
            throttle: Throttle::new(),
            #[cfg(feature = "fault-injection")]
            faults: super::faults::Faults::default(),
        })
    }

    /// What limits [`Self::put_data`] and [`Self::get_data_range`], and nothing else.
    pub fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// [`Self::put_create`] of data, when the throttle lets it through. Waiting for that is in no
    /// request's time limit; what is sent again is not counted again.
    pub async fn put_data(&self, key: &Path, bytes: Bytes) -> Result<()> {
        let count = bytes.len() as u64;
        self.throttle.take(count).await?;
        self.put_create(key, bytes).await?;
        self.throttle.count(count);
        Ok(())
    }

    /// [`Self::get_range`] of data, when the throttle lets it through, as in [`Self::put_data`].
    pub async fn get_data_range(&self, key: &Path, range: Range<u64>) -> Result<Bytes> {
        self.throttle.take(range.end - range.start).await?;
        let bytes = self.get_range(key, range).await?;
        self.throttle.count(bytes.len() as u64);
        Ok(bytes)
    }

    /// Puts an object that must not be there yet. The same bytes already there: success, for then
    /// it was this put (or its twin) and only the answer was lost. Others: [`ErrorKind::Conflict`].
    pub async fn put_create(&self, key: &Path, bytes: Bytes) -> Result<()> {
        let bytes_max = bytes.len() as u64;
        for _ in 0..READ_BACK_TRIES {
            if self.try_put(key, bytes.clone()).await? {
                return Ok(());
            }
            match self.get(key, bytes_max).await {
                Ok(there) if there == bytes => match self.sync(key).await {
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    other => return other,
                },
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) if e.kind() != ErrorKind::Corrupt => return Err(e),
                _ => {
                    return Err(Error::conflict(format!(
                        "object {key} exists already, with another content"
                    )));
                }
            }
        }
        Err(Error::unavailable(format!(
            "object {key} is said to exist and cannot be found"
        )))
    }

    /// Whether the object was put; `false`: something lies there already, and lasts.
    pub async fn put_if_absent(&self, key: &Path, bytes: Bytes) -> Result<bool> {
        if self.try_put(key, bytes).await? {
            return Ok(true);
        }
        match self.sync(key).await {
            Ok(()) => Ok(false),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::unavailable(format!(
                "object {key} is said to exist and cannot be found"
            ))),
            Err(e) => Err(e),
        }
    }

    /// Makes durable what is there already: it may have been put by a try of ours that failed only
    /// when it synced the directory. Not tried again, for a second fsync may hide what the first
    /// one met.
    async fn sync(&self, key: &Path) -> Result<()> {
        #[cfg(feature = "fault-injection")]
        self.faults.before("repository.sync", key).await?;
        let (root, file) = (self.directory.clone(), self.directory.join(key.as_ref()));
        let sync = tokio::task::spawn_blocking(move || local::sync(&root, &file, local::fsync));
        let limit = self.retry.retry_limit;
        tokio::time::timeout(limit, sync)
            .await
            .map_err(|_| {
                Error::timeout(format!(
                    "cannot sync object {key}: no answer within {}",
                    humantime::format_duration(limit)
                ))
            })?
            .map_err(|e| Error::internal(format!("the thread that syncs {key} died: {e}")))?
    }

    /// Whether the object was put; `false`: something lies there already, which may not be durable.
    async fn try_put(&self, key: &Path, bytes: Bytes) -> Result<bool> {
        let what = format!("put {key}");
        let put = || async {
            #[cfg(feature = "fault-injection")]
            self.faults.before("repository.put", key).await?;
            let options = PutOptions::from(PutMode::Create);
            let payload = PutPayload::from_bytes(bytes.clone());
            self.inner
                .put_opts(key, payload, options)
                .await
                .map_err(|e| convert("put", key, &e))?;
            #[cfg(feature = "fault-injection")]
            self.faults.after("repository.put", key)?;
            Ok(())
        };
        match self.retry.run(&what, put).await {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::Conflict => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// A whole object, which is damaged when it is larger than `bytes_max`.
    pub async fn get(&self, key: &Path, bytes_max: u64) -> Result<Bytes> {
        let what = format!("get {key}");
        let get = || async {
            #[cfg(feature = "fault-injection")]
            self.faults.before("repository.get", key).await?;
            let result = self
                .inner
                .get(key)
                .await
                .map_err(|e| convert("get", key, &e))?;
            if result.meta.size > bytes_max {
                return Err(Error::corrupt(format!(
                    "object {key} has {} bytes where at most {bytes_max} are allowed",
                    result.meta.size
                )));
            }
            result.bytes().await.map_err(|e| convert("get", key, &e))
        };
        self.retry.run(&what, get).await
    }

    /// Some bytes of an object, which is damaged when it ends before them.
    pub async fn get_range(&self, key: &Path, range: Range<u64>) -> Result<Bytes> {
        let what = format!("get {key}");
        let get = || async {
            #[cfg(feature = "fault-injection")]
            self.faults.before("repository.get", key).await?;
            let wanted = range.end - range.start;
            let short = |bytes: u64| {
                Error::corrupt(format!(
                    "object {key} is cut short: it has {bytes} bytes, {} are needed",
                    range.end
                ))
            };
            match self.inner.get_range(key, range.clone()).await {
                Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
                Ok(bytes) => Err(short(range.start + bytes.len() as u64)),
                Err(e) => {
                    let error = convert("get", key, &e);
                    // A store may say "out of range" in its own words: the size tells.
                    if error.is_retryable()
                        && let Ok(meta) = self.inner.head(key).await
                        && meta.size < range.end
                    {
                        return Err(short(meta.size));
                    }
                    Err(error)
                }
            }
        };
        self.retry.run(&what, get).await
    }

    pub async fn exists(&self, key: &Path) -> Result<bool> {
        let what = format!("look for {key}");
        let head = || async {
            match self.inner.head(key).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(e) => Err(convert("look for", key, &e)),
            }
        };
        self.retry.run(&what, head).await
    }

    /// Every object under a prefix, however deep.
    pub async fn list(&self, prefix: &Path) -> Result<Vec<Listed>> {
        let what = format!("list {prefix}");
        let list = || async {
            let mut listed = Vec::new();
            let mut stream = self.inner.list(Some(prefix));
            while let Some(meta) = stream
                .try_next()
                .await
                .map_err(|e| convert("list", prefix, &e))?
            {
                if listed.len() == LISTED_MAX {
                    return Err(Error::exhausted(format!(
                        "more than {LISTED_MAX} objects lie under {prefix}"
                    )));
                }
                listed.push(Listed {
                    key: meta.location,
                    bytes: meta.size,
                });
            }
            Ok(listed)
        };
        self.retry.run(&what, list).await
    }

    /// Whether any object lies under a prefix. A directory without one is nothing.
    pub async fn has_any(&self, prefix: &Path) -> Result<bool> {
        let what = format!("list {prefix}");
        let list = || async {
            let first = self
                .inner
                .list(Some(prefix))
                .try_next()
                .await
                .map_err(|e| convert("list", prefix, &e))?;
            Ok(first.is_some())
        };
        self.retry.run(&what, list).await
    }

    /// The names directly under a prefix.
    pub async fn folder(&self, prefix: &Path) -> Result<Folder> {
        let what = format!("list {prefix}");
        let list = || async {
            match self.inner.list_with_delimiter(Some(prefix)).await {
                Ok(result) => Ok(Some(result)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(convert("list", prefix, &e)),
            }
        };
        let Some(result) = self.retry.run(&what, list).await? else {
            return Ok(Folder::default());
        };
        let name = |path: &Path| path.filename().map(str::to_owned);
        Ok(Folder {
            folders: result.common_prefixes.iter().filter_map(name).collect(),
            objects: result
                .objects
                .iter()
                .filter_map(|meta| name(&meta.location))
                .collect(),
        })
    }

    /// Deletes objects; those that are not there are no error.
    pub async fn delete(&self, keys: Vec<Path>) -> Result<()> {
        use futures::StreamExt;
        futures::stream::iter(keys)
            .map(|key| async move {
                let what = format!("delete {key}");
                let delete = || async {
                    match self.inner.delete(&key).await {
                        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                        Err(e) => Err(convert("delete", &key, &e)),
                    }
                };
                self.retry.run(&what, delete).await
            })
            .buffer_unordered(DELETES_AT_ONCE)
            .try_collect()
            .await
    }

    /// An error when a symbolic link lies under a prefix: none of ours, and what is deleted through
    /// it would lie outside.
    pub async fn check_no_links(&self, prefix: &Path) -> Result<()> {
        let directory = self.directory.join(prefix.as_ref());
        tokio::task::spawn_blocking(move || local::check_no_links(&directory))
            .await
            .map_err(|e| Error::internal(format!("the thread that looks at {prefix} died: {e}")))?
    }

    /// Removes what killed writers left in a local directory: half-written files, which no listing
    /// shows, and directories without files. Only for prefixes that nobody writes to any more.
    pub async fn clear_leftovers(&self, prefix: &Path) -> Result<()> {
        let directory = self.directory.join(prefix.as_ref());
        tokio::task::spawn_blocking(move || local::clear(&directory))
            .await
            .map_err(|e| Error::internal(format!("the thread that clears {prefix} died: {e}")))?
    }
}
