//! Tables with aligned columns and no lines, as they survive `awk` and a narrow terminal.

mod removals;
mod repository;
mod transfers;

use comfy_table::{CellAlignment, Table, presets};
use seawall_common::{clock::now_unix_ms, error::one_line};
use seawall_proto::v1;

use super::{
    human::{age, dash, or_dash, size, span_ms, time_short},
    json::{BackupRef, kind_and_alias, word},
};

pub use removals::{recipient_removal, removal};
pub use repository::{checked_repository, restored_backup, stored_backups};
pub use transfers::transfers;

/// Columns whose heads end in `>` are aligned to the right.
pub fn render(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(heads.iter().map(|head| head.trim_end_matches('>')));
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)));
    }
    for (column, head) in table.column_iter_mut().zip(heads) {
        column.set_padding((0, 2));
        if head.ends_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// One thing in full: a line for each of its fields.
pub fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs
        .iter()
        .map(|(name, value)| {
            format!(
                "{:<width$}  {}",
                format!("{name}:"),
                one_line(value),
                width = width + 1
            )
        })
        .collect::<Vec<_>>()
        .join("\n")
}

pub fn tablets(tablets: &[v1::Tablet]) -> String {
    let now = now_unix_ms();
    let rows = tablets.iter().map(|tablet| {
        let status = tablet.status.as_ref();
        let serving = match status {
            _ if tablet.silent => "silent",
            None => "?",
            Some(_) if tablet.serving => "yes",
            Some(_) => "no",
        };
        vec![
            tablet.alias.clone(),
            shard(tablet.shard.as_ref()),
            word(tablet.r#type()),
            serving.to_owned(),
            or_dash(status.map_or("", |s| &s.position)),
            status.and_then(|s| s.lag_ms).map_or_else(dash, span_ms),
            match tablet.epoch {
                0 => dash(),
                epoch => epoch.to_string(),
            },
            or_dash(status.map_or("", |s| short_version(&s.engine_version))),
            age(tablet.last_seen_unix_ms, now),
            status.map_or_else(|| "not heard of".to_owned(), |s| or_dash(&s.message)),
        ]
    });
    render(
        &[
            "ALIAS", "SHARD", "TYPE", "SERVING", "POSITION", "LAG>", "EPOCH>", "VERSION", "SEEN>",
            "MESSAGE",
        ],
        rows,
    )
}

pub fn backups(backups: &[v1::Backup]) -> String {
    let noted = backups.iter().any(|backup| !backup.note.is_empty());
    let mut heads = vec![
        "NAME", "STATE", "POSITION", "SIZE>", "NEW>", "TOOK>", "VERIFIED",
    ];
    if noted {
        heads.push("NOTE");
    }
    let rows = backups.iter().map(|backup| {
        let complete = backup.state() == v1::BackupState::Complete;
        let known = |bytes| if complete { size(bytes) } else { dash() };
        let mut row = vec![
            backup.name.clone(),
            word(backup.state()),
            or_dash(&backup.position),
            known(backup.logical_bytes),
            known(backup.stored_bytes),
            took(backup.started_unix_ms, backup.ended_unix_ms),
            last_verification(backup),
        ];
        if noted {
            row.push(or_dash(&backup.note));
        }
        row
    });
    render(&heads, rows)
}

/// How and when a backup was looked at last: a restore test says more than reading it back, and a
/// failure that nothing has made good says more than either.
fn last_verification(backup: &v1::Backup) -> String {
    let verified = backup.verified.as_ref().map(|v| (v, "read"));
    let tested = backup.tested.as_ref().map(|v| (v, "restored"));
    let last = verified.into_iter().chain(tested);
    last.max_by_key(|(v, _)| (!v.passed, v.at_unix_ms))
        .map_or_else(dash, |(v, how)| verification(v, how))
}

fn verification(verification: &v1::Verification, how: &str) -> String {
    let share = match verification.percent {
        100 => String::new(),
        percent => format!(" {percent}%"),
    };
    let at = time_short(verification.at_unix_ms);
    match verification.passed {
        true => format!("{how}{share} {at}"),
        false => format!("DAMAGED {at}"),
    }
}

fn verification_in_full(last: Option<&v1::Verification>, how: &str) -> String {
    last.map_or_else(dash, |v| {
        format!("{} on {}: {}", verification(v, how), v.alias, v.message)
    })
}

pub fn backup(backup: &v1::Backup) -> String {
    fields(&[
        ("name", backup.name.clone()),
        ("shard", shard(backup.shard.as_ref())),
        ("tablet", backup.alias.clone()),
        ("state", word(backup.state())),
        (
            "engine",
            format!("{} {}", backup.engine, backup.engine_version),
        ),
        ("epoch", backup.epoch.to_string()),
        ("position", or_dash(&backup.position)),
        ("began", time_short(backup.started_unix_ms)),
        ("ended", time_short(backup.ended_unix_ms)),
        ("took", took(backup.started_unix_ms, backup.ended_unix_ms)),
        (
            "size",
            format!("{} in {} files", size(backup.logical_bytes), backup.files),
        ),
        ("new bytes", size(backup.stored_bytes)),
        ("damaged pages", backup.damaged_pages.to_string()),
        ("encrypted", yes_no(backup.encrypted)),
        ("manifest", or_dash(&backup.manifest_hash)),
        ("operation", or_dash(&backup.operation_id)),
        ("pinned", pinned(backup)),
        ("writer", or_dash(&backup.writer_key)),
        (
            "verified",
            verification_in_full(backup.verified.as_ref(), "read"),
        ),
        (
            "tested",
            verification_in_full(backup.tested.as_ref(), "restored"),
        ),
        ("note", or_dash(&backup.note)),
    ])
}

fn pinned(backup: &v1::Backup) -> String {
    match (backup.pinned, backup.pinned_until_unix_ms) {
        (false, _) => "no".to_owned(),
        (true, 0) => "yes".to_owned(),
        (true, until) => format!("until {}", time_short(until)),
    }
}

/// What came of backups of several shards.
pub fn backup_refs(refs: &[BackupRef]) -> String {
    let rows = refs.iter().map(|backup| {
        vec![
            backup.shard_name(),
            backup.backup.clone().unwrap_or_else(dash),
            backup.state.clone(),
            backup.error.clone().unwrap_or_else(dash),
        ]
    });
    render(&["SHARD", "BACKUP", "STATE", "ERROR"], rows)
}

pub fn operations(operations: &[v1::Operation]) -> String {
    let now = now_unix_ms();
    let rows = operations.iter().map(|operation| {
        let (kind, alias) = kind_and_alias(operation);
        let progress = operation.progress.as_ref();
        let at = progress.map_or("", |progress| progress.message.as_str());
        let told = [operation.error.as_str(), at, operation.result.as_str()];
        let outcome = told.into_iter().find(|text| !text.is_empty());
        vec![
            operation.id.clone(),
            kind.to_owned(),
            shard(operation.shard.as_ref()),
            or_dash(&alias.unwrap_or_default()),
            word(operation.state()),
            current_step(operation).map_or_else(dash, |step| step.name.clone()),
            age(Some(operation.created_unix_ms), now),
            took(operation.created_unix_ms, operation.finished_unix_ms),
            outcome.map_or_else(dash, str::to_owned),
        ]
    });
    render(
        &[
            "ID", "KIND", "SHARD", "TABLET", "STATE", "STEP", "AGE>", "TOOK>", "OUTCOME",
        ],
        rows,
    )
}

pub fn operation(operation: &v1::Operation) -> String {
    let (kind, alias) = kind_and_alias(operation);
    let head = fields(&[
        ("id", operation.id.clone()),
        ("kind", kind.to_owned()),
        ("shard", shard(operation.shard.as_ref())),
        ("tablet", or_dash(&alias.unwrap_or_default())),
        ("backup", or_dash(&operation.backup)),
        ("state", word(operation.state())),
        ("attempt", operation.attempt.to_string()),
        ("began", time_short(operation.created_unix_ms)),
        ("deadline", time_short(operation.deadline_unix_ms)),
        ("ended", time_short(operation.finished_unix_ms)),
        ("error", or_dash(&operation.error)),
        ("result", or_dash(&operation.result)),
    ]);
    let steps = operation.steps.iter().map(|step| {
        vec![
            step.name.clone(),
            time_short(step.started_unix_ms),
            took(step.started_unix_ms, step.ended_unix_ms),
            or_dash(&step.error),
        ]
    });
    format!(
        "{head}\n\n{}",
        render(&["STEP", "BEGAN", "TOOK>", "ERROR"], steps)
    )
}

pub fn holds(list: &v1::ListHoldsResponse) -> String {
    let now = now_unix_ms();
    let held = list.holds.iter().map(|hold| {
        vec![
            hold.id.clone(),
            word(hold.side()),
            scope(hold.scope.as_ref()),
            hold.owner.clone(),
            or_dash(&hold.reason),
            age(Some(hold.granted_unix_ms), now),
            match hold.expires_unix_ms {
                0 => "while kept alive".to_owned(),
                at => time_short(at),
            },
            hold.token.to_string(),
        ]
    });
    let mut text = render(
        &[
            "ID", "SIDE", "SCOPE", "OWNER", "REASON", "AGE>", "UNTIL", "TOKEN>",
        ],
        held,
    );
    if !list.broken.is_empty() {
        let broken = list.broken.iter().map(|broken| {
            let hold = broken.hold.clone().unwrap_or_default();
            vec![
                hold.id.clone(),
                hold.owner,
                time_short(broken.broken_unix_ms),
                broken.operator.clone(),
                broken.reason.clone(),
            ]
        });
        text.push_str("\n\nbroken by hand:\n");
        text.push_str(&render(&["ID", "OWNER", "WHEN", "BY", "REASON"], broken));
    }
    text
}

pub fn epochs(epochs: &[v1::Epoch]) -> String {
    let rows = epochs.iter().map(|epoch| {
        vec![
            epoch.number.to_string(),
            epoch.alias.clone(),
            epoch.server_id.to_string(),
            or_dash(&epoch.start_position),
            time_short(epoch.began_unix_ms),
        ]
    });
    render(
        &["EPOCH>", "PRIMARY", "SERVER>", "FROM POSITION", "SINCE"],
        rows,
    )
}

/// `10.11.19` of `10.11.19-MariaDB-0+deb12u1-log`.
fn short_version(version: &str) -> &str {
    version.split('-').next().unwrap_or(version)
}

/// The step under way, or the last one.
pub fn current_step(operation: &v1::Operation) -> Option<&v1::OperationStep> {
    let open = operation.steps.iter().find(|step| step.ended_unix_ms == 0);
    open.or(operation.steps.last())
}

pub fn shard(shard: Option<&v1::ShardRef>) -> String {
    shard.map_or_else(dash, |shard| format!("{}/{}", shard.keyspace, shard.shard))
}

fn scope(scope: Option<&v1::LockScope>) -> String {
    match scope {
        Some(scope) if !scope.shard.is_empty() => format!("{}/{}", scope.keyspace, scope.shard),
        Some(scope) if !scope.keyspace.is_empty() => scope.keyspace.clone(),
        _ => "cluster".to_owned(),
    }
}

fn took(from_unix_ms: u64, to_unix_ms: u64) -> String {
    match to_unix_ms {
        0 => dash(),
        to => span_ms(to.saturating_sub(from_unix_ms)),
    }
}

pub fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}
