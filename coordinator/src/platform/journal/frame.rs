//! How changes lie in a segment: all that is synced at once in one frame, which is whole or not
//! there.
//!
//! A frame: `SWFR`, the length of what it holds (4 bytes), its number (8), a checksum over these two
//! and what it holds (4), what it holds, zeros up to a multiple of eight. Numbers are big-endian. The
//! checksum begins with the segment's salt, so that nothing that is stored can look like a frame.

use seawall_common::{Error, Result};

use crate::platform::{Change, Tree};

const MAGIC: [u8; 4] = *b"SWFR";
pub const HEAD_BYTES: usize = 20;
pub const ALIGNED: usize = 8;
/// Before each change: what it is, its number, and the length of its value.
const CHANGE_HEAD_BYTES: usize = 13;

/// What a change does to a value, and in which tree.
const PUT_RECORD: u8 = 1;
const DELETE_RECORD: u8 = 2;
const PUT_MARK: u8 = 3;
const DELETE_MARK: u8 = 4;

/// The frame of this number around `payload`.
pub fn framed(salt: u32, number: u64, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(payload.len())
        .map_err(|_| Error::exhausted("more than 4 GiB for the log at once"))?;
    let mut frame = Vec::with_capacity(HEAD_BYTES + payload.len() + ALIGNED);
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&number.to_be_bytes());
    frame.extend_from_slice(&checksum(salt, &frame[4..16], payload).to_be_bytes());
    frame.extend_from_slice(payload);
    frame.resize(frame.len().next_multiple_of(ALIGNED), 0);
    Ok(frame)
}

fn checksum(salt: u32, head: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(salt, head), payload)
}

/// A frame that is whole.
pub struct Frame<'a> {
    pub number: u64,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// With what `bytes` begin.
    pub fn at(salt: u32, bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        if head[..4] != MAGIC {
            return None;
        }
        let length = u32::from_be_bytes(head[4..8].try_into().ok()?);
        let number = u64::from_be_bytes(head[8..16].try_into().ok()?);
        let payload = rest.get(..usize::try_from(length).ok()?)?;
        let expected = checksum(salt, &head[4..16], payload);
        (head[16..] == expected.to_be_bytes()).then_some(Self { number, payload })
    }

    /// Whether something was written behind the frame of this number, with which `bytes` begin and
    /// which is not whole.
    pub fn is_followed(number: u64, bytes: &[u8]) -> bool {
        let Some(head) = bytes.get(..HEAD_BYTES) else {
            return false;
        };
        if head[..4] != MAGIC || head[8..16] != number.to_be_bytes() {
            return false;
        }
        let length = head[4..8].iter();
        let length = length.fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        let end = (HEAD_BYTES + length).next_multiple_of(ALIGNED);
        let behind = bytes.get(end..).unwrap_or_default();
        behind.iter().any(|byte| *byte != 0)
    }

    pub fn bytes(&self) -> usize {
        (HEAD_BYTES + self.payload.len()).next_multiple_of(ALIGNED)
    }
}

/// Where a value lies that was put.
pub struct Value {
    pub offset: usize,
    pub length: usize,
}

impl Value {
    pub fn of(&self, payload: &[u8]) -> Vec<u8> {
        let end = self.offset.saturating_add(self.length);
        payload.get(self.offset..end).unwrap_or_default().to_vec()
    }
}

/// Appends a change to a payload; where its value lies there.
pub fn encode(tree: Tree, change: &Change, payload: &mut Vec<u8>) -> Result<Value> {
    let (what, number, value): (u8, u64, &[u8]) = match (tree, change) {
        (Tree::Records, Change::Put(number, value)) => (PUT_RECORD, *number, value),
        (Tree::Records, Change::Delete(number)) => (DELETE_RECORD, *number, &[]),
        (Tree::Marks, Change::Put(number, value)) => (PUT_MARK, *number, value),
        (Tree::Marks, Change::Delete(number)) => (DELETE_MARK, *number, &[]),
    };
    let length = u32::try_from(value.len())
        .map_err(|_| Error::exhausted("a value of more than 4 GiB for the log"))?;
    payload.push(what);
    payload.extend_from_slice(&number.to_be_bytes());
    payload.extend_from_slice(&length.to_be_bytes());
    let offset = payload.len();
    payload.extend_from_slice(value);
    Ok(Value {
        offset,
        length: value.len(),
    })
}

/// One change out of a payload: `value` is none where it deletes.
pub struct Decoded {
    pub tree: Tree,
    pub number: u64,
    pub value: Option<Value>,
}

/// All changes of a payload; none where it is not what [`encode`] makes.
pub fn decode(payload: &[u8]) -> Option<Vec<Decoded>> {
    let mut changes = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let head = payload.get(at..at + CHANGE_HEAD_BYTES)?;
        let number = u64::from_be_bytes(head[1..9].try_into().ok()?);
        let length = u32::from_be_bytes(head[9..].try_into().ok()?);
        let value = Value {
            offset: at + CHANGE_HEAD_BYTES,
            length: usize::try_from(length).ok()?,
        };
        at = value.offset.checked_add(value.length)?;
        let (tree, is_put) = match head[0] {
            PUT_RECORD => (Tree::Records, true),
            DELETE_RECORD => (Tree::Records, false),
            PUT_MARK => (Tree::Marks, true),
            DELETE_MARK => (Tree::Marks, false),
            _ => return None,
        };
        changes.push(Decoded {
            tree,
            number,
            value: is_put.then_some(value),
        });
    }
    (at == payload.len()).then_some(changes)
}
