//! Reads packs, some at once, and gathers what was found in them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use tokio::task::JoinSet;

use super::{
    keys::Keys,
    outline::Outline,
    pack::{self, Examined, Marker},
};
use crate::{
    error::{Error, Result},
    repository::{header::Repository, manifest::PackRecord, progress::Progress},
};

/// When marks of this many chunks are held, no more packs are read before the lists were compared.
const MARKS_MAX: usize = 1 << 21;

/// What is verified.
pub(super) struct Target {
    pub repository: Repository,
    pub outline: Outline,
    pub keys: Keys,
    /// `None`: chunks are not opened.
    pub marker: Option<Marker>,
    /// Numbers of packs that are known to be whole: of those at most the index is read.
    pub whole: BTreeSet<usize>,
}

impl Target {
    /// Whether the chunks of a pack are opened.
    pub fn opens(&self, pack: &PackRecord) -> bool {
        let has_key = !pack.origin.encrypted || self.keys.get(pack.origin.session).is_some();
        self.marker.is_some() && has_key
    }
}

pub(super) struct Readers {
    pub target: Arc<Target>,
    /// Numbers of packs that are still to be read.
    pub waiting: VecDeque<usize>,
    pub concurrency: usize,
    pub progress: Progress,
}

impl Readers {
    /// Reads what waits, as far as the marks of its chunks can be held.
    pub async fn read_some(&mut self) -> Result<BTreeMap<usize, Examined>> {
        let mut reading = JoinSet::new();
        let mut found = BTreeMap::new();
        let mut marks = 0;
        loop {
            while reading.len() < self.concurrency
                && marks < MARKS_MAX
                && let Some(number) = self.waiting.pop_front()
            {
                reading.spawn(read_one(Arc::clone(&self.target), number));
            }
            let Some(ended) = reading.join_next().await else {
                return Ok(found);
            };
            let (number, examined) =
                ended.map_err(|e| Error::internal(format!("a task of verify died: {e}")))??;
            marks += examined.marks.len();
            if !self.target.whole.contains(&number) {
                let bytes = self.target.outline.packs[number].bytes;
                self.progress.add_bytes(u64::from(bytes));
            }
            found.insert(number, examined);
        }
    }
}

async fn read_one(target: Arc<Target>, number: usize) -> Result<(usize, Examined)> {
    let pack = &target.outline.packs[number];
    let key = target.outline.pack_key(pack);
    let read = match target.whole.contains(&number) {
        true if !target.opens(pack) => return Ok((number, Examined::default())),
        true => pack::read_end(&target.repository, &key, pack).await?,
        false => pack::read(&target.repository, &key, pack).await?,
    };
    let object = match read {
        Ok(object) => object,
        Err(what) => {
            let examined = Examined {
                damage: Some(what),
                ..Examined::default()
            };
            return Ok((number, examined));
        }
    };
    let examine = move || {
        let pack = &target.outline.packs[number];
        let key = target.keys.get(pack.origin.session);
        let contents = target.marker.as_ref().filter(|_| target.opens(pack));
        match (contents, target.whole.contains(&number)) {
            (Some(marker), true) => {
                pack::examine_end(&object, pack, target.repository.uuid(), marker, key)
            }
            (contents, _) => {
                let contents = contents.map(|marker| (marker, key));
                pack::examine(object, pack, target.repository.uuid(), contents)
            }
        }
    };
    let examined = tokio::task::spawn_blocking(examine)
        .await
        .map_err(|e| Error::internal(format!("the thread that examines a pack died: {e}")))??;
    Ok((number, examined))
}
