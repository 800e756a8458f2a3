//! How an engine has the pages of its files checked while they are copied.
//!
//! The pipeline knows no database: it asks for each file whether the engine can check it, and shows
//! the engine every chunk that it reads, in any order and from several threads. What is found does
//! not stop a backup: it is noted with file and page number.

use std::fmt::{Debug, Display};

/// How much of a file's beginning is shown to [`PageCheck::open`]; all of a smaller file.
pub const FIRST_BYTES: usize = 256 << 10;

/// A file below a root of the backup.
#[derive(Clone, Copy, Debug)]
pub struct PageFile<'a> {
    /// Name of the root.
    pub root: &'a str,
    /// Relative to the root.
    pub path: &'a [u8],
    pub bytes: u64,
    /// The first [`FIRST_BYTES`] of it.
    pub first: &'a [u8],
}

/// What an engine knows about the files of one copy.
pub trait PageCheck: Debug + Send + Sync {
    /// Whether files of this name have pages that can be checked. Cheap: asked for every file.
    fn concerns(&self, root: &str, path: &[u8]) -> bool;

    /// Once for each file that has bytes and [`concerns`](Self::concerns) this check; nothing when
    /// it turns out not to be what its name says.
    fn open(&self, file: &PageFile<'_>) -> Option<Box<dyn FilePages>>;
}

/// Checks the pages of one file.
pub trait FilePages: Debug + Send + Sync {
    /// Looks at the bytes from `offset` on: one chunk of 1 MiB, or the file's last piece. Chunks of
    /// zeros need not be shown, but the first one must. Calls `damaged` with the number of each
    /// page that is not as it was written, and what is wrong with it.
    fn check(
        &self,
        offset: u64,
        chunk: &[u8],
        damaged: &mut dyn FnMut(u64, &dyn Display),
    ) -> PagesSeen;
}

/// How many pages were looked at. Empty ones are neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PagesSeen {
    /// Found good or damaged.
    pub checked: u64,
    /// Of a kind that carries nothing to check it by.
    pub not_checked: u64,
}

impl std::ops::AddAssign for PagesSeen {
    fn add_assign(&mut self, other: Self) {
        self.checked += other.checked;
        self.not_checked += other.not_checked;
    }
}
