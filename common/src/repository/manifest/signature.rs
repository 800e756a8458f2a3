//! The last bytes of a manifest: who wrote it. Ed25519 over everything before them.

use crate::repository::keys::{WriterKey, WriterPublicKey};

/// Kind, public key, signature.
pub(super) const SIGNATURE_BYTES: usize = 4 + 32 + 64;
const DOMAIN: &[u8] = b"seawall manifest signature 2";
const UNSIGNED: u32 = 0;
const ED25519: u32 = 1;

/// The block that goes behind `object`; zeros without a signer.
pub(super) fn sign(object: &[u8], signer: Option<&WriterKey>) -> [u8; SIGNATURE_BYTES] {
    let mut block = [0; SIGNATURE_BYTES];
    if let Some(signer) = signer {
        block[..4].copy_from_slice(&ED25519.to_le_bytes());
        block[4..36].copy_from_slice(signer.public().bytes());
        block[36..].copy_from_slice(&signer.sign(&message(object)));
    }
    block
}

/// Who signed; an error when the signature does not fit, whoever it is from.
pub(super) fn verify(object: &[u8], block: &[u8]) -> Result<Option<WriterPublicKey>, String> {
    let Some((kind, rest)) = block.split_first_chunk() else {
        return Err("is cut short".into());
    };
    let Some((key, signature)) = rest.split_first_chunk::<32>() else {
        return Err("is cut short".into());
    };
    match u32::from_le_bytes(*kind) {
        UNSIGNED if rest.iter().all(|byte| *byte == 0) => Ok(None),
        ED25519 => {
            let key = WriterPublicKey::from_bytes(*key);
            if key.verifies(&message(object), signature) {
                Ok(Some(key))
            } else {
                Err("is damaged or forged: its signature does not fit".into())
            }
        }
        UNSIGNED => Err("is damaged: it is not signed and has something like a signature".into()),
        kind => Err(format!("has a signature of the unknown kind {kind}")),
    }
}

fn message(object: &[u8]) -> Vec<u8> {
    [DOMAIN, object].concat()
}
