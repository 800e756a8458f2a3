//! The random key of one session, and the small content of its key files.

use std::fmt;

use uuid::Uuid;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"SWLLKEY1";
/// Magic, repository id, session id, key.
pub(super) const PLAIN_BYTES: usize = 8 + 16 + 16 + 32;
/// No wrapped key is larger: RSA-4096 recipients make about 900 bytes.
pub(in super::super) const KEY_FILE_BYTES_MAX: u64 = 16 << 10;

/// Everything that a session writes is sealed under keys derived from it.
#[derive(Clone)]
pub(in super::super) struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    pub fn generate() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What a key file holds, before it is wrapped.
    pub(super) fn encode(&self, repository: Uuid, session: Uuid) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(PLAIN_BYTES));
        plain.extend_from_slice(MAGIC);
        plain.extend_from_slice(repository.as_bytes());
        plain.extend_from_slice(session.as_bytes());
        plain.extend_from_slice(self.bytes());
        plain
    }

    pub(super) fn decode(
        plain: &[u8],
        repository: Uuid,
        session: Uuid,
    ) -> Result<Self, &'static str> {
        if plain.len() != PLAIN_BYTES || plain[..8] != MAGIC[..] {
            return Err("it does not hold a data key");
        }
        if plain[8..24] != repository.as_bytes()[..] || plain[24..40] != session.as_bytes()[..] {
            return Err("it belongs to another repository or session");
        }
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&plain[40..]);
        Ok(Self(key))
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}
