//! How a file is cut: fixed pieces of 1 MiB, a multiple of every database's page size. Fixed cuts
//! do not tell anything about a file's content through their lengths.

/// Length of every chunk but a file's last.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// A chunk's id: the BLAKE3 hash of its plain bytes. A chunk of zeros has the id of zeros.
pub(super) type ChunkId = [u8; 32];

/// The id that stands for a chunk that is all zeros and stored nowhere.
pub(super) const ZERO_CHUNK: ChunkId = [0; 32];

/// How many chunks a file of `file_bytes` has.
pub(super) fn count(file_bytes: u64) -> u64 {
    file_bytes.div_ceil(CHUNK_BYTES as u64)
}

/// Length of chunk `number` of a file of `file_bytes`.
pub(super) fn length(file_bytes: u64, number: u64) -> usize {
    let from = number * CHUNK_BYTES as u64;
    usize::try_from(file_bytes.saturating_sub(from)).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES))
}

/// Whether a chunk is all zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // Most chunks differ from zero in their first bytes: look there before scanning everything.
    let (head, rest) = bytes.split_at(bytes.len().min(64));
    let or = |block: &[u8]| block.iter().fold(0_u8, |all, byte| all | byte);
    or(head) == 0 && rest.chunks(4096).all(|block| or(block) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_at_fixed_places() {
        let mib = CHUNK_BYTES as u64;
        assert_eq!(
            [count(0), count(1), count(mib), count(mib + 1)],
            [0, 1, 1, 2]
        );
        assert_eq!(length(mib + 5, 0), CHUNK_BYTES);
        assert_eq!(length(mib + 5, 1), 5);
        assert_eq!(length(mib, 0), CHUNK_BYTES);
    }

    #[test]
    fn one_set_bit_makes_a_chunk_not_zero() {
        for length in [0, 1, 63, 64, 65, 5000, CHUNK_BYTES] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for at in [0, length / 2, length.saturating_sub(1)] {
                if at < length {
                    bytes[at] = 1;
                    assert!(!is_zero(&bytes), "byte {at} of {length}");
                    bytes[at] = 0;
                }
            }
        }
    }
}
