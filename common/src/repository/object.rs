//! The 64 bytes with which every binary object begins. They say what the object is, and every
//! seal in it covers them, so that no object passes for another.

use uuid::Uuid;

use super::header::FORMAT_VERSION;

pub(super) const PREFIX_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"SEAWALL1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectKind {
    Pack = 1,
    /// A part with a piece of the file and chunk list.
    List = 2,
    /// A part with a piece of the pack list; never encrypted.
    PackList = 3,
    Manifest = 4,
    /// The state of a coordinator group.
    GroupState = 5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub kind: ObjectKind,
    pub encrypted: bool,
    pub repository: Uuid,
    /// The session that wrote the object: names the data key.
    pub session: Uuid,
    /// Fresh and random for each object.
    pub id: Uuid,
}

impl Prefix {
    pub fn encode(&self) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = FORMAT_VERSION as u8;
        bytes[9] = self.kind as u8;
        bytes[10] = u8::from(self.encrypted);
        bytes[16..32].copy_from_slice(self.repository.as_bytes());
        bytes[32..48].copy_from_slice(self.session.as_bytes());
        bytes[48..].copy_from_slice(self.id.as_bytes());
        bytes
    }

    /// Reads the beginning of an object that must be of `kind` and of `repository`; otherwise says
    /// what is wrong with it.
    pub fn decode(object: &[u8], kind: ObjectKind, repository: Uuid) -> Result<Self, String> {
        let bytes: &[u8; PREFIX_BYTES] = object
            .first_chunk()
            .ok_or_else(|| format!("is cut short: it has {} bytes", object.len()))?;
        if &bytes[..8] != MAGIC {
            return Err("is not an object of this format".into());
        }
        if u32::from(bytes[8]) != FORMAT_VERSION {
            return Err(format!("has the unknown format version {}", bytes[8]));
        }
        if bytes[9] != kind as u8 {
            return Err(format!(
                "is of kind {} where {kind:?} is expected",
                bytes[9]
            ));
        }
        if bytes[10] > 1 || bytes[11..16] != [0; 5] {
            return Err("has a damaged beginning".into());
        }
        let uuid = |at: usize| {
            let mut id = [0; 16];
            id.copy_from_slice(&bytes[at..at + 16]);
            Uuid::from_bytes(id)
        };
        if uuid(16) != repository {
            return Err(format!("belongs to another repository, {}", uuid(16)));
        }
        Ok(Self {
            kind,
            encrypted: bytes[10] == 1,
            repository,
            session: uuid(32),
            id: uuid(48),
        })
    }
}
