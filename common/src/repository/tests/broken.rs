//! Stores that break their promises, above one in memory that keeps them.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    memory::InMemory, path::Path,
};

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vice {
    None,
    /// A put overwrites what is there.
    Overwrites,
    /// A put looks whether something is there, and writes later.
    LooksThenWrites,
    ListsNothing,
    /// A listing breaks off behind 1500 objects.
    BreaksOff,
    /// Like that, and it is not in order.
    BreaksOffOutOfOrder,
    DeletesNothing,
    MayNotPut,
    MayNotGet,
    MayNotList,
    MayNotDelete,
}

#[derive(Debug)]
pub(super) struct Broken {
    pub inner: InMemory,
    vice: Vice,
}

impl Broken {
    pub fn new(vice: Vice) -> Arc<Self> {
        let inner = InMemory::new();
        Arc::new(Self { inner, vice })
    }

    fn refuse(&self, vice: Vice) -> Result<()> {
        if self.vice != vice {
            return Ok(());
        }
        Err(object_store::Error::PermissionDenied {
            path: "a".to_owned(),
            source: format!("status code: 403: <Code>AccessDenied</Code> of {vice:?}").into(),
        })
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "broken")
    }
}

fn break_off(
    listed: BoxStream<'static, Result<ObjectMeta>>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let error = object_store::Error::Generic {
        store: "broken",
        source: "the connection was lost".into(),
    };
    listed.take(1500).chain(stream::iter([Err(error)])).boxed()
}

fn reverse(
    listed: BoxStream<'static, Result<ObjectMeta>>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let reversed = async move {
        let mut all: Vec<_> = listed.collect().await;
        all.reverse();
        stream::iter(all)
    };
    stream::once(reversed).flatten().boxed()
}

#[async_trait]
impl ObjectStore for Broken {
    async fn put_opts(
        &self,
        key: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        self.refuse(Vice::MayNotPut)?;
        match self.vice {
            Vice::Overwrites => options.mode = PutMode::Overwrite,
            Vice::LooksThenWrites => {
                if self.inner.head(key).await.is_err() {
                    options.mode = PutMode::Overwrite;
                }
                tokio::task::yield_now().await;
            }
            _ => {}
        }
        self.inner.put_opts(key, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("nothing of ours is put in parts")
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.refuse(Vice::MayNotGet)?;
        self.inner.get_opts(key, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.refuse(Vice::MayNotDelete) {
            Err(e) => stream::iter([Err(e)]).boxed(),
            Ok(()) if self.vice == Vice::DeletesNothing => keys,
            Ok(()) => self.inner.delete_stream(keys),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        match (self.refuse(Vice::MayNotList), self.vice) {
            (Err(e), _) => stream::iter([Err(e)]).boxed(),
            (_, Vice::ListsNothing) => stream::empty().boxed(),
            (_, Vice::BreaksOff) => break_off(listed),
            (_, Vice::BreaksOffOutOfOrder) => break_off(reverse(listed)),
            _ => listed,
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.refuse(Vice::MayNotList)?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("nothing of ours is copied")
    }
}
