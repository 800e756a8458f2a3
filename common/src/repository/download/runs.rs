//! Gathers missing chunks that lie near each other in a pack into runs, each fetched in one request.

use super::plan::Wanted;
use crate::repository::{chunk::CHUNK_BYTES, seal::TAG_BYTES};

/// A run is in memory as a whole.
const RUN_BYTES_MAX: u64 = 8 << 20;
/// A gap of one chunk that nobody needs is fetched along: on a store over a network a request costs
/// more than these bytes do.
const GAP_BYTES_MAX: u64 = (CHUNK_BYTES + TAG_BYTES) as u64;

/// Chunks of one pack, in the order in which they lie there.
pub(super) struct Run {
    pub pack: u32,
    /// One that stands in several places of the files comes several times, one behind the other.
    pub chunks: Vec<Wanted>,
    /// In the pack.
    pub start: u64,
    pub end: u64,
    /// Without the gaps.
    needed_bytes: u64,
}

impl Run {
    fn begin(wanted: Wanted) -> Self {
        let (start, end) = wanted.place_in_pack();
        Self {
            pack: wanted.stored.pack,
            start,
            end,
            needed_bytes: end - start,
            chunks: vec![wanted],
        }
    }

    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }

    /// The same in runs that the throttle lets through one by one, each of about `burst_bytes`.
    pub fn split(self, burst_bytes: u64) -> Vec<Run> {
        match self.bytes() <= burst_bytes {
            true => vec![self],
            false => gather_within(self.chunks, burst_bytes),
        }
    }

    /// Takes the chunk in, or gives it back: it belongs to another run.
    fn take(&mut self, wanted: Wanted, bytes_max: u64) -> Option<Wanted> {
        let (start, end) = wanted.place_in_pack();
        let is_again = self.chunks.last().is_some_and(|last| last.is_same(&wanted));
        if is_again {
            self.chunks.push(wanted);
            return None;
        }
        let fits = wanted.stored.pack == self.pack
            && start >= self.end
            && start - self.end <= GAP_BYTES_MAX
            && end - self.start <= bytes_max
            // At least half of it is needed.
            && end - self.start <= 2 * (self.needed_bytes + end - start);
        if !fits {
            return Some(wanted);
        }
        self.end = end;
        self.needed_bytes += end - start;
        self.chunks.push(wanted);
        None
    }
}

/// All of `missing`, in few runs.
pub(super) fn gather(missing: Vec<Wanted>) -> Vec<Run> {
    gather_within(missing, RUN_BYTES_MAX)
}

fn gather_within(mut missing: Vec<Wanted>, bytes_max: u64) -> Vec<Run> {
    missing.sort_by_key(|wanted| (wanted.stored.pack, wanted.stored.offset));
    let mut runs: Vec<Run> = Vec::new();
    for wanted in missing {
        let apart = match runs.last_mut() {
            Some(run) => run.take(wanted, bytes_max),
            None => Some(wanted),
        };
        runs.extend(apart.map(Run::begin));
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::repository::{
        compress::Encoding, download::target_file::TargetFile, list::Attributes, pack::StoredChunk,
    };

    fn wanted(pack: u32, offset: u64, stored_bytes: u64) -> Wanted {
        let attributes = Attributes {
            uid: 0,
            gid: 0,
            mode: 0o600,
            mtime_seconds: 0,
            mtime_nanos: 0,
        };
        let file = TargetFile::new("t.ibd".into(), None, false, 1, attributes);
        Wanted {
            file: Arc::new(file),
            stored: StoredChunk {
                id: [1; 32],
                pack,
                place: 0,
                offset: offset as u32,
                stored_bytes: (stored_bytes - TAG_BYTES as u64) as u32,
                encoding: Encoding::Raw,
            },
            offset: 0,
            plain_bytes: 1,
        }
    }

    /// Pack, start, end and number of chunks of each run.
    fn gathered(chunks: &[(u32, u64, u64)]) -> Vec<(u32, u64, u64, usize)> {
        let chunks = chunks.iter().map(|(pack, at, n)| wanted(*pack, *at, *n));
        gather(chunks.collect())
            .iter()
            .map(|run| (run.pack, run.start, run.end, run.chunks.len()))
            .collect()
    }

    #[test]
    fn chunks_side_by_side_in_a_pack_are_one_run_in_whatever_order_they_are_wanted() {
        let chunks = [(1, 100, 50), (0, 64, 36), (1, 64, 36), (0, 100, 20)];
        assert_eq!(gathered(&chunks), [(0, 64, 120, 2), (1, 64, 150, 2)]);
        assert_eq!(gathered(&[]), []);
    }

    #[test]
    fn a_chunk_that_is_wanted_twice_is_fetched_once() {
        let chunks = [(0, 64, 36), (0, 100, 20), (0, 64, 36)];
        assert_eq!(gathered(&chunks), [(0, 64, 120, 3)]);
        // Not the same, and in each other's way, as only a forged list says.
        let chunks = [(0, 64, 36), (0, 64, 37), (0, 90, 30)];
        assert_eq!(gathered(&chunks).len(), 3);
    }

    #[test]
    fn a_gap_of_a_chunk_is_fetched_along_but_never_more_than_is_needed() {
        let raw = GAP_BYTES_MAX;
        let chunks = [(0, 64, raw), (0, 64 + 2 * raw, raw)];
        assert_eq!(gathered(&chunks), [(0, 64, 64 + 3 * raw, 2)]);
        let too_far = [(0, 64, 2 * raw), (0, 65 + 3 * raw, raw)];
        assert_eq!(gathered(&too_far).len(), 2);
        let mostly_gap = [(0, 64, 100), (0, 64 + 100 + 300, 100)];
        assert_eq!(gathered(&mostly_gap).len(), 2);
    }

    #[test]
    fn a_pack_that_is_needed_as_a_whole_takes_a_few_requests() {
        let raw = GAP_BYTES_MAX;
        let chunks: Vec<_> = (0..32).map(|n| (0, 64 + n * raw, raw)).collect();
        let runs = gathered(&chunks);
        assert!(runs.len() <= 5, "{runs:?}");
        assert!(runs.iter().all(|run| run.2 - run.1 <= RUN_BYTES_MAX));
        let whole = gather(chunks.iter().map(|c| wanted(c.0, c.1, c.2)).collect());
        let pieces = whole.into_iter().flat_map(|run| run.split(2 * raw + 1));
        assert_eq!(pieces.map(|run| run.bytes()).max(), Some(2 * raw));
    }
}
