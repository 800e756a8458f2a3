//! The bytes of a manifest.

use super::{Body, MANIFEST_BYTES_MAX, ManifestHeader, TOO_LARGE, signature};
use crate::{
    error::{Error, Result},
    repository::{keys::WriterKey, object::Prefix, seal::Sealer},
};

/// The whole object: prefix, header with its hash, sealed body, signature.
/// The header names the signer.
pub(in super::super) fn encode_manifest(
    prefix: &Prefix,
    sealer: &Sealer,
    header: &ManifestHeader,
    body: &Body,
    signer: Option<&WriterKey>,
) -> Result<Vec<u8>> {
    let json = |e: serde_json::Error| Error::internal(format!("cannot write a manifest: {e}"));
    let name = &header.name;
    let header = serde_json::to_vec(header).map_err(json)?;
    let header_hash = blake3::hash(&header);
    let mut body = serde_json::to_vec(body).map_err(json)?;
    let tag = sealer.seal(0, header_hash.as_bytes(), &mut body)?;
    body.extend_from_slice(&tag);

    let mut object = prefix.encode().to_vec();
    object.extend_from_slice(&(header.len() as u32).to_le_bytes());
    object.extend_from_slice(&header);
    object.extend_from_slice(header_hash.as_bytes());
    object.extend_from_slice(&(body.len() as u32).to_le_bytes());
    object.extend_from_slice(&body);
    let signature = signature::sign(&object, signer);
    object.extend_from_slice(&signature);
    if object.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(Error::exhausted(format!(
            "the manifest of backup {name} would have {} bytes, {MANIFEST_BYTES_MAX} are the limit",
            object.len()
        ))
        .hint(TOO_LARGE));
    }
    Ok(object)
}
