//! The pack list: which packs a backup needs, where they lie, and whose key opens them. It is
//! clear, so that what nobody needs any more can be found without a key.

use std::sync::Arc;

use uuid::Uuid;

use super::PART_BYTES_MAX;
use crate::{
    error::{Error, Result},
    ids::BackupName,
    repository::{
        object::{ObjectKind, PREFIX_BYTES, Prefix},
        pack::PACK_BYTES_MAX,
        seal::TAG_BYTES,
    },
};

const ENTRY_BYTES: usize = 2 + 16 + 4 + 32;
/// The most that is set aside for the origins in a part.
const ORIGINS_BYTES_MAX: usize = 1 << 20;
const ENTRIES_MAX: usize =
    (PART_BYTES_MAX as usize - PREFIX_BYTES - TAG_BYTES - ORIGINS_BYTES_MAX) / ENTRY_BYTES;

/// The session that wrote a pack, and the backup under whose name it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackOrigin {
    pub backup: BackupName,
    pub session: Uuid,
    pub encrypted: bool,
}

/// A pack that the backup needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackRecord {
    pub origin: Arc<PackOrigin>,
    pub id: Uuid,
    pub bytes: u32,
    /// As [`crate::repository::pack::PackIndex::hash`] has it.
    pub hash: [u8; 32],
}

impl PackRecord {
    /// How the pack's object begins.
    pub(in super::super) fn prefix(&self, repository: Uuid) -> Prefix {
        Prefix {
            kind: ObjectKind::Pack,
            encrypted: self.origin.encrypted,
            repository,
            session: self.origin.session,
            id: self.id,
        }
    }
}

/// The packs, spread over as many parts as they need.
pub(in super::super) fn pack_list_parts(
    packs: &[PackRecord],
) -> impl Iterator<Item = &[PackRecord]> {
    packs.chunks(ENTRIES_MAX)
}

/// The payload of one part.
pub(in super::super) fn encode_pack_list(packs: &[PackRecord]) -> Result<Vec<u8>> {
    let mut origins: Vec<&PackOrigin> = Vec::new();
    let mut entries = Vec::with_capacity(packs.len() * ENTRY_BYTES);
    for pack in packs {
        let number = origins
            .iter()
            .position(|origin| **origin == *pack.origin)
            .unwrap_or_else(|| {
                origins.push(&pack.origin);
                origins.len() - 1
            });
        entries.extend_from_slice(&origin_number(number)?.to_le_bytes());
        entries.extend_from_slice(pack.id.as_bytes());
        entries.extend_from_slice(&pack.bytes.to_le_bytes());
        entries.extend_from_slice(&pack.hash);
    }
    let mut payload = origin_number(origins.len())?.to_le_bytes().to_vec();
    for origin in origins {
        let name = origin.backup.as_str().as_bytes();
        payload.push(name.len() as u8);
        payload.extend_from_slice(name);
        payload.extend_from_slice(origin.session.as_bytes());
        payload.push(u8::from(origin.encrypted));
    }
    payload.extend_from_slice(&entries);
    Ok(payload)
}

fn origin_number(number: usize) -> Result<u16> {
    u16::try_from(number).map_err(|_| {
        Error::exhausted("the backup refers to packs of more backups than a list can name")
            .hint("Remove old backups; what only they hold goes with them.")
    })
}

/// Reads what [`encode_pack_list`] wrote; `None`: that is not it.
pub(in super::super) fn decode_pack_list(payload: &[u8]) -> Option<Vec<PackRecord>> {
    let (count, mut rest) = payload.split_first_chunk::<2>()?;
    let mut origins = Vec::new();
    for _ in 0..u16::from_le_bytes(*count) {
        let (length, after) = rest.split_first()?;
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        let (session, after) = after.split_first_chunk::<16>()?;
        let (encrypted, after) = after.split_first()?;
        origins.push(Arc::new(PackOrigin {
            backup: std::str::from_utf8(name).ok()?.parse().ok()?,
            session: Uuid::from_bytes(*session),
            encrypted: match encrypted {
                0 => false,
                1 => true,
                _ => return None,
            },
        }));
        rest = after;
    }
    let entries = rest.chunks_exact(ENTRY_BYTES);
    if !entries.remainder().is_empty() {
        return None;
    }
    entries
        .map(|entry| {
            let (origin, entry) = entry.split_first_chunk::<2>()?;
            let (id, entry) = entry.split_first_chunk::<16>()?;
            let (bytes, hash) = entry.split_first_chunk::<4>()?;
            let record = PackRecord {
                origin: Arc::clone(origins.get(usize::from(u16::from_le_bytes(*origin)))?),
                id: Uuid::from_bytes(*id),
                bytes: u32::from_le_bytes(*bytes),
                hash: hash.try_into().ok()?,
            };
            (record.bytes as usize <= PACK_BYTES_MAX).then_some(record)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(number: u128) -> PackRecord {
        PackRecord {
            origin: Arc::new(PackOrigin {
                backup: format!("2026-11-21.03150{}.zone1-101", number % 2)
                    .parse()
                    .unwrap(),
                session: Uuid::from_u128(number % 2),
                encrypted: number % 2 == 1,
            }),
            id: Uuid::from_u128(number),
            bytes: 1000 + number as u32,
            hash: [number as u8; 32],
        }
    }

    #[test]
    fn a_pack_list_is_read_as_it_was_written() {
        let packs: Vec<_> = (0..10).map(record).collect();
        assert_eq!(
            decode_pack_list(&encode_pack_list(&packs).unwrap()).unwrap(),
            packs
        );
        assert_eq!(
            decode_pack_list(&encode_pack_list(&[]).unwrap()).unwrap(),
            []
        );
        let payload = encode_pack_list(&packs).unwrap();
        for cut in 1..payload.len() {
            if !(payload.len() - cut).is_multiple_of(ENTRY_BYTES) {
                assert!(decode_pack_list(&payload[..cut]).is_none(), "{cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn i8_any_bytes_are_a_pack_list_or_are_refused(bytes: Vec<u8>) {
            let _ = decode_pack_list(&bytes);
        }
    }
}
