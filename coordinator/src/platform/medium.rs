//! What the durable log lies on: two maps from numbers to bytes.

use std::ops::RangeInclusive;

use seawall_common::Result;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tree {
    Records,
    /// A few values beside the records, with numbers below 256.
    Marks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forwards,
    Backwards,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Change {
    Put(u64, Vec<u8>),
    Delete(u64),
}

/// A batch takes effect whole or not at all, over a power loss too, and after those before it.
pub trait Medium: Send + Sync {
    fn apply(&self, tree: Tree, batch: Vec<Change>) -> Result<()>;

    /// All batches that were applied before are on disk when this returns.
    fn sync(&self) -> Result<()>;

    fn get(&self, tree: Tree, key: u64) -> Result<Option<Vec<u8>>>;

    /// At most `max` of the numbers in `range` that have a record.
    fn keys(&self, range: RangeInclusive<u64>, order: Order, max: usize) -> Result<Vec<u64>>;

    /// Shows the records of `range` in order for as long as `show` asks for more.
    fn scan(
        &self,
        range: RangeInclusive<u64>,
        show: &mut dyn FnMut(u64, &[u8]) -> Result<bool>,
    ) -> Result<()>;
}
