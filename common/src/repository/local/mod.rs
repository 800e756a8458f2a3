//! A `file://` repository: a local directory, or one on a network mount.
//!
//! Everything that touches it runs on [`threads`] of its own, each request as a whole, so that a
//! mount whose server is gone cannot take the process's other threads. What always holds: a put
//! that is acknowledged is durable with every directory that leads to it, whoever made them.

mod directory;
mod durable;
mod listing;
mod threads;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{
    FutureExt, StreamExt, TryStreamExt,
    executor::block_on,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    local::LocalFileSystem, path::Path,
};

use self::{
    directory::{check_no_links, clear, fsync, sync},
    durable::Durable,
    listing::{Listing, object, read_directory},
    threads::Threads,
};
use super::failure::NotAnswering;
use crate::error::Error;

/// More requests than this are not under way at once.
const THREADS_MAX: usize = 64;
const DELETES_AT_ONCE: usize = 16;
const BATCH: usize = 1000;
const NAME: &str = "file";

#[derive(Debug)]
pub(super) struct LocalStore {
    root: PathBuf,
    inner: Arc<LocalFileSystem>,
    threads: Arc<Threads>,
    durable: Arc<Durable>,
}

impl LocalStore {
    /// `create`: the directory is made when it is not there. `patience`: a request that took longer
    /// and was given up hangs.
    pub async fn open(
        root: PathBuf,
        url: String,
        create: bool,
        patience: Duration,
    ) -> crate::error::Result<Self> {
        let threads = Threads::new(THREADS_MAX, patience);
        let directory = root.clone();
        let opened = threads.run(move || directory::open(&directory, &url, create));
        let inner = tokio::time::timeout(patience, opened)
            .await
            .map_err(|_| {
                Error::timeout(format!(
                    "cannot open {}: no answer within {}",
                    root.display(),
                    humantime::format_duration(patience)
                ))
                .hint("Is its file system still there?")
            })?
            .map_err(|e| Error::unavailable(e.0))??;
        Ok(Self {
            root,
            inner: Arc::new(inner),
            threads: Arc::new(threads),
            durable: Arc::default(),
        })
    }

    /// Makes an object durable that is there already, with every directory that leads to it.
    pub async fn sync(&self, key: &Path) -> crate::error::Result<()> {
        let (root, file) = (self.root.clone(), self.root.join(key.as_ref()));
        self.run_ours(move || sync(&root, &file, fsync)).await
    }

    /// An error when a symbolic link lies under a prefix.
    pub async fn check_no_links(&self, prefix: &Path) -> crate::error::Result<()> {
        let directory = self.root.join(prefix.as_ref());
        self.run_ours(move || check_no_links(&directory)).await
    }

    /// Removes a directory with all that a listing does not show of it.
    pub async fn clear(&self, prefix: &Path) -> crate::error::Result<()> {
        let directory = self.root.join(prefix.as_ref());
        self.run_ours(move || clear(&directory)).await
    }

    async fn run_ours<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> crate::error::Result<T> + Send + 'static,
    ) -> crate::error::Result<T> {
        self.threads
            .run(work)
            .await
            .map_err(|e| Error::unavailable(e.0))?
    }

    /// The inner store works on the thread that it is called from, where there is no runtime.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.threads.run(work).await.map_err(not_answering)?
    }

    fn list_after(
        &self,
        prefix: Option<&Path>,
        after: Option<Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (threads, root) = (Arc::clone(&self.threads), self.root.clone());
        let prefix = prefix.cloned().unwrap_or_default();
        let begin = move || Listing::begin(&root, &prefix, after);
        let listing = async move { threads.run(begin).await.map(|l| (threads, l)) };
        let batches = listing.map(|begun| {
            let (threads, listing) = begun.map_err(not_answering)?;
            Ok::<_, object_store::Error>(batches(threads, listing.map_err(generic)?))
        });
        stream::once(batches).try_flatten().boxed()
    }
}

fn batches(
    threads: Arc<Threads>,
    listing: Listing,
) -> impl futures::Stream<Item = Result<ObjectMeta>> {
    stream::try_unfold(Some(listing), move |listing| {
        let threads = Arc::clone(&threads);
        async move {
            let Some(mut listing) = listing else {
                return Ok(None);
            };
            let next = move || listing.next_batch(BATCH).map(|batch| (batch, listing));
            let next = threads.run(next).await.map_err(not_answering)?;
            let (batch, listing) = next.map_err(generic)?;
            let rest = (batch.len() == BATCH).then_some(listing);
            let batch = stream::iter(batch.into_iter().map(Ok));
            Ok::<_, object_store::Error>(Some((batch, rest)))
        }
    })
    .try_flatten()
}

fn not_answering(source: NotAnswering) -> object_store::Error {
    generic(source)
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic {
        store: NAME,
        source: Box::new(source),
    }
}

fn not_implemented(operation: &str) -> object_store::Error {
    object_store::Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: NAME.to_owned(),
    }
}

impl std::fmt::Display for LocalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (inner, key) = (Arc::clone(&self.inner), location.clone());
        let (root, file) = (self.root.clone(), self.root.join(location.as_ref()));
        let durable = Arc::clone(&self.durable);
        self.run(move || {
            let put = block_on(inner.put_opts(&key, payload, options))?;
            if let Some(directory) = file.parent() {
                durable.make(&root, directory, fsync).map_err(generic)?;
            }
            Ok(put)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_implemented("put_multipart"))
    }

    /// The bytes are read when they are asked for, so that the caller can look at the size first.
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (inner, key) = (Arc::clone(&self.inner), location.clone());
        let threads = Arc::clone(&self.threads);
        let mut result = self
            .run(move || block_on(inner.get_opts(&key, options)))
            .await?;
        let opened = GetResult {
            payload: std::mem::replace(
                &mut result.payload,
                GetResultPayload::Stream(stream::empty().boxed()),
            ),
            meta: result.meta.clone(),
            range: result.range.clone(),
            attributes: result.attributes.clone(),
            extensions: Default::default(),
        };
        let read = async move {
            let read = move || block_on(opened.bytes());
            threads.run(read).await.map_err(not_answering)?
        };
        result.payload = GetResultPayload::Stream(stream::once(read).boxed());
        Ok(result)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (inner, threads) = (Arc::clone(&self.inner), Arc::clone(&self.threads));
        let durable = Arc::clone(&self.durable);
        locations
            .map(move |key| {
                let (inner, threads) = (Arc::clone(&inner), Arc::clone(&threads));
                let durable = Arc::clone(&durable);
                async move {
                    let key = key?;
                    let delete = move || {
                        durable.forget();
                        block_on(inner.delete(&key)).map(|()| key)
                    };
                    threads.run(delete).await.map_err(not_answering)?
                }
            })
            .buffered(DELETES_AT_ONCE)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix, Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (root, prefix) = (self.root.clone(), prefix.cloned().unwrap_or_default());
        self.run(move || {
            let mut entries = read_directory(&root, &prefix).map_err(generic)?;
            entries.reverse();
            let (directories, files): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|entry| entry.meta.is_dir());
            Ok(ListResult {
                common_prefixes: directories.into_iter().map(|entry| entry.key).collect(),
                objects: files.iter().map(object).collect(),
                extensions: Default::default(),
            })
        })
        .await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_implemented("copy"))
    }
}
