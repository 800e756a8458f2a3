//! The system tablespace: one tablespace in several files, of which only the first has a first page.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    ops::Range,
    path::{Path, PathBuf},
};

use seawall_common::{Error, Result};

use super::{
    extents::Extents,
    format::{FirstPage, Format},
    page::{Verdict, judge, word},
    tablespace::Tablespace,
};
use crate::engine::{CopyRoot, mariadb::copy_set};

/// The page that says where the doublewrite buffer lies, and where in it, counted from its end.
const TRANSACTIONS_PAGE: u32 = 5;
const DOUBLEWRITE_BEFORE_END: usize = 200;
const DOUBLEWRITE_MAGIC: u32 = 536_853_855;
/// Enough for that page whatever its size.
const BEGINNING_BYTES: u64 = 6 * (64 << 10);

#[derive(Debug, Default)]
pub(super) struct SystemTablespace {
    parts: Vec<Part>,
    format: Option<Format>,
    space: Option<u32>,
    end: Option<u64>,
    extents: Option<Extents>,
    doublewrite: Vec<Range<u64>>,
}

#[derive(Debug)]
pub(super) struct Part {
    root: String,
    path: Vec<u8>,
    first: u64,
    is_last: bool,
}

impl SystemTablespace {
    /// `files` in their order. A server without InnoDB has none.
    pub fn survey(files: &[PathBuf], roots: &[CopyRoot], page_bytes: usize) -> Result<Self> {
        let Some(beginning) = files
            .first()
            .map(|file| beginning(file))
            .transpose()?
            .flatten()
        else {
            return Ok(Self::default());
        };
        let known = FirstPage::read(&beginning);
        let format =
            known.map_or_else(|| Format::guess(&beginning, page_bytes), |page| page.format);
        let (mut parts, mut begins) = (Vec::new(), Vec::new());
        let mut first = 0;
        for (number, file) in files.iter().enumerate() {
            let bytes = file
                .metadata()
                .map_err(|e| Error::io("examine", file, &e))?
                .len();
            let place = roots.iter().find_map(|root| {
                let path = copy_set::relative(file, &root.path)?;
                Some((root.name.clone(), path))
            });
            if let Some((root, path)) = place {
                parts.push(Part {
                    root,
                    path: path.into_bytes(),
                    first,
                    is_last: number + 1 == files.len(),
                });
            }
            begins.push((first, file.clone()));
            first += bytes / format.page_bytes() as u64;
        }
        Ok(Self {
            parts,
            format: Some(format),
            space: known.map(|page| page.space),
            end: known.map(|page| page.pages),
            extents: known.map(|page| Extents {
                files: begins.into(),
                pages: Extents::pages_by(page.server_page_bytes),
                limit: page.limit,
            }),
            doublewrite: doublewrite(&beginning, format),
        })
    }

    pub fn file(&self, root: &str, path: &[u8]) -> Option<&Part> {
        self.parts
            .iter()
            .find(|part| part.root == root && part.path == path)
    }

    pub fn open(&self, part: &Part, bytes: u64) -> Option<Tablespace> {
        Some(Tablespace {
            format: self.format?,
            space: self.space,
            first: part.first,
            end: self.end,
            is_last: part.is_last,
            extents: self.extents.clone(),
            doublewrite: self.doublewrite.clone(),
            bytes,
        })
    }
}

/// Nothing when there is no such file.
fn beginning(file: &Path) -> Result<Option<Vec<u8>>> {
    let unreadable = |e: std::io::Error| Error::io("read", file, &e);
    let file = match File::open(file) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(e)),
    };
    let mut bytes = Vec::new();
    file.take(BEGINNING_BYTES)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(Some(bytes))
}

/// The two blocks of the doublewrite buffer, an extent each.
fn doublewrite(beginning: &[u8], format: Format) -> Vec<Range<u64>> {
    let page_bytes = format.page_bytes();
    let extent = Extents::pages_by(page_bytes);
    let start = TRANSACTIONS_PAGE as usize * page_bytes;
    let block = |number: u32| u64::from(number)..u64::from(number) + extent;
    let page = beginning
        .get(start..start + page_bytes)
        .filter(|page| matches!(judge(format, page, TRANSACTIONS_PAGE, None), Verdict::Good));
    match page {
        Some(page) => {
            // Behind the header of its segment: a magic number, and the first page of each block.
            let at = page_bytes - DOUBLEWRITE_BEFORE_END + 10;
            if word(page, at) == DOUBLEWRITE_MAGIC {
                vec![block(word(page, at + 4)), block(word(page, at + 8))]
            } else {
                Vec::new()
            }
        }
        // It cannot be read: where every server puts them.
        None => vec![extent..2 * extent, 2 * extent..3 * extent],
    }
}
