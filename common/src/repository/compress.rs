//! Compresses chunks with zstd, level 1, and keeps those raw that this does not make smaller.
//! A context is made once for each worker and used again for every chunk.

use zstd::bulk::{Compressor, Decompressor};

use crate::error::{Error, Result};

/// Level 3 costs 1.4 times the time for one to five per cent.
const LEVEL: i32 = 1;

/// How a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw = 0,
    Zstd = 1,
}

impl Encoding {
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Encoding::Raw),
            1 => Some(Encoding::Zstd),
            _ => None,
        }
    }

    /// Whether a chunk of `plain` bytes can have a stored form of `stored` bytes.
    pub fn fits(self, stored: usize, plain: usize) -> bool {
        match self {
            Encoding::Raw => stored == plain,
            Encoding::Zstd => stored > 0 && stored < plain,
        }
    }
}

pub(super) struct ChunkCompressor(Compressor<'static>);

impl ChunkCompressor {
    pub fn new() -> Result<Self> {
        Compressor::new(LEVEL)
            .map(Self)
            .map_err(|e| Error::internal(format!("cannot set up zstd: {e}")))
    }

    /// Writes the chunk's stored form to the beginning of `out`, which has room for `plain`.
    pub fn store(&mut self, plain: &[u8], out: &mut [u8]) -> (Encoding, usize) {
        // Not smaller than raw: zstd says that the room is not enough.
        let room = plain.len().saturating_sub(plain.len() / 64 + 1);
        match self.0.compress_to_buffer(plain, &mut out[..room]) {
            Ok(bytes) => (Encoding::Zstd, bytes),
            Err(_) => {
                out[..plain.len()].copy_from_slice(plain);
                (Encoding::Raw, plain.len())
            }
        }
    }
}

pub(super) struct ChunkDecompressor(Decompressor<'static>);

impl ChunkDecompressor {
    pub fn new() -> Result<Self> {
        Decompressor::new()
            .map(Self)
            .map_err(|e| Error::internal(format!("cannot set up zstd: {e}")))
    }

    /// Whether `stored` unpacks to exactly the length of `plain`, which then holds it.
    pub fn unpack(&mut self, stored: &[u8], plain: &mut [u8]) -> bool {
        let length = plain.len();
        self.0
            .decompress_to_buffer(stored, plain)
            .is_ok_and(|bytes| bytes == length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_kept_raw_where_zstd_does_not_help() {
        let mut compressor = ChunkCompressor::new().unwrap();
        let noise: Vec<u8> = (0..200_000).map(|_| rand::random::<u8>()).collect();
        let text = vec![b'a'; 200_000];
        let mut out = vec![0; 200_000];
        assert_eq!(compressor.store(&noise, &mut out), (Encoding::Raw, 200_000));
        assert_eq!(out, noise);
        let (encoding, bytes) = compressor.store(&text, &mut out);
        assert_eq!(encoding, Encoding::Zstd);
        let mut plain = vec![0; text.len()];
        let mut decompressor = ChunkDecompressor::new().unwrap();
        assert!(decompressor.unpack(&out[..bytes], &mut plain));
        assert_eq!(plain, text);
        assert!(!decompressor.unpack(&out[..bytes], &mut plain[1..]));
        assert!(!decompressor.unpack(&out[..bytes - 1], &mut plain));
        assert_eq!(compressor.store(b"x", &mut out), (Encoding::Raw, 1));
    }
}
