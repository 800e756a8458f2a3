//! A store in memory that remembers every change, and does one request wrong.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, memory::InMemory,
    path::Path as Key,
};

use Fault::{
    FailsOnce, FailsTwice, Hangs, KeepsObject, LosesAnswer, LosesObject, OtherBytes, Refuses,
};

type StoreResult<T> = object_store::Result<T>;

/// A request that changed something, in the order in which the store did it.
#[derive(Clone)]
pub enum Change {
    Put(Key, Bytes),
    Delete(Key),
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Put(key, _) => write!(f, "put {key}"),
            Self::Delete(key) => write!(f, "delete {key}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Not done, and an error.
    FailsOnce,
    FailsTwice,
    /// Not done, and an error for good: nobody tries again.
    Refuses,
    /// Done, and an error.
    LosesAnswer,
    /// No answer, for ever; the next try is answered.
    Hangs,
    /// A put is not done, and said to be.
    LosesObject,
    /// Nothing is deleted, and said to be.
    KeepsObject,
    /// A get is answered with another object, of the same sort where there is one.
    OtherBytes,
}

pub struct Recorder {
    inner: InMemory,
    changes: Mutex<Vec<Change>>,
    /// For each request the faults that it can have.
    requests: Mutex<Vec<&'static [Fault]>>,
    begun: AtomicBool,
    /// What gets were answered with.
    bytes_read: AtomicU64,
    /// Which request goes wrong.
    wrong: usize,
    fault: Fault,
}

impl Recorder {
    pub fn new(wrong: usize, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            changes: Mutex::new(Vec::new()),
            requests: Mutex::new(Vec::new()),
            begun: AtomicBool::new(false),
            bytes_read: AtomicU64::new(0),
            wrong,
            fault,
        })
    }

    /// One that does all as it is told.
    pub fn honest() -> Arc<Self> {
        Self::new(usize::MAX, Fault::None)
    }

    /// The store as it is after these changes, which it remembers as its own.
    pub async fn play_back(changes: &[Change]) -> Arc<Self> {
        let store = Self::honest();
        for change in changes {
            store.do_unasked(change.clone()).await;
        }
        store
    }

    /// A change that is not one of the requests.
    pub async fn do_unasked(&self, change: Change) {
        match &change {
            Change::Put(key, bytes) => {
                let payload = PutPayload::from_bytes(bytes.clone());
                self.inner.put(key, payload).await.unwrap();
            }
            Change::Delete(key) => self.inner.delete(key).await.unwrap(),
        }
        self.note(change);
    }

    /// From here on requests are counted.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
    }

    /// The numbers of those requests that can go wrong in this way.
    pub fn requests(&self, fault: Fault) -> Vec<usize> {
        let requests = lock(&self.requests);
        let possible = |number: &usize| requests[*number].contains(&fault);
        (0..requests.len()).filter(possible).collect()
    }

    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::SeqCst)
    }

    pub fn changes(&self) -> Vec<Change> {
        lock(&self.changes).clone()
    }

    fn note(&self, change: Change) {
        lock(&self.changes).push(change);
    }

    /// What goes wrong with this request, of those faults that it can have.
    fn next(&self, possible: &'static [Fault]) -> Fault {
        if !self.begun.load(Ordering::SeqCst) {
            return Fault::None;
        }
        let mut requests = lock(&self.requests);
        let number = requests.len();
        requests.push(possible);
        let twice = self.fault == FailsTwice && number == self.wrong + 1;
        if (number == self.wrong || twice) && possible.contains(&self.fault) {
            return self.fault;
        }
        Fault::None
    }

    /// Another object: one with the same name elsewhere, otherwise one beside it.
    async fn another(&self, key: &Key) -> Option<Key> {
        let all = self.inner.list(None).map_ok(|meta| meta.location);
        let all: Vec<Key> = all.try_collect().await.ok()?;
        let others = || all.iter().filter(|other| *other != key);
        let folder = |key: &Key| key.parts().take(key.parts().count() - 1).collect::<Key>();
        let namesake = others().find(|other| other.filename() == key.filename());
        let beside = || others().find(|other| folder(other) == folder(key));
        namesake.or_else(beside).cloned()
    }
}

const OF_ANY: [Fault; 5] = [FailsOnce, FailsTwice, Refuses, LosesAnswer, Hangs];
const OF_A_PUT: [Fault; 6] = with(LosesObject);
const OF_A_GET: [Fault; 6] = with(OtherBytes);
const OF_A_DELETE: [Fault; 6] = with(KeepsObject);

const fn with(lie: Fault) -> [Fault; 6] {
    [FailsOnce, FailsTwice, Refuses, LosesAnswer, Hangs, lie]
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed() -> object_store::Error {
    object_store::Error::Generic {
        store: "recorder",
        source: "the connection was lost".into(),
    }
}

fn refused() -> object_store::Error {
    object_store::Error::PermissionDenied {
        path: "recorder".into(),
        source: "access denied".into(),
    }
}

/// Of a request that is not done, or of which only the answer counts.
async fn fail(fault: Fault) -> StoreResult<()> {
    match fault {
        FailsOnce | FailsTwice | LosesAnswer => Err(failed()),
        Refuses => Err(refused()),
        Hangs => std::future::pending().await,
        _ => Ok(()),
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("recorder")
    }
}

impl std::fmt::Display for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("recorder")
    }
}

#[async_trait]
impl ObjectStore for Recorder {
    async fn put_opts(
        &self,
        key: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let fault = self.next(&OF_A_PUT);
        match fault {
            LosesAnswer => {}
            LosesObject => {
                // The answer of a store that has put something.
                return InMemory::new()
                    .put_opts(key, payload, PutOptions::default())
                    .await;
            }
            other => fail(other).await?,
        }
        let bytes: Vec<u8> = payload.iter().flat_map(|piece| piece.to_vec()).collect();
        let done = self.inner.put_opts(key, payload, options).await?;
        self.note(Change::Put(key.clone(), bytes.into()));
        fail(fault).await?;
        Ok(done)
    }

    async fn put_multipart_opts(
        &self,
        _: &Key,
        _: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        unreachable!("nothing of ours is put in parts")
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> StoreResult<GetResult> {
        let fault = match options.head {
            true => self.next(&OF_ANY),
            false => self.next(&OF_A_GET),
        };
        fail(fault).await?;
        if fault == OtherBytes
            && let Some(other) = self.another(key).await
        {
            let mut found = self.inner.get_opts(&other, options).await?;
            found.meta.location = key.clone();
            return Ok(found);
        }
        let is_head = options.head;
        let got = self.inner.get_opts(key, options).await?;
        if !is_head {
            let bytes = got.range.end - got.range.start;
            self.bytes_read.fetch_add(bytes, Ordering::SeqCst);
        }
        Ok(got)
    }

    /// Its keys are known already, so nothing here waits.
    fn delete_stream(
        &self,
        keys: BoxStream<'static, StoreResult<Key>>,
    ) -> BoxStream<'static, StoreResult<Key>> {
        let fault = self.next(&OF_A_DELETE);
        match fault {
            FailsOnce | FailsTwice => {
                return futures::stream::iter([Err(failed())]).boxed();
            }
            Refuses => return futures::stream::iter([Err(refused())]).boxed(),
            Hangs => return futures::stream::pending().boxed(),
            KeepsObject => return keys,
            _ => {}
        }
        let keys = futures::executor::block_on(keys.collect::<Vec<_>>());
        for key in keys.iter().flatten() {
            self.note(Change::Delete(key.clone()));
        }
        let keys = futures::stream::iter(keys).boxed();
        let done = futures::executor::block_on(self.inner.delete_stream(keys).collect::<Vec<_>>());
        match fault {
            LosesAnswer => futures::stream::iter([Err(failed())]).boxed(),
            _ => futures::stream::iter(done).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        match self.next(&OF_ANY) {
            Fault::None => self.inner.list(prefix),
            Hangs => futures::stream::pending().boxed(),
            Refuses => futures::stream::iter([Err(refused())]).boxed(),
            _ => futures::stream::iter([Err(failed())]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> StoreResult<ListResult> {
        fail(self.next(&OF_ANY)).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> StoreResult<()> {
        unreachable!("nothing of ours is copied")
    }
}
