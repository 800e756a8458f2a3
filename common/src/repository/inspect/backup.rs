//! One backup: everything that it reaches, as closely as it was asked for and the keys allow.

use super::{InspectedBackup, Inspection, Inspector};
use crate::{
    error::{ErrorKind, Result},
    ids::{BackupName, ShardId},
    repository::{
        StoredBackup, StoredState, layout,
        manifest::read_manifest,
        verify::{Depth, VerifyOptions, VerifyReport},
    },
};

pub(super) async fn inspect(
    inspector: &mut Inspector<'_>,
    shard: &ShardId,
    backup: &StoredBackup,
    found: &mut Inspection,
) -> Result<()> {
    let name = &backup.name;
    let mut inspected = InspectedBackup {
        shard: shard.clone(),
        name: name.clone(),
        state: backup.state.clone(),
        report: None,
    };
    match &backup.state {
        StoredState::Complete {
            header,
            manifest_hash,
        } => {
            if let Err(forged) = inspector.repository.check_writer(header) {
                note_manifest(shard, name, forged.message(), found);
                found.backups.push(inspected);
                return Ok(());
            }
            let report = read_back(inspector, shard, backup, manifest_hash, found).await?;
            inspected.report = report.map(|report| found.add_report(shard, report));
        }
        StoredState::Broken { reason } => {
            note_manifest(shard, name, reason, found);
        }
        StoredState::Incomplete | StoredState::Removed { .. } => {}
    }
    found.backups.push(inspected);
    Ok(())
}

/// `why`: as an error says it, with or without the name of the object.
fn note_manifest(shard: &ShardId, name: &BackupName, why: &str, found: &mut Inspection) {
    let key = layout::manifest(shard, name).to_string();
    let what = why.strip_prefix(&format!("object {key} ")).unwrap_or(why);
    found.note_damage(key, what.to_owned());
}

/// `None`: it was removed while this was looking.
async fn read_back(
    inspector: &mut Inspector<'_>,
    shard: &ShardId,
    backup: &StoredBackup,
    manifest_hash: &str,
    found: &mut Inspection,
) -> Result<Option<VerifyReport>> {
    let name = &backup.name;
    let concurrency = inspector.options.concurrency;
    let verifier = &mut inspector.verifier;
    let mut read = async |depth| {
        let options = VerifyOptions {
            depth,
            ..VerifyOptions::full(concurrency)
        };
        verifier
            .verify(shard, name, Some(manifest_hash), &options)
            .await
    };
    let wanted = match inspector.options.read_data {
        true => Depth::Chunks,
        false => Depth::Listed,
    };
    let report = match read(wanted).await {
        Err(e) if wanted == Depth::Chunks && is_about_keys(e.kind()) => {
            found.cannot_check(format!(
                "the chunks and the lists of {name} of {shard}, only the hashes of their objects: {e}"
            ));
            return read(Depth::Hashes).await.map(Some);
        }
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if wanted == Depth::Listed && report.passed() {
        let manifest = read_manifest(inspector.repository, shard, name, Some(manifest_hash)).await;
        match manifest {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) if is_about_keys(e.kind()) => found.cannot_check(format!(
                "the lists of {name} of {shard}, only their hashes: {e}"
            )),
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                let key = layout::manifest(shard, name).to_string();
                found.note_damage(key, format!("or what it names is damaged: {}", e.message()));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(Some(report))
}

/// No identity, or one that opens nothing: not damage.
fn is_about_keys(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Invalid | ErrorKind::Refused)
}
