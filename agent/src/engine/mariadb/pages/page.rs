//! Whether one page is as the server wrote it.

use std::fmt;

use super::{
    checksum::{self, NO_CHECKSUM},
    format::Format,
};

/// Where a page keeps its type.
const TYPE_AT: usize = 24;
/// Set in the type of a `full_crc32` page that is compressed; the rest is its size in 256 bytes.
const COMPRESSED: u16 = 1 << 15;
/// Types of compressed pages, encrypted or not, which MariaDB's older format leaves without checksum.
const COMPRESSED_WITHOUT_CHECKSUM: [u16; 2] = [34354, 37401];
/// Types of MySQL's pages that are compressed or encrypted as they are written: their checksums are
/// those of what is inside.
const MYSQL_WRAPPED: std::ops::RangeInclusive<u16> = 14..=17;
/// The least that a compressed page holds.
const HEADER_BYTES: usize = 38;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// Zeros: allocated and never written.
    Empty,
    NotChecked,
    Damaged(Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Checksum { stored: u32, computed: u32 },
    Ends { first: u32, last: u32 },
    CompressedSize(usize),
    OtherPage(u32),
    OtherSpace { space: u32, expected: u32 },
    Empty,
    CutShort,
    Missing,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum { stored, computed } => {
                write!(
                    f,
                    "its checksum is {stored:#010x} and should be {computed:#010x}"
                )
            }
            Self::Ends { first, last } => write!(
                f,
                "it begins with log position {first:#010x} and ends with {last:#010x}"
            ),
            Self::CompressedSize(bytes) => {
                write!(f, "it says that it is compressed to {bytes} bytes")
            }
            Self::OtherPage(number) => write!(f, "it says that it is page {number}"),
            Self::OtherSpace { space, expected } => {
                write!(
                    f,
                    "it says that it is of tablespace {space}, not {expected}"
                )
            }
            Self::Empty => f.write_str("it is empty, as the first page never is"),
            Self::CutShort => f.write_str("the file ends within it"),
            Self::Missing => f.write_str("the file ends before it"),
        }
    }
}

/// The big-endian word that begins at `at`.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_be_bytes)
}

fn page_type(page: &[u8]) -> u16 {
    (word(page, TYPE_AT) >> 16) as u16
}

/// Looks at a whole page that should be number `number` of tablespace `space`, if that is known.
pub(super) fn judge(format: Format, page: &[u8], number: u32, space: Option<u32>) -> Verdict {
    let seen = match format {
        Format::Full(_) => full(page),
        Format::Ranges(_) => ranges(page),
        Format::Zip(_) => zip(page),
    };
    let has_space = match format {
        // Written over by what is compressed or encrypted.
        Format::Full(_) => word(page, 0) == 0 && page_type(page) & COMPRESSED == 0,
        Format::Ranges(_) | Format::Zip(_) => true,
    };
    match seen {
        Verdict::Good | Verdict::NotChecked if word(page, 4) != number => {
            Verdict::Damaged(Fault::OtherPage(word(page, 4)))
        }
        Verdict::Good | Verdict::NotChecked => match space {
            Some(expected) if has_space && word(page, 34) != expected => {
                let space = word(page, 34);
                Verdict::Damaged(Fault::OtherSpace { space, expected })
            }
            _ => seen,
        },
        Verdict::Empty | Verdict::Damaged(_) => seen,
    }
}

fn full(page: &[u8]) -> Verdict {
    let kind = page_type(page);
    let bytes = match kind & COMPRESSED {
        0 => page.len(),
        _ => usize::from(kind & !COMPRESSED) << 8,
    };
    if kind & COMPRESSED != 0 && !(HEADER_BYTES..page.len()).contains(&bytes) {
        return Verdict::Damaged(Fault::CompressedSize(bytes));
    }
    let stored = word(page, bytes - 4);
    if stored == 0 && is_zero(page) {
        return Verdict::Empty;
    }
    compare(stored, checksum::full(&page[..bytes]))
}

fn ranges(page: &[u8]) -> Verdict {
    let (first, last) = (word(page, 0), word(page, page.len() - 8));
    let kind = page_type(page);
    if COMPRESSED_WITHOUT_CHECKSUM.contains(&kind) || MYSQL_WRAPPED.contains(&kind) {
        return Verdict::NotChecked;
    }
    if first == 0 && last == 0 && is_unwritten(page) {
        return Verdict::Empty;
    }
    let (begins, ends) = (word(page, 20), word(page, page.len() - 4));
    if begins != ends {
        let (first, last) = (begins, ends);
        return Verdict::Damaged(Fault::Ends { first, last });
    }
    let computed = checksum::ranges(page);
    if first == computed && last == computed || is_encrypted_with(page, computed) {
        return Verdict::Good;
    }
    if first == NO_CHECKSUM && last == NO_CHECKSUM {
        return Verdict::NotChecked;
    }
    // Rare from here on: pages that old servers wrote.
    let first_is_good = [computed, NO_CHECKSUM].contains(&first) || first == checksum::innodb(page);
    let last_is_good = [computed, NO_CHECKSUM, word(page, 16)].contains(&last)
        || last == checksum::innodb_old(page);
    if first_is_good && last_is_good {
        return Verdict::Good;
    }
    let stored = if first_is_good { last } else { first };
    Verdict::Damaged(Fault::Checksum { stored, computed })
}

fn zip(page: &[u8]) -> Verdict {
    let stored = word(page, 0);
    if stored == 0 && is_unwritten(page) {
        return Verdict::Empty;
    }
    if stored == NO_CHECKSUM {
        return Verdict::NotChecked;
    }
    let computed = checksum::zip(page);
    let is_good = stored == computed || is_encrypted_with(page, computed);
    if is_good || stored == checksum::zip_adler(page) {
        return Verdict::Good;
    }
    Verdict::Damaged(Fault::Checksum { stored, computed })
}

fn compare(stored: u32, computed: u32) -> Verdict {
    if stored == computed {
        Verdict::Good
    } else {
        Verdict::Damaged(Fault::Checksum { stored, computed })
    }
}

/// In the older formats an encrypted page has the version of its key and, behind it, the checksum of
/// what lies in the file.
fn is_encrypted_with(page: &[u8], computed: u32) -> bool {
    word(page, 26) != 0 && word(page, 30) == computed
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Old servers left something in these eight bytes even of pages that they never wrote.
fn is_unwritten(page: &[u8]) -> bool {
    is_zero(&page[..26]) && is_zero(&page[34..])
}
