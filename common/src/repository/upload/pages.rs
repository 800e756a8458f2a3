//! The engine's look at the pages of a file on their way, and what it found.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::feed::SourceFile;
use crate::{
    error::{Error, Result},
    repository::{
        manifest::{DAMAGED_PAGES_MAX, DamagedPage},
        page_check::{FIRST_BYTES, FilePages, PageCheck, PageFile, PagesSeen},
        path,
    },
};

/// Characters that are noted of a path and of what is wrong: a manifest is bounded.
const PATH_CHARS_MAX: usize = 512;
const WHAT_CHARS_MAX: usize = 200;

/// What was found damaged in the source.
#[derive(Debug, Default)]
pub(super) struct Damage {
    check: Option<Arc<dyn PageCheck>>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    pages: u64,
    first: Vec<DamagedPage>,
    seen: PagesSeen,
}

impl Damage {
    pub fn new(check: Option<Arc<dyn PageCheck>>) -> Self {
        Self {
            check,
            found: Mutex::default(),
        }
    }

    /// The check of a file, made when the first of its chunks is read.
    pub fn pages_of<'a>(
        &self,
        source: &'a SourceFile,
        file: &File,
    ) -> Result<Option<&'a dyn FilePages>> {
        if source.pages.get().is_none() {
            let opened = self.open(source, file)?;
            // Another worker may have been faster: its check is the same.
            let _ = source.pages.set(opened);
        }
        Ok(source.pages.get().and_then(Option::as_deref))
    }

    fn open(&self, source: &SourceFile, file: &File) -> Result<Option<Box<dyn FilePages>>> {
        let Some(check) = &self.check else {
            return Ok(None);
        };
        if !check.concerns(&source.root, &source.relative) {
            return Ok(None);
        }
        let bytes = source.meta.len();
        let length = usize::try_from(bytes).map_or(FIRST_BYTES, |bytes| bytes.min(FIRST_BYTES));
        let mut first = vec![0; length];
        file.read_exact_at(&mut first, 0)
            .map_err(|e| Error::io("read", &source.path, &e))?;
        Ok(check.open(&PageFile {
            root: &source.root,
            path: &source.relative,
            bytes,
            first: &first,
        }))
    }

    /// Has a chunk looked at.
    pub fn look(&self, source: &SourceFile, pages: &dyn FilePages, offset: u64, chunk: &[u8]) {
        let seen = pages.check(offset, chunk, &mut |page, what| {
            let mut found = self.found();
            found.pages += 1;
            if found.first.len() < DAMAGED_PAGES_MAX {
                tracing::warn!(
                    "page {page} of {} is damaged: {what}",
                    source.path.display()
                );
                let path = path::shown(&source.relative);
                found.first.push(DamagedPage {
                    root: source.root.to_string(),
                    path: path.chars().take(PATH_CHARS_MAX).collect(),
                    page,
                    what: what.to_string().chars().take(WHAT_CHARS_MAX).collect(),
                });
            }
        });
        self.found().seen += seen;
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many pages were looked at.
    pub fn seen(&self) -> PagesSeen {
        self.found().seen
    }

    /// How many pages are damaged, and the first of them in order.
    pub fn result(&self) -> (u64, Vec<DamagedPage>) {
        let mut found = self.found();
        let key = |page: &DamagedPage| (page.root.clone(), page.path.clone(), page.page);
        found.first.sort_by_key(key);
        (found.pages, found.first.clone())
    }
}
