//! Data files in memory: shown to a check as the pipeline would, and damaged.

use std::{ops::Range, sync::Arc};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use seawall_common::repository::{FIRST_BYTES, FilePages, PageCheck, PageFile, PagesSeen};

const CHUNK_BYTES: usize = 1 << 20;
/// At most so many pages of one file are damaged.
const FLIPS: usize = 12;

#[derive(Clone, Debug)]
pub struct DataFile {
    /// Relative to the data directory.
    pub name: String,
    pub bytes: Arc<Vec<u8>>,
    /// Its pages: their size, whether their layout is `full_crc32`, number of the first one.
    pub page_bytes: usize,
    pub layout: Layout,
    pub first: u64,
    /// Pages in an extent; nothing where the file has no first page.
    pub extent: Option<u64>,
    /// Pages that nothing is said about.
    pub passed_over: Vec<Range<u64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Full,
    Ranges,
    Zip,
}

/// Picks pages and places by chance, the same ones each time.
pub struct Pick(SmallRng);

impl Pick {
    pub fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }
}

impl DataFile {
    pub fn open(&self, check: &dyn PageCheck) -> Option<Box<dyn FilePages>> {
        let path = self.name.as_bytes();
        if !check.concerns("data", path) {
            return None;
        }
        check.open(&PageFile {
            root: "data",
            path,
            bytes: self.bytes.len() as u64,
            first: &self.bytes[..self.bytes.len().min(FIRST_BYTES)],
        })
    }

    /// Shows it chunk by chunk, but for chunks of zeros.
    pub fn check(&self, pages: &dyn FilePages) -> (Vec<(u64, String)>, PagesSeen) {
        let (mut damaged, mut seen) = (Vec::new(), PagesSeen::default());
        for (number, chunk) in self.bytes.chunks(CHUNK_BYTES).enumerate() {
            if number == 0 || chunk.iter().any(|byte| *byte != 0) {
                let offset = (number * CHUNK_BYTES) as u64;
                seen += pages.check(offset, chunk, &mut |page, what| {
                    damaged.push((page, what.to_string()));
                });
            }
        }
        damaged.sort();
        (damaged, seen)
    }

    /// What is found in the chunk of one place, and in the first one.
    pub fn check_at(&self, check: &dyn PageCheck, at: usize) -> Vec<(u64, String)> {
        let pages = self.open(check).unwrap();
        let mut damaged = Vec::new();
        let mut chunks = vec![0, at / CHUNK_BYTES];
        chunks.dedup();
        for number in chunks {
            let chunk = self.bytes.chunks(CHUNK_BYTES).nth(number).unwrap();
            pages.check((number * CHUNK_BYTES) as u64, chunk, &mut |page, what| {
                damaged.push((page, what.to_string()));
            });
        }
        damaged
    }

    pub fn page(&self, number: u64, page_bytes: usize) -> &[u8] {
        let start = number as usize * page_bytes;
        &self.bytes[start..start + page_bytes]
    }

    pub fn with_page(&self, number: u64, page: &[u8]) -> Self {
        let start = number as usize * page.len();
        let mut bytes = self.bytes.to_vec();
        bytes[start..start + page.len()].copy_from_slice(page);
        self.with_bytes(bytes)
    }

    pub fn with_flip(&self, at: usize) -> Self {
        let mut bytes = self.bytes.to_vec();
        bytes[at] ^= 0x10;
        self.with_bytes(bytes)
    }

    pub fn cut(&self, bytes: usize) -> Self {
        self.with_bytes(self.bytes[..bytes].to_vec())
    }

    fn with_bytes(&self, bytes: Vec<u8>) -> Self {
        Self {
            bytes: Arc::new(bytes),
            ..self.clone()
        }
    }

    /// Pages, and in each the place of a byte that its checksum is over.
    pub fn flips(&self, pick: &mut Pick) -> Vec<(u64, usize)> {
        let pages = self.bytes.len() / self.page_bytes;
        let used: Vec<usize> = (0..pages)
            .filter(|page| self.covered(*page).is_some())
            .collect();
        if used.is_empty() {
            return Vec::new();
        }
        let mut chosen: Vec<usize> = (0..FLIPS)
            .map(|_| used[pick.0.random_range(0..used.len())])
            .collect();
        chosen.push(0);
        chosen.sort();
        chosen.dedup();
        chosen
            .into_iter()
            .filter_map(|page| {
                let ranges = self.covered(page)?;
                let range = &ranges[pick.0.random_range(0..ranges.len())];
                let at = page * self.page_bytes + pick.0.random_range(range.clone());
                Some((self.first + page as u64, at))
            })
            .collect()
    }

    /// By the first page, which describes all of these small files.
    fn is_free(&self, number: u64) -> bool {
        let Some(extent) = self.extent else {
            return false;
        };
        let at = 150 + (number / extent) as usize * (24 + extent as usize / 4) + 24;
        let bit = 2 * (number % extent) as usize;
        self.bytes[at + bit / 8] >> (bit % 8) & 1 == 1
    }

    /// What of a page its checksum is over; nothing when it has none.
    fn covered(&self, page: usize) -> Option<Vec<Range<usize>>> {
        let number = self.first + page as u64;
        let bytes = self.page(page as u64, self.page_bytes);
        if bytes.iter().all(|byte| *byte == 0)
            || self.is_free(number)
            || self.passed_over.iter().any(|range| range.contains(&number))
        {
            return None;
        }
        let kind = u16::from_be_bytes([bytes[24], bytes[25]]);
        match self.layout {
            Layout::Full if kind & 0x8000 != 0 => {
                Some(vec![0..26, 26..usize::from(kind & 0x7fff) << 8])
            }
            Layout::Full => Some(vec![0..26, 26..self.page_bytes]),
            Layout::Ranges if [34354, 37401].contains(&kind) => None,
            Layout::Ranges => Some(vec![4..26, 38..self.page_bytes]),
            // The checksum of a page that was encrypted afterwards is that of what is inside.
            Layout::Zip if bytes[26..30] != [0; 4] => {
                Some(vec![4..16, 24..26, 34..self.page_bytes])
            }
            Layout::Zip => Some(vec![0..16, 24..26, 34..self.page_bytes]),
        }
    }
}
