//! What can be read of a backup without a key: manifest, parts, pack lists, sizes of packs.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use object_store::path::Path;
use uuid::Uuid;

use super::report::{Damage, VerifyReport};
use crate::{
    error::{Error, ErrorKind, Result},
    ids::{BackupName, ShardId},
    repository::{
        header::Repository,
        layout,
        manifest::{
            MANIFEST_BYTES_MAX, ManifestHeader, PackRecord, check_origins, decode_header,
            get_pack_list, get_part_object,
        },
        object::Prefix,
    },
};

pub(super) struct Outline {
    /// The whole manifest.
    pub object: Bytes,
    pub prefix: Prefix,
    pub header: ManifestHeader,
    pub packs: Vec<PackRecord>,
    /// Every part is what was written: without that the lists cannot be followed to the packs.
    pub parts_are_whole: bool,
}

impl Outline {
    /// `None`: the manifest itself is damaged, so nothing else can be found. Without `lists` only
    /// the pack lists are read of the parts.
    pub async fn read(
        repository: &Repository,
        shard: &ShardId,
        name: &BackupName,
        expected_hash: Option<&str>,
        lists: bool,
        report: &mut VerifyReport,
    ) -> Result<Option<Self>> {
        let key = layout::manifest(shard, name);
        let Some(object) =
            get_manifest(repository, shard, name, expected_hash.is_some(), report).await?
        else {
            return Ok(None);
        };
        report.bytes_read += object.len() as u64;
        let hash = blake3::hash(&object).to_hex();
        if let Some(expected) = expected_hash
            && expected != hash.as_str()
        {
            report.damaged(object_damage(
                &key,
                format!(
                    "is not the manifest that the catalogue knows: its hash is {hash}, not {expected}"
                ),
            ));
            return Ok(None);
        }
        let (prefix, header, _) = match decode_header(&object, repository.uuid(), shard, name) {
            Ok(decoded) => decoded,
            Err(why) => {
                report.damaged(object_damage(&key, why));
                return Ok(None);
            }
        };
        let mut outline = Self {
            object,
            prefix,
            header,
            packs: Vec::new(),
            parts_are_whole: true,
        };
        if lists {
            outline.read_lists(repository, report).await?;
        }
        outline.read_pack_lists(repository, report).await?;
        report.packs = outline.packs.len() as u64;
        if let Err(why) = check_origins(&outline.header, &outline.prefix, &outline.packs) {
            report.damaged(object_damage(&key, why));
            outline.parts_are_whole = false;
        }
        Ok(Some(outline))
    }

    async fn read_lists(
        &mut self,
        repository: &Repository,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let header = &self.header;
        for part in &header.lists {
            let found = get_part_object(repository, header, part).await.map(drop);
            let is_whole = note(found, &self.part_key(part.number), report)?.is_some();
            self.parts_are_whole &= is_whole;
            report.bytes_read += part.bytes;
        }
        Ok(())
    }

    async fn read_pack_lists(
        &mut self,
        repository: &Repository,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let header = &self.header;
        for part in &header.pack_lists {
            let found = get_pack_list(repository, header, &self.prefix, part).await;
            match note(found, &self.part_key(part.number), report)? {
                Some(packs) => self.packs.extend(packs),
                None => self.parts_are_whole = false,
            }
            report.bytes_read += part.bytes;
        }
        Ok(())
    }

    pub fn part_key(&self, number: u32) -> Path {
        layout::part(&self.header.shard, &self.header.name, number)
    }

    pub fn manifest_key(&self) -> Path {
        layout::manifest(&self.header.shard, &self.header.name)
    }

    pub fn pack_key(&self, pack: &PackRecord) -> Path {
        layout::pack(&self.header.shard, &pack.origin.backup, pack.id)
    }

    /// Numbers of the packs that are missing or have another size than the list says.
    pub async fn check_sizes(
        &self,
        repository: &Repository,
        report: &mut VerifyReport,
    ) -> Result<BTreeSet<usize>> {
        let shard = &self.header.shard;
        let backups: BTreeSet<_> = self.packs.iter().map(|p| &p.origin.backup).collect();
        let mut sizes: HashMap<(&BackupName, Uuid), u64> = HashMap::new();
        for backup in backups {
            let prefix = layout::backup_packs(shard, backup);
            for object in repository.store().list(&prefix).await? {
                if let Some(id) = object.key.filename().and_then(|n| Uuid::try_parse(n).ok()) {
                    sizes.insert((backup, id), object.bytes);
                }
            }
        }
        let mut bad = BTreeSet::new();
        for (number, pack) in self.packs.iter().enumerate() {
            let what = match sizes.get(&(&pack.origin.backup, pack.id)) {
                Some(bytes) if *bytes == u64::from(pack.bytes) => continue,
                Some(bytes) => {
                    format!("is damaged: it has {bytes} bytes, not {}", pack.bytes)
                }
                None => "is missing".to_owned(),
            };
            bad.insert(number);
            report.damaged(self.pack_damage(pack, what));
        }
        Ok(bad)
    }

    pub fn pack_damage(&self, pack: &PackRecord, what: String) -> Damage {
        Damage {
            pack: Some(pack.id),
            ..object_damage(&self.pack_key(pack), what)
        }
    }
}

/// `is_known`: the catalogue has it as complete, so that a manifest that is not there was lost.
async fn get_manifest(
    repository: &Repository,
    shard: &ShardId,
    name: &BackupName,
    is_known: bool,
    report: &mut VerifyReport,
) -> Result<Option<Bytes>> {
    let removed = layout::removed(shard, name);
    if repository.store().exists(&removed).await? {
        return Err(Error::not_found(format!(
            "backup {name} of {shard} was given up or removed"
        )));
    }
    let key = layout::manifest(shard, name);
    match repository.store().get(&key, MANIFEST_BYTES_MAX).await {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            // A store that is not mounted must not read as a lost manifest.
            repository.check_there().await?;
            if is_known {
                report.damaged(object_damage(&key, "is missing"));
                return Ok(None);
            }
            Err(
                Error::not_found(format!("{shard} has no complete backup {name}"))
                    .hint("ListBackups shows what there is."),
            )
        }
        other => note(other, &key, report),
    }
}

pub(super) fn object_damage(key: &Path, what: impl Into<String>) -> Damage {
    Damage {
        object: key.to_string(),
        what: what.into(),
        pack: None,
    }
}

/// What was read; damage is noted and read over, any other failure ends the verification.
pub(super) fn note<T>(read: Result<T>, key: &Path, report: &mut VerifyReport) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            let begin = format!("object {key} ");
            let what = e.message().strip_prefix(&begin).unwrap_or(e.message());
            report.damaged(object_damage(key, what));
            Ok(None)
        }
        Err(e) => Err(e),
    }
}
