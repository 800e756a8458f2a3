//! Reads a manifest and believes nothing of it before it was checked (I8): versions, sizes, counts,
//! hashes, seals, names, paths.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Body, DAMAGED_PAGES_MAX, LISTS_MAX, MANIFEST_BYTES_MAX, Manifest, ManifestHeader,
    PACK_LISTS_MAX, PART_BYTES_MAX, PackRecord, PartRecord, ROOTS_MAX,
    packs::decode_pack_list,
    part::{get_part, load_key},
    signature::{self, SIGNATURE_BYTES},
};
use crate::{
    error::{Error, ErrorKind, Result},
    ids::{BackupName, ShardId},
    repository::{
        check::{ListChecker, Seen},
        chunk::CHUNK_BYTES,
        header::{FORMAT_VERSION, Repository},
        keys::DataKey,
        layout,
        list::Records,
        object::{ObjectKind, PREFIX_BYTES, Prefix},
        seal::Sealer,
    },
};

/// Reads and checks the manifest of a backup and all that it names but the packs' contents.
///
/// `expected_hash`: what the catalogue says; another manifest is [`ErrorKind::Corrupt`]. A backup
/// that was removed, or never completed, is [`ErrorKind::NotFound`] (I2). An encrypted one needs
/// the repository's identity.
pub async fn read_manifest(
    repository: &Repository,
    shard: &ShardId,
    name: &BackupName,
    expected_hash: Option<&str>,
) -> Result<Manifest> {
    let key = layout::manifest(shard, name);
    let object = match repository.store().get(&key, MANIFEST_BYTES_MAX).await {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(
                Error::not_found(format!("{shard} has no complete backup {name}"))
                    .hint("ListBackups shows what there is."),
            );
        }
        other => other?,
    };
    if repository
        .store()
        .exists(&layout::removed(shard, name))
        .await?
    {
        return Err(Error::not_found(format!(
            "backup {name} of {shard} was given up or removed"
        )));
    }
    let hash = blake3::hash(&object).to_hex().to_string();
    if let Some(expected) = expected_hash
        && expected != hash
    {
        return Err(Error::corrupt(format!(
            "object {key} is not the manifest that the catalogue knows: its hash is {hash}, not {expected}"
        )));
    }
    let damaged = |why: String| Error::corrupt(format!("object {key} {why}"));
    let (prefix, header, sealed) =
        decode_header(&object, repository.uuid(), shard, name).map_err(damaged)?;
    repository.check_writer(&header)?;

    let mut keys = BTreeMap::new();
    if prefix.encrypted {
        let data_key = load_key(repository, shard, name, prefix.session).await?;
        keys.insert(prefix.session, data_key);
    }
    let body = open_body(&prefix, keys.get(&prefix.session), sealed)?.map_err(damaged)?;

    let mut packs = Vec::new();
    for part in &header.pack_lists {
        packs.extend(get_pack_list(repository, &header, &prefix, part).await?);
    }
    check_origins(&header, &prefix, &packs).map_err(damaged)?;
    for pack in &packs {
        let origin = &pack.origin;
        if origin.encrypted && !keys.contains_key(&origin.session) {
            let key = load_key(repository, shard, &origin.backup, origin.session).await?;
            keys.insert(origin.session, key);
        }
    }
    let mut manifest = Manifest {
        header,
        hash,
        operation: body.operation,
        token: body.token,
        details: body.details,
        roots: body.roots,
        packs,
        damaged_pages: body.damaged_pages,
        users: body.users,
        groups: body.groups,
        seen: Vec::new(),
        prefix,
        keys: Arc::new(keys),
    };
    manifest.seen = check_lists(repository, &manifest).await?;
    Ok(manifest)
}

type Checked<T = ()> = std::result::Result<T, String>;

/// The clear beginning of a manifest, checked against the place where it lay, and what follows.
pub(in super::super) fn decode_header<'a>(
    object: &'a [u8],
    repository: Uuid,
    shard: &ShardId,
    name: &BackupName,
) -> Checked<(Prefix, ManifestHeader, Sealed<'a>)> {
    let short = || "is cut short".to_owned();
    let prefix = Prefix::decode(object, ObjectKind::Manifest, repository)?;
    let (length, rest) = object[PREFIX_BYTES..]
        .split_first_chunk()
        .ok_or_else(short)?;
    let (json, rest) = rest
        .split_at_checked(u32::from_le_bytes(*length) as usize)
        .ok_or_else(short)?;
    let (header_hash, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
    if blake3::hash(json).as_bytes() != header_hash {
        return Err("has an altered header".into());
    }
    let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (body, signature) = rest
        .split_at_checked(u32::from_le_bytes(*length) as usize)
        .ok_or_else(short)?;
    if signature.len() != SIGNATURE_BYTES {
        return Err("does not end where it says".into());
    }
    let header: ManifestHeader =
        serde_json::from_slice(json).map_err(|e| format!("has a header that says {e}"))?;
    check_header(&header, &prefix, shard, name)?;
    let signed = &object[..object.len() - SIGNATURE_BYTES];
    let writer = signature::verify(signed, signature)?;
    if header.writer_key != writer.map_or_else(String::new, |key| key.to_string()) {
        return Err("has a header that names another writer than its signature".into());
    }
    let sealed = Sealed {
        header_hash: *header_hash,
        body,
    };
    Ok((prefix, header, sealed))
}

/// A manifest's body, not opened yet.
pub(in super::super) struct Sealed<'a> {
    header_hash: [u8; 32],
    body: &'a [u8],
}

fn check_header(
    header: &ManifestHeader,
    prefix: &Prefix,
    shard: &ShardId,
    name: &BackupName,
) -> Checked {
    if header.version != FORMAT_VERSION {
        return Err(format!("has the unknown format version {}", header.version));
    }
    if header.name != *name || header.shard != *shard {
        return Err(format!(
            "is the manifest of {} of {}",
            header.name, header.shard
        ));
    }
    if header.chunk_bytes as usize != CHUNK_BYTES || header.encrypted != prefix.encrypted {
        return Err("has a header that contradicts itself".into());
    }
    if header.lists.len() > LISTS_MAX || header.pack_lists.len() > PACK_LISTS_MAX {
        return Err("names more parts than there can be".into());
    }
    let mut numbers = BTreeSet::new();
    for part in header.lists.iter().chain(&header.pack_lists) {
        if part.bytes > PART_BYTES_MAX {
            return Err(format!(
                "names a part {} of {} bytes",
                part.number, part.bytes
            ));
        }
        if !numbers.insert(part.number) {
            return Err(format!("names part {} twice", part.number));
        }
    }
    Ok(())
}

pub(in super::super) fn open_body(
    prefix: &Prefix,
    key: Option<&DataKey>,
    sealed: Sealed<'_>,
) -> Result<Checked<Body>> {
    let mut bytes = sealed.body.to_vec();
    let sealer = Sealer::new(prefix, key)?;
    let Ok(length) = sealer.open_with_tag(0, &sealed.header_hash, &mut bytes) else {
        return Ok(Err("is damaged: its seal does not fit".into()));
    };
    Ok(serde_json::from_slice::<Body>(&bytes[..length])
        .map_err(|e| format!("has a body that says {e}"))
        .and_then(|body| {
            let names: BTreeSet<&str> = body.roots.iter().map(|r| r.name.as_str()).collect();
            if names.len() != body.roots.len() || names.len() > ROOTS_MAX {
                return Err("names a root twice, or too many".into());
            }
            if body.damaged_pages.len() > DAMAGED_PAGES_MAX {
                return Err("names more damaged pages than it may".into());
            }
            Ok(body)
        }))
}

/// Every pack lies where this backup, or one that it says it refers to, has put it.
pub(in super::super) fn check_origins(
    header: &ManifestHeader,
    prefix: &Prefix,
    packs: &[PackRecord],
) -> Checked {
    let referred: BTreeSet<&BackupName> = header.refers_to.iter().collect();
    for pack in packs {
        let origin = &pack.origin;
        let own = origin.backup == header.name;
        if !own && !referred.contains(&origin.backup) {
            return Err(format!(
                "needs packs of {} and does not say so",
                origin.backup
            ));
        }
        if own && origin.session == prefix.session && origin.encrypted != prefix.encrypted {
            return Err("has a pack list that contradicts it".into());
        }
    }
    Ok(())
}

pub(in super::super) async fn get_pack_list(
    repository: &Repository,
    header: &ManifestHeader,
    prefix: &Prefix,
    part: &PartRecord,
) -> Result<Vec<PackRecord>> {
    let session = (prefix.session, None);
    let payload = get_part(repository, header, part, ObjectKind::PackList, session).await?;
    decode_pack_list(&payload).ok_or_else(|| {
        let key = layout::part(&header.shard, &header.name, part.number);
        Error::corrupt(format!("object {key} is no pack list"))
    })
}

/// Reads every list part once, so that a restore does not begin what it cannot end.
async fn check_lists(repository: &Repository, manifest: &Manifest) -> Result<Vec<Seen>> {
    let header = &manifest.header;
    let mut checker = ListChecker::new(manifest.roots.len(), manifest.packs.clone().into());
    for part in &header.lists {
        let payload = manifest.get_list(repository, part).await?;
        let key = layout::part(&header.shard, &header.name, part.number);
        checker = tokio::task::spawn_blocking(move || {
            for record in Records::new(&payload) {
                record
                    .and_then(|record| checker.check(&record))
                    .map_err(|why| Error::corrupt(format!("object {key} {why}")))?;
            }
            Ok::<_, Error>(checker)
        })
        .await
        .map_err(|e| Error::internal(format!("the thread that checks a list died: {e}")))??;
    }
    let key = layout::manifest(&header.shard, &header.name);
    let damaged = |why: String| Error::corrupt(format!("object {key} {why}"));
    let seen = checker.finish().map_err(damaged)?;
    check_totals(header, &seen).map_err(damaged)?;
    Ok(seen)
}

/// The lists hold what the header says.
pub(in super::super) fn check_totals(header: &ManifestHeader, seen: &[Seen]) -> Checked {
    let files: u64 = seen.iter().map(|root| root.files).sum();
    let bytes: u128 = seen.iter().map(|root| u128::from(root.logical_bytes)).sum();
    if files == header.files && bytes == u128::from(header.logical_bytes) {
        return Ok(());
    }
    Err(format!(
        "says {} files of {} bytes, its lists {files} files of {bytes} bytes",
        header.files, header.logical_bytes
    ))
}

impl Manifest {
    /// The records of one list part.
    pub(in super::super) async fn get_list(
        &self,
        repository: &Repository,
        part: &PartRecord,
    ) -> Result<Bytes> {
        let session = self.prefix.session;
        let key = self.keys.get(&session).cloned();
        get_part(
            repository,
            &self.header,
            part,
            ObjectKind::List,
            (session, key),
        )
        .await
    }
}
