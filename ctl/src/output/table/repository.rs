//! A repository as it was read, with no coordinator.

use seawall_common::{
    ids::ShardId,
    repository::{ManifestHeader, Repository, StoredBackup, StoredState},
};

use super::{render, yes_no};
use crate::output::{
    human::{dash, or_dash, size, time_short},
    json::{CheckedRepository, RestoredBackup, stored_state},
};

/// Backups as they lie in a repository.
pub fn stored_backups<'a>(
    repository: &Repository,
    backups: impl Iterator<Item = (&'a ShardId, &'a StoredBackup)>,
) -> String {
    let rows = backups.map(|(of, backup)| {
        let (state, note) = stored_state(&backup.state);
        let header = match &backup.state {
            StoredState::Complete { header, .. } => Some(header),
            _ => None,
        };
        let of_header = |text: fn(&ManifestHeader) -> String| header.map_or_else(dash, |h| text(h));
        vec![
            of.to_string(),
            backup.name.to_string(),
            state.to_owned(),
            of_header(|h| h.epoch.to_string()),
            of_header(|h| or_dash(&h.position.to_string())),
            of_header(|h| time_short(h.ended_unix_ms)),
            of_header(|h| size(h.logical_bytes)),
            of_header(|h| size(h.stored_bytes)),
            of_header(|h| yes_no(h.encrypted)),
            of_header(|h| match h.damaged_pages {
                0 => dash(),
                pages => pages.to_string(),
            }),
            header.map_or_else(dash, |h| writer(repository, h)),
            or_dash(note.unwrap_or_default()),
        ]
    });
    render(
        &[
            "SHARD",
            "NAME",
            "STATE",
            "EPOCH>",
            "POSITION",
            "ENDED",
            "SIZE>",
            "NEW>",
            "ENCRYPTED",
            "DAMAGED PAGES>",
            "SIGNED BY",
            "NOTE",
        ],
        rows,
    )
}

/// The beginning of the writer's key, and what the pins make of it.
fn writer(repository: &Repository, header: &ManifestHeader) -> String {
    let key = match header.writer_key.get(..16) {
        Some(start) => format!("{start}..."),
        None => "nobody".to_owned(),
    };
    match repository.check_writer(header) {
        Ok(()) => key,
        Err(_) => format!("{key} (NOT TRUSTED)"),
    }
}

/// What `repository check` found: damage first.
pub fn checked_repository(checked: &CheckedRepository) -> String {
    let mut text = String::new();
    for damage in &checked.damage {
        text.push_str(&format!(
            "DAMAGED  object {} {}\n",
            damage.object, damage.what
        ));
    }
    for differs in checked.catalogue.iter().flatten() {
        let word = if differs.damage { "DAMAGED" } else { "differs" };
        text.push_str(&format!(
            "{word}  backup {} of {}/{}: {}\n",
            differs.name, differs.keyspace, differs.shard, differs.what
        ));
    }
    let number = |number: Option<u64>| number.map_or_else(dash, |n| n.to_string());
    let rows = checked.backups.iter().map(|backup| {
        vec![
            format!("{}/{}", backup.keyspace, backup.shard),
            backup.name.clone(),
            backup.state.to_owned(),
            number(backup.packs),
            number(backup.packs_read),
            number(backup.chunks_checked),
            number(backup.damaged_objects),
        ]
    });
    text.push_str(&render(
        &[
            "SHARD", "NAME", "STATE", "PACKS>", "READ>", "CHUNKS>", "DAMAGED>",
        ],
        rows,
    ));
    for (what, objects) in [
        ("nobody refers to", &checked.unneeded),
        ("of unfinished backups:", &checked.unfinished),
        ("of no known kind:", &checked.unknown),
    ] {
        if objects.objects > 0 {
            let first = objects.named.first().map_or("", String::as_str);
            text.push_str(&format!(
                "\n{what} {} objects, {}: {first}{}",
                objects.objects,
                size(objects.bytes),
                if objects.objects > 1 { ", ..." } else { "" }
            ));
        }
    }
    for note in &checked.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    for unchecked in &checked.not_checked {
        text.push_str(&format!("\nnot checked: {unchecked}"));
    }
    text.push_str(if checked.clean {
        "\nno damage found"
    } else {
        "\ndamaged"
    });
    text
}

/// What `repository restore` has done, or would do, and what is left to do.
pub fn restored_backup(restored: &RestoredBackup) -> String {
    let mut text = format!(
        "{} {} of {}/{}: {} in {} files",
        if restored.dry_run {
            "would restore"
        } else {
            "restored"
        },
        restored.name,
        restored.keyspace,
        restored.shard,
        size(restored.logical_bytes),
        restored.files,
    );
    if let (Some(resumed @ 1..), Some(missing)) = (restored.resumed_bytes, restored.missing_bytes) {
        text.push_str(&format!(
            "\n  gone on with: {} were here already, {} were fetched",
            size(resumed),
            size(missing)
        ));
    }
    if restored.damaged_pages > 0 {
        let pages = restored.damaged_pages;
        text.push_str(&format!(
            "\n  DAMAGED PAGES, as they were in the database: {pages}"
        ));
    }
    for root in &restored.roots {
        text.push_str(&format!("\n  {} to {}", root.name, root.path));
    }
    text.push_str(&format!(
        "\nposition: {} (epoch {})\nsigned by: {}{}\nnot checked:",
        or_dash(restored.position.as_deref().unwrap_or_default()),
        restored.epoch,
        restored.writer_key.as_deref().unwrap_or("nobody"),
        if restored.writer_is_trusted {
            ", a trusted writer"
        } else {
            ""
        },
    ));
    for open in &restored.not_checked {
        text.push_str(&format!("\n  - {open}"));
    }
    text.push_str("\nto start a server on it:");
    for (number, step) in restored.next_steps.iter().enumerate() {
        text.push_str(&format!("\n  {}. {step}", number + 1));
    }
    text
}
