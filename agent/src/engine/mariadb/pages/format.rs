//! How the pages of a tablespace are laid out, as the flags in its first page say.

use super::page::{Verdict, judge, word};

/// What the first page keeps about its tablespace: its number of pages, from where on none was ever
/// used, and its flags.
const SIZE_AT: usize = 46;
const LIMIT_AT: usize = 50;
const FLAGS_AT: usize = 54;
/// Marks `full_crc32` in the flags. With the older formats this bit is never set.
const FULL_CRC32: u32 = 1 << 4;

/// Layout and size of the pages as they lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `full_crc32`, the default of MariaDB since 10.5.
    Full(usize),
    /// `crc32`, `innodb` and `none`; all of MySQL.
    Ranges(usize),
    /// `ROW_FORMAT=COMPRESSED`.
    Zip(usize),
}

/// What a good first page says about its tablespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstPage {
    pub format: Format,
    pub space: u32,
    /// Pages of the tablespace, in all its files.
    pub pages: u64,
    /// From here on no page was ever used.
    pub limit: u64,
    /// The server's page size, which is that of the pages but with `ROW_FORMAT=COMPRESSED`.
    pub server_page_bytes: usize,
}

impl Format {
    pub const PAGE_SIZES: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

    pub fn page_bytes(self) -> usize {
        match self {
            Self::Full(bytes) | Self::Ranges(bytes) | Self::Zip(bytes) => bytes,
        }
    }

    /// With the server's page size.
    fn of_flags(flags: u32) -> Option<(Self, usize)> {
        let page_bytes = |code| match code {
            3..=7 => Some(512 << code),
            _ => None,
        };
        if flags & FULL_CRC32 != 0 {
            let bytes = page_bytes(flags & 0xf)?;
            return Some((Self::Full(bytes), bytes));
        }
        let bytes = match flags >> 6 & 0xf {
            0 => 16 << 10,
            code => page_bytes(code)?,
        };
        match flags >> 1 & 0xf {
            0 => Some((Self::Ranges(bytes), bytes)),
            zip @ 1..=5 => Some((Self::Zip(512 << zip), bytes)),
            _ => None,
        }
    }

    fn all(page_bytes: usize) -> impl Iterator<Item = Self> {
        [Self::Full(page_bytes), Self::Ranges(page_bytes)]
            .into_iter()
            .chain((0..5).map(|code| Self::Zip(1024 << code)))
    }

    /// The format under which most pages of a file's beginning are good: what remains to go by
    /// when its first page does not say, or cannot be believed.
    pub fn guess(first: &[u8], page_bytes: usize) -> Self {
        // The larger the page, the more it says.
        let good = |format: &Self| {
            let pages = (0..).zip(first.chunks_exact(format.page_bytes()));
            let fits = |number, page| {
                let verdict = judge(*format, page, number, None);
                matches!(verdict, Verdict::Good | Verdict::NotChecked)
            };
            pages.filter(|(number, page)| fits(*number, page)).count() * format.page_bytes()
        };
        // Of equals the first one: that is what most tablespaces have.
        let formats: Vec<Self> = Self::all(page_bytes).collect();
        let best = formats.iter().rev().max_by_key(|format| good(format));
        best.copied().unwrap_or(Self::Full(page_bytes))
    }
}

impl FirstPage {
    /// Nothing when the first page is not good.
    pub fn read(first: &[u8]) -> Option<Self> {
        let flags = word(first.get(..FLAGS_AT + 4)?, FLAGS_AT);
        let (format, server_page_bytes) = Format::of_flags(flags)?;
        let page = first.get(..format.page_bytes())?;
        let space = word(page, 34);
        match judge(format, page, 0, Some(space)) {
            Verdict::Good => Some(Self {
                format,
                space,
                pages: u64::from(word(page, SIZE_AT)),
                limit: u64::from(word(page, LIMIT_AT)),
                server_page_bytes,
            }),
            _ => None,
        }
    }
}
