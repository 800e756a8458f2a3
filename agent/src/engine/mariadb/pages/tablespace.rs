//! The pages of one file, by what the beginning of its tablespace says.

use std::{fmt::Display, ops::Range, path::PathBuf, sync::Arc};

use seawall_common::repository::{FilePages, PagesSeen};

use super::{
    extents::Extents,
    format::{FirstPage, Format},
    page::{Fault, Verdict, judge},
};

/// Servers make files a multiple of this long, even where that cuts off a smaller page that was
/// counted already.
const ROUNDED_BYTES: u64 = 4096;

#[derive(Debug)]
pub(super) struct Tablespace {
    pub format: Format,
    /// Not known when the first page is damaged.
    pub space: Option<u32>,
    /// Number of the page that the file begins with.
    pub first: u64,
    /// End of the pages that belong to the tablespace: what a file holds behind it was never used.
    pub end: Option<u64>,
    /// Whether the tablespace ends in this file.
    pub is_last: bool,
    /// Not known when the first page is damaged: then every page is taken to be in use.
    pub extents: Option<Extents>,
    /// Pages that are copies of others, and without meaning after a clean end.
    pub doublewrite: Vec<Range<u64>>,
    pub bytes: u64,
}

impl Tablespace {
    /// A tablespace of one file, which lies at `path` and begins with `first`; `page_bytes` is the
    /// server's page size.
    pub fn read(path: PathBuf, first: &[u8], bytes: u64, page_bytes: usize) -> Self {
        let known = FirstPage::read(first);
        Self {
            format: known.map_or_else(|| Format::guess(first, page_bytes), |page| page.format),
            space: known.map(|page| page.space),
            first: 0,
            end: known.map(|page| page.pages),
            is_last: true,
            extents: known.map(|page| Extents {
                files: Arc::new([(0, path)]),
                pages: Extents::pages_by(page.server_page_bytes),
                limit: page.limit,
            }),
            doublewrite: Vec::new(),
            bytes,
        }
    }

    fn check_page(&self, number: u64, page: &[u8]) -> Verdict {
        if self.end.is_some_and(|end| number >= end)
            || self.doublewrite.iter().any(|range| range.contains(&number))
        {
            return Verdict::NotChecked;
        }
        let verdict = if page.len() < self.format.page_bytes() {
            Verdict::Damaged(Fault::CutShort)
        } else {
            judge(self.format, page, number as u32, self.space)
        };
        match verdict {
            Verdict::Empty if number == 0 => Verdict::Damaged(Fault::Empty),
            Verdict::Damaged(_) if self.is_free(number) => Verdict::NotChecked,
            verdict => verdict,
        }
    }

    fn is_free(&self, number: u64) -> bool {
        let extents = self.extents.as_ref();
        extents.is_some_and(|extents| extents.is_free(number, self.format, self.space))
    }

    /// The first page that the file should have and has not, not even in part.
    fn missing(&self) -> Option<u64> {
        let page_bytes = self.format.page_bytes() as u64;
        let next = self.first + self.bytes.div_ceil(page_bytes);
        let missing = self.end.unwrap_or(0).saturating_sub(next) * page_bytes;
        (self.is_last && missing >= ROUNDED_BYTES).then_some(next)
    }
}

impl FilePages for Tablespace {
    fn check(
        &self,
        offset: u64,
        chunk: &[u8],
        damaged: &mut dyn FnMut(u64, &dyn Display),
    ) -> PagesSeen {
        let page_bytes = self.format.page_bytes();
        let mut seen = PagesSeen::default();
        let numbers = self.first + offset / page_bytes as u64..;
        for (number, page) in numbers.zip(chunk.chunks(page_bytes)) {
            match self.check_page(number, page) {
                Verdict::Good => seen.checked += 1,
                Verdict::Empty => {}
                Verdict::NotChecked => seen.not_checked += 1,
                Verdict::Damaged(fault) => {
                    seen.checked += 1;
                    damaged(number, &fault);
                }
            }
        }
        if offset == 0
            && let Some(number) = self.missing()
        {
            damaged(number, &Fault::Missing);
        }
        seen
    }
}
