//! Seals the pieces of an object: AES-256-GCM under a key of the object's own, or, where nothing
//! is encrypted, a keyless BLAKE3 tag in the same place. A piece is bound to its repository, its
//! object and its place in it. Nothing else in the repository touches a cipher.
//!
//! The key comes from the session's data key and the object's random id, so that a place number is
//! enough of a nonce: no key ever seals two pieces at one place.

use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce, Tag,
    aead::{AeadInOut, array::Array},
};
use zeroize::Zeroizing;

use super::{
    keys::DataKey,
    object::{PREFIX_BYTES, Prefix},
};
use crate::error::{Error, Result};

/// What sealing adds to a piece.
pub(super) const TAG_BYTES: usize = 16;
const KEY_CONTEXT: &str = "seawall repository format 2: key of one object";

/// A piece is not what was sealed at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

pub(super) struct Sealer {
    cipher: Option<Aes256Gcm>,
    prefix: [u8; PREFIX_BYTES],
}

impl Sealer {
    /// `key` is needed when the object is encrypted, and not used when it is not.
    pub fn new(prefix: &Prefix, key: Option<&DataKey>) -> Result<Self> {
        let cipher = match (prefix.encrypted, key) {
            (false, _) => None,
            (true, Some(key)) => {
                let mut hasher = blake3::Hasher::new_derive_key(KEY_CONTEXT);
                hasher.update(key.bytes());
                hasher.update(&prefix.encode());
                let object_key = Zeroizing::new(*hasher.finalize().as_bytes());
                Some(Aes256Gcm::new(&Array(*object_key)))
            }
            (true, None) => return Err(Error::internal("an encrypted object without a key")),
        };
        Ok(Self {
            cipher,
            prefix: prefix.encode(),
        })
    }

    /// Seals `piece` where it lies and returns its tag. `also` is covered by the seal and not
    /// part of it.
    pub fn seal(&self, place: u64, also: &[u8], piece: &mut [u8]) -> Result<[u8; TAG_BYTES]> {
        let covered = self.covered(place, also);
        match &self.cipher {
            None => Ok(clear_tag(&covered, piece)),
            Some(cipher) => cipher
                .encrypt_inout_detached(&nonce(place), &covered, piece.into())
                .map(Into::into)
                .map_err(|_| Error::internal("a piece is too large to be sealed")),
        }
    }

    /// Opens `piece` where it lies.
    pub fn open(
        &self,
        place: u64,
        also: &[u8],
        piece: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> std::result::Result<(), Damaged> {
        let covered = self.covered(place, also);
        match &self.cipher {
            None if clear_tag(&covered, piece) == *tag => Ok(()),
            None => Err(Damaged),
            Some(cipher) => cipher
                .decrypt_inout_detached(&nonce(place), &covered, piece.into(), &Tag::from(*tag))
                .map_err(|_| Damaged),
        }
    }

    /// Opens a piece that has its tag behind it, and returns how long it is without.
    pub fn open_with_tag(
        &self,
        place: u64,
        also: &[u8],
        sealed: &mut [u8],
    ) -> std::result::Result<usize, Damaged> {
        let length = sealed.len().checked_sub(TAG_BYTES).ok_or(Damaged)?;
        let (piece, tag) = sealed.split_at_mut(length);
        let tag: &[u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| Damaged)?;
        self.open(place, also, piece, tag)?;
        Ok(length)
    }

    fn covered(&self, place: u64, also: &[u8]) -> Vec<u8> {
        let mut covered = Vec::with_capacity(PREFIX_BYTES + 8 + also.len());
        covered.extend_from_slice(&self.prefix);
        covered.extend_from_slice(&place.to_le_bytes());
        covered.extend_from_slice(also);
        covered
    }
}

fn nonce(place: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&place.to_le_bytes());
    Nonce::from(bytes)
}

fn clear_tag(covered: &[u8], piece: &[u8]) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(covered);
    hasher.update(piece);
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&hasher.finalize().as_bytes()[..TAG_BYTES]);
    tag
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{super::object::ObjectKind, *};

    fn prefix(encrypted: bool) -> Prefix {
        Prefix {
            kind: ObjectKind::Pack,
            encrypted,
            repository: Uuid::from_u128(1),
            session: Uuid::from_u128(2),
            id: Uuid::from_u128(3),
        }
    }

    #[test]
    fn i8_a_piece_opens_only_unaltered_at_its_own_place_in_its_own_object() {
        let key = DataKey::generate();
        for encrypted in [false, true] {
            let prefix = prefix(encrypted);
            let sealer = Sealer::new(&prefix, Some(&key)).unwrap();
            let plain = b"a page of a table".to_vec();
            let mut sealed = plain.clone();
            let tag = sealer.seal(7, b"also", &mut sealed).unwrap();
            assert_eq!(sealed == plain, !encrypted);

            let opens = |sealer: &Sealer, place, also: &[u8], flip: Option<usize>| {
                let mut piece = sealed.clone();
                if let Some(at) = flip {
                    piece[at] ^= 1;
                }
                sealer.open(place, also, &mut piece, &tag).map(|()| piece)
            };
            assert_eq!(opens(&sealer, 7, b"also", None).unwrap(), plain);
            assert!(opens(&sealer, 8, b"also", None).is_err(), "another place");
            assert!(opens(&sealer, 7, b"other", None).is_err());
            for at in 0..plain.len() {
                assert!(opens(&sealer, 7, b"also", Some(at)).is_err(), "byte {at}");
            }
            let others = [
                Prefix {
                    id: Uuid::from_u128(9),
                    ..prefix
                },
                Prefix {
                    repository: Uuid::from_u128(9),
                    ..prefix
                },
                Prefix {
                    session: Uuid::from_u128(9),
                    ..prefix
                },
                Prefix {
                    kind: ObjectKind::List,
                    ..prefix
                },
            ];
            for other in others {
                let other = Sealer::new(&other, Some(&key)).unwrap();
                assert!(opens(&other, 7, b"also", None).is_err(), "another object");
            }
        }
        let other_key = Sealer::new(&prefix(true), Some(&DataKey::generate())).unwrap();
        let sealer = Sealer::new(&prefix(true), Some(&key)).unwrap();
        let mut piece = vec![1, 2, 3];
        let tag = sealer.seal(0, &[], &mut piece).unwrap();
        assert!(other_key.open(0, &[], &mut piece, &tag).is_err());
    }
}
