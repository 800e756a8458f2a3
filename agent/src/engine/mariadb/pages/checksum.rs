//! The checksums that InnoDB has given its pages over time.
//!
//! Sources: the page layout of the MariaDB and MySQL manuals ("InnoDB page structure",
//! `innodb_checksum_algorithm`), and pages that servers wrote.

use crc32c::crc32c;

/// What stands in both places of a page that was written with checksums turned off.
pub(super) const NO_CHECKSUM: u32 = 0xdead_beef;

/// Of a page by `full_crc32`: over all but the checksum itself, which is at the end.
pub(super) fn full(page: &[u8]) -> u32 {
    crc32c(&page[..page.len() - 4])
}

/// Of a page by `crc32`: what changes outside of these two ranges is not seen.
pub(super) fn ranges(page: &[u8]) -> u32 {
    crc32c(&page[4..26]) ^ crc32c(&page[38..page.len() - 8])
}

/// Of a page with `ROW_FORMAT=COMPRESSED`, by `crc32`: not over its log position.
pub(super) fn zip(page: &[u8]) -> u32 {
    crc32c(&page[4..16]) ^ crc32c(&page[24..26]) ^ crc32c(&page[34..])
}

/// Of a page with `ROW_FORMAT=COMPRESSED`, by `innodb`: Adler-32 that begins at 0.
pub(super) fn zip_adler(page: &[u8]) -> u32 {
    const MODULUS: u32 = 65521;
    let bytes = page[4..16].iter().chain(&page[24..26]).chain(&page[34..]);
    let (low, high) = bytes.fold((0, 0), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % MODULUS;
        (low, (high + low) % MODULUS)
    });
    high << 16 | low
}

/// Of a page by `innodb`, as it stands at its beginning.
pub(super) fn innodb(page: &[u8]) -> u32 {
    fold(&page[4..26]).wrapping_add(fold(&page[38..page.len() - 8]))
}

/// Of a page by `innodb`, as it stands at its end: only over its header.
pub(super) fn innodb_old(page: &[u8]) -> u32 {
    fold(&page[..26])
}

fn fold(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |hash: u32, byte| {
        let byte = u32::from(*byte);
        let mixed = (hash ^ byte ^ 1_653_893_711) << 8;
        (mixed.wrapping_add(hash) ^ 1_463_735_687).wrapping_add(byte)
    })
}
