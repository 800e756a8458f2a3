//! Compares what the lists name with what the packs hold, and finds the files that cannot be
//! restored. The lists are read part by part, once for every batch of packs.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    outline::{note, object_damage},
    pack::{Examined, Marker, NO_CHUNK},
    readers::Target,
    report::VerifyReport,
};
use crate::{
    error::{Error, Result},
    repository::{
        check::ListChecker,
        chunk,
        list::{Record, Records},
        manifest::{check_totals, decode_header, get_part, open_body},
        object::ObjectKind,
        pack::{IndexedChunk, StoredChunk},
        path,
    },
};

/// Lost files that are remembered, so that none is counted twice.
const LOST_MAX: usize = 1 << 20;

/// For each pack of a batch the marks of its chunks; none: nothing of it can be restored.
type Held = BTreeMap<u32, Vec<u64>>;

pub(super) struct Comparison {
    target: Arc<Target>,
    marker: Marker,
    roots: Vec<String>,
    held: Held,
    is_first: bool,
    lost: HashSet<u64>,
}

impl Comparison {
    /// `None`: the lists cannot be followed, for what is on the way to them is damaged.
    pub fn begin(
        target: &Arc<Target>,
        bad: &BTreeSet<usize>,
        report: &mut VerifyReport,
    ) -> Result<Option<Self>> {
        let outline = &target.outline;
        let Some(marker) = target.marker else {
            return Ok(None);
        };
        let Some(roots) = open_roots(target, report)? else {
            return Ok(None);
        };
        if !outline.parts_are_whole {
            report.cannot_check("which files need what is damaged, for not every part is whole");
            return Ok(None);
        }
        Ok(Some(Self {
            target: Arc::clone(target),
            marker,
            roots,
            held: bad.iter().map(|n| (*n as u32, Vec::new())).collect(),
            is_first: true,
            lost: HashSet::new(),
        }))
    }

    pub fn hold(&mut self, number: usize, examined: Examined) {
        self.held.insert(number as u32, examined.marks);
    }

    /// Reads the lists and compares them with what is held.
    pub async fn compare(&mut self, report: &mut VerifyReport) -> Result<()> {
        let target = Arc::clone(&self.target);
        let outline = &target.outline;
        let packs = outline.packs.clone().into();
        let mut pass = Pass {
            marker: self.marker,
            held: std::mem::take(&mut self.held),
            checker: ListChecker::new(self.roots.len(), packs),
            file: None,
            files: 0,
            lost: Vec::new(),
            stranger: None,
        };
        for part in &outline.header.lists {
            let key = outline.part_key(part.number);
            let session = outline.prefix.session;
            let data_key = target.keys.get(session).cloned();
            let got = get_part(
                &target.repository,
                &outline.header,
                part,
                ObjectKind::List,
                (session, data_key),
            )
            .await;
            let Some(payload) = note(got, &key, report)? else {
                return Ok(());
            };
            let (next, checked) = tokio::task::spawn_blocking(move || pass.part(&payload))
                .await
                .map_err(|e| Error::internal(format!("the thread that reads a list died: {e}")))?;
            pass = next;
            self.collect(&mut pass, report);
            let stranger = pass.stranger.take();
            if let Err(why) = checked.and(stranger.map_or(Ok(()), Err)) {
                report.damaged(object_damage(&key, why));
                return Ok(());
            }
        }
        let totals = pass
            .checker
            .finish()
            .and_then(|seen| check_totals(&outline.header, &seen));
        if let Err(why) = totals
            && self.is_first
        {
            report.damaged(object_damage(&outline.manifest_key(), why));
        }
        self.is_first = false;
        Ok(())
    }

    fn collect(&mut self, pass: &mut Pass, report: &mut VerifyReport) {
        for (file, root, path) in pass.lost.drain(..) {
            let is_new = !self.lost.contains(&file);
            if is_new {
                if self.lost.len() < LOST_MAX {
                    self.lost.insert(file);
                }
                let root = self
                    .roots
                    .get(usize::from(root))
                    .map_or("?", String::as_str);
                report.lost(format!("{root}/{}", path::shown(&path)));
            }
        }
    }
}

/// The names of the backup's roots, from the sealed body.
fn open_roots(target: &Target, report: &mut VerifyReport) -> Result<Option<Vec<String>>> {
    let outline = &target.outline;
    let key = target.keys.get(outline.prefix.session);
    if outline.prefix.encrypted && key.is_none() {
        return Ok(None);
    }
    let header = &outline.header;
    let decoded = decode_header(
        &outline.object,
        target.repository.uuid(),
        &header.shard,
        &header.name,
    );
    let body = match decoded {
        Ok((prefix, _, sealed)) => open_body(&prefix, key, sealed)?,
        Err(why) => Err(why),
    };
    match body {
        Ok(body) => Ok(Some(body.roots.into_iter().map(|root| root.name).collect())),
        Err(why) => {
            report.damaged(object_damage(&outline.manifest_key(), why));
            Ok(None)
        }
    }
}

struct OpenFile {
    root: u16,
    path: Vec<u8>,
    bytes: u64,
    chunks: u64,
    is_lost: bool,
}

/// One reading of all lists.
struct Pass {
    marker: Marker,
    held: Held,
    checker: ListChecker,
    file: Option<OpenFile>,
    files: u64,
    /// Number, root and path.
    lost: Vec<(u64, u16, Vec<u8>)>,
    /// What the lists name although its pack, which is whole, does not hold it.
    stranger: Option<String>,
}

impl Pass {
    fn part(mut self, payload: &Bytes) -> (Self, std::result::Result<(), String>) {
        for record in Records::new(payload) {
            let checked = record.and_then(|record| {
                self.checker.check(&record)?;
                self.record(record);
                Ok(())
            });
            if let Err(why) = checked {
                return (self, Err(why));
            }
        }
        (self, Ok(()))
    }

    fn record(&mut self, record: Record) {
        match record {
            Record::File {
                root, path, bytes, ..
            } => {
                self.files += 1;
                self.file = Some(OpenFile {
                    root,
                    path,
                    bytes,
                    chunks: 0,
                    is_lost: false,
                });
            }
            Record::Zeros { count } => {
                if let Some(file) = &mut self.file {
                    file.chunks += u64::from(count);
                }
            }
            Record::Chunks(chunks) => {
                for chunk in &chunks {
                    self.chunk(chunk);
                }
            }
            Record::EndOfFile { .. } => self.file = None,
            Record::Directory { .. } | Record::Link { .. } => {}
        }
    }

    fn chunk(&mut self, stored: &StoredChunk) {
        let Some(file) = &mut self.file else { return };
        let plain_bytes = chunk::length(file.bytes, file.chunks);
        file.chunks += 1;
        let Some(marks) = self.held.get(&stored.pack) else {
            return;
        };
        let expected = self.marker.mark(&IndexedChunk {
            id: stored.id,
            offset: stored.offset,
            stored_bytes: stored.stored_bytes,
            plain_bytes: plain_bytes as u32,
            encoding: stored.encoding,
        });
        let found = marks.get(stored.place as usize).copied();
        if found == Some(expected) {
            return;
        }
        if !file.is_lost {
            file.is_lost = true;
            self.lost.push((self.files, file.root, file.path.clone()));
        }
        if !marks.is_empty() && found != Some(NO_CHUNK) {
            self.stranger.get_or_insert_with(|| {
                format!(
                    "names a chunk of {} that its pack does not hold",
                    path::shown(&file.path)
                )
            });
        }
    }
}
