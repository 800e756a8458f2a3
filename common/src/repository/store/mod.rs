//! The object store as the repository uses it: create-only puts, bounded gets, listings, deletes;
//! each tried again within a bound. Nothing is ever overwritten.

mod listing;

pub(super) use listing::Listed;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, path::Path};

use super::{
    cloud,
    config::RepositoryConfig,
    failure::convert,
    local::LocalStore,
    location::Location,
    retry::Retry,
    throttle::{Direction, Throttle},
};
use crate::error::{Error, ErrorKind, Result};

/// How often a put is begun again when the store says "exists" and then finds nothing.
const READ_BACK_TRIES: usize = 3;

#[derive(Debug)]
pub(super) struct Store {
    inner: Arc<dyn ObjectStore>,
    /// The same one, when it is a directory: there is more to do then.
    local: Option<Arc<LocalStore>>,
    retry: Retry,
    throttle: Throttle,
    #[cfg(feature = "fault-injection")]
    pub faults: super::faults::Faults,
}

impl Store {
    /// `create`: a directory is made when it is not there; a bucket never is.
    pub async fn open(config: &RepositoryConfig, create: bool) -> Result<Self> {
        let retry = Retry {
            request_timeout: config.request_timeout()?,
            retry_limit: config.retry_limit()?,
        };
        let (inner, local): (Arc<dyn ObjectStore>, _) = match Location::parse(&config.url)? {
            Location::Directory(root) => {
                let patience = retry.request_timeout;
                let url = config.url.clone();
                let local = Arc::new(LocalStore::open(root, url, create, patience).await?);
                (Arc::clone(&local) as _, Some(local))
            }
            Location::Bucket {
                cloud,
                bucket,
                prefix,
            } => (cloud::open(config, cloud, &bucket, &prefix).await?, None),
            #[cfg(feature = "fault-injection")]
            Location::Memory(name) => (super::memory::open(&name), None),
        };
        Ok(Self {
            inner,
            local,
            retry,
            throttle: Throttle::new(),
            #[cfg(feature = "fault-injection")]
            faults: super::faults::Faults::default(),
        })
    }

    /// One above any store, with little patience.
    #[cfg(test)]
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        let second = std::time::Duration::from_secs(1);
        Self {
            inner,
            local: None,
            retry: Retry {
                request_timeout: second,
                retry_limit: second,
            },
            throttle: Throttle::new(),
            #[cfg(feature = "fault-injection")]
            faults: super::faults::Faults::default(),
        }
    }

    /// With more patience, and soon asking again.
    #[cfg(test)]
    pub fn patient(mut self) -> Self {
        self.retry = Retry {
            request_timeout: std::time::Duration::from_millis(250),
            retry_limit: std::time::Duration::from_secs(20),
        };
        self
    }

    pub fn request_timeout(&self) -> std::time::Duration {
        self.retry.request_timeout
    }

    /// What limits [`Self::put_data`] and [`Self::get_data_range`], and nothing else.
    pub fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// [`Self::put_create`] of data, when the throttle lets it through. Waiting for that is in no
    /// request's time limit; what is sent again is not counted again.
    pub async fn put_data(&self, key: &Path, bytes: Bytes) -> Result<()> {
        // Called off, it may have been done all the same: what is there then is the same.
        let put = || self.put_create(key, bytes.clone());
        let count = bytes.len() as u64;
        self.throttle.run(Direction::ToRepository, count, put).await
    }

    /// [`Self::get_range`] of data, when the throttle lets it through, as in [`Self::put_data`].
    pub async fn get_data_range(&self, key: &Path, range: Range<u64>) -> Result<Bytes> {
        let get = || self.get_range(key, range.clone());
        let count = range.end - range.start;
        self.throttle
            .run(Direction::FromRepository, count, get)
            .await
    }

    /// Puts an object that must not be there yet. The same bytes already there: success, for then
    /// it was this put (or its twin) and only the answer was lost. Others: [`ErrorKind::Conflict`].
    pub async fn put_create(&self, key: &Path, bytes: Bytes) -> Result<()> {
        let bytes_max = bytes.len() as u64;
        for _ in 0..READ_BACK_TRIES {
            if self.try_put(key, bytes.clone()).await? {
                match self.is_kept(key, bytes_max).await? {
                    true => return Ok(()),
                    false => continue,
                }
            }
            let retry = self.retry.with_data(bytes_max);
            match self.get_within(key, bytes_max, retry).await {
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
        Err(lost(key))
    }

    /// Whether the object was put; `false`: something lies there already, and lasts.
    pub async fn put_if_absent(&self, key: &Path, bytes: Bytes) -> Result<bool> {
        for _ in 0..READ_BACK_TRIES {
            if self.try_put(key, bytes.clone()).await? {
                match self.is_kept(key, bytes.len() as u64).await? {
                    true => return Ok(true),
                    false => continue,
                }
            }
            match self.sync(key).await {
                Ok(()) => return Ok(false),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Err(lost(key))
    }

    /// Makes durable what somebody else has put in a directory and may never have synced. What a
    /// bucket shows lasts.
    pub async fn make_durable(&self, key: &Path) -> Result<()> {
        match &self.local {
            Some(_) => self.sync(key).await,
            None => Ok(()),
        }
    }

    /// Makes durable what is there already: it may have been put by a try of ours that failed only
    /// when it synced the directory. Not tried again, for a second fsync may hide what the first
    /// one met. What a bucket shows lasts.
    async fn sync(&self, key: &Path) -> Result<()> {
        #[cfg(feature = "fault-injection")]
        self.faults.before("repository.sync", key).await?;
        let Some(local) = &self.local else {
            return match self.exists(key).await? {
                true => Ok(()),
                false => Err(Error::not_found(format!("there is no object {key}"))),
            };
        };
        let limit = self.retry.retry_limit;
        tokio::time::timeout(limit, local.sync(key))
            .await
            .map_err(|_| {
                Error::timeout(format!(
                    "cannot sync object {key}: no answer within {}",
                    humantime::format_duration(limit)
                ))
            })?
    }

    /// One put and no other try: the answer is the store's own.
    pub async fn create_once(&self, key: &Path, bytes: Bytes) -> Result<bool> {
        let limit = self.retry.request_timeout;
        let options = PutOptions::from(PutMode::Create);
        let put = self
            .inner
            .put_opts(key, PutPayload::from_bytes(bytes), options);
        let answer = tokio::time::timeout(limit, put).await.map_err(|_| {
            let limit = humantime::format_duration(limit);
            Error::timeout(format!("cannot put {key}: no answer within {limit}"))
        })?;
        match answer.map_err(|e| convert("put", key, &e)) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::Conflict => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether the object was put; `false`: something lies there already, which may not be durable.
    async fn try_put(&self, key: &Path, bytes: Bytes) -> Result<bool> {
        let what = format!("put {key}");
        let put = || async {
            #[cfg(feature = "fault-injection")]
            self.faults.before("repository.put", key).await?;
            #[cfg(feature = "fault-injection")]
            if self.faults.lies("repository.put", "lose-object") {
                return Ok(());
            }
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
        let retry = self.retry.with_data(bytes.len() as u64);
        match retry.run(&what, put).await {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::Conflict => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// A whole object, which is damaged when it is larger than `bytes_max`.
    pub async fn get(&self, key: &Path, bytes_max: u64) -> Result<Bytes> {
        self.get_within(key, bytes_max, self.retry).await
    }

    async fn get_within(&self, key: &Path, bytes_max: u64, retry: Retry) -> Result<Bytes> {
        let what = format!("get {key}");
        let get = || async {
            #[cfg(feature = "fault-injection")]
            self.faults.before("repository.get", key).await?;
            #[cfg(feature = "fault-injection")]
            let key = &self.exchanged(key).await;
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
        retry.run(&what, get).await
    }

    /// Some bytes of an object, which is damaged when it ends before them.
    pub async fn get_range(&self, key: &Path, range: Range<u64>) -> Result<Bytes> {
        let what = format!("get {key}");
        let get = || async {
            #[cfg(feature = "fault-injection")]
            self.faults.before("repository.get", key).await?;
            #[cfg(feature = "fault-injection")]
            let key = &self.exchanged(key).await;
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
        let retry = self.retry.with_data(range.end - range.start);
        retry.run(&what, get).await
    }

    /// The object that a store which exchanges them takes for this one.
    #[cfg(feature = "fault-injection")]
    async fn exchanged(&self, key: &Path) -> Path {
        use futures::TryStreamExt;
        let parent: Path = key.parts().take(key.parts().count() - 1).collect();
        if !self.faults.lies("repository.get", "exchange") || parent.as_ref().is_empty() {
            return key.clone();
        }
        let listed = self.inner.list(Some(&parent));
        let others = listed.map_ok(|meta| meta.location);
        let others: Vec<Path> = others.try_collect().await.unwrap_or_default();
        let other = others.into_iter().find(|other| other != key);
        other.unwrap_or_else(|| key.clone())
    }

    pub async fn exists(&self, key: &Path) -> Result<bool> {
        Ok(self.size(key).await?.is_some())
    }

    /// Bytes of an object; `None`: it is not there.
    async fn size(&self, key: &Path) -> Result<Option<u64>> {
        let what = format!("look for {key}");
        let head = || async {
            #[cfg(feature = "fault-injection")]
            self.faults.before("repository.look", key).await?;
            match self.inner.head(key).await {
                Ok(meta) => Ok(Some(meta.size)),
                Err(e) => match convert("look for", key, &e) {
                    e if e.kind() == ErrorKind::NotFound => Ok(None),
                    e => Err(e),
                },
            }
        };
        self.retry.run(&what, head).await
    }

    /// Whether the store has what it said that it took. One that lost it is asked again.
    async fn is_kept(&self, key: &Path, bytes: u64) -> Result<bool> {
        match self.size(key).await? {
            Some(there) if there == bytes => Ok(true),
            Some(there) => Err(Error::corrupt(format!(
                "object {key} has {there} bytes in the store, {bytes} were put"
            ))),
            None => Ok(false),
        }
    }

    /// An error when a symbolic link lies under a prefix: none of ours, and what is deleted through
    /// it would lie outside. A bucket has no links.
    pub async fn check_no_links(&self, prefix: &Path) -> Result<()> {
        match &self.local {
            Some(local) => local.check_no_links(prefix).await,
            None => Ok(()),
        }
    }

    /// Removes what killed writers left in a local directory: half-written files, which no listing
    /// shows, and directories without files. Only for prefixes that nobody writes to any more. In a
    /// bucket an object is there as a whole or not at all.
    pub async fn clear_leftovers(&self, prefix: &Path) -> Result<()> {
        match &self.local {
            Some(local) => local.clear(prefix).await,
            None => Ok(()),
        }
    }
}

fn lost(key: &Path) -> Error {
    Error::unavailable(format!("object {key} is said to exist and cannot be found"))
}
