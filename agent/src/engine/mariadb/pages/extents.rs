//! Which pages of a tablespace are in use. A server writes pages that it has freed no more, and does
//! not recover them after a crash: what such a page holds says nothing.
//!
//! Looked up only for pages that seem damaged, in the file itself: it does not change meanwhile.

use std::{fs::File, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use super::{
    format::Format,
    page::{Verdict, judge},
};

/// Where a page that describes extents begins to: behind the header that only the first one uses.
const DESCRIPTORS_AT: usize = 150;
/// Of a descriptor, before its two bits for each page; the lower one says that the page is free.
const BITS_AT: usize = 24;

#[derive(Clone, Debug)]
pub(super) struct Extents {
    /// Of the tablespace, in their order: the number of the first page, and the file.
    pub files: Arc<[(u64, PathBuf)]>,
    /// Pages in an extent.
    pub pages: u64,
    /// From here on no page was ever used.
    pub limit: u64,
}

impl Extents {
    /// The number of pages in an extent, by the server's page size.
    pub fn pages_by(page_bytes: usize) -> u64 {
        ((1 << 20) / page_bytes).max(64) as u64
    }

    /// Whether the tablespace says for certain that it does not use this page.
    pub fn is_free(&self, number: u64, format: Format, space: Option<u32>) -> bool {
        if number >= self.limit {
            return true;
        }
        // Such a page stands at the beginning of what it describes: as many pages as it has bytes.
        let described = format.page_bytes() as u64;
        let at = number - number % described;
        let Some(page) = self.read(at, format) else {
            return false;
        };
        if !matches!(judge(format, &page, at as u32, space), Verdict::Good) {
            return false;
        }
        let descriptor_bytes = BITS_AT + self.pages as usize / 4;
        let descriptor = (number % described / self.pages) as usize * descriptor_bytes;
        let bit = 2 * (number % self.pages) as usize;
        let byte = page.get(DESCRIPTORS_AT + descriptor + BITS_AT + bit / 8);
        byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }

    fn read(&self, number: u64, format: Format) -> Option<Vec<u8>> {
        let (first, path) = self.files.iter().rfind(|(first, _)| *first <= number)?;
        let mut page = vec![0; format.page_bytes()];
        let offset = (number - first) * page.len() as u64;
        // One that cannot be read is read by the copy as well, which then says so.
        File::open(path)
            .ok()?
            .read_exact_at(&mut page, offset)
            .ok()?;
        Some(page)
    }
}
