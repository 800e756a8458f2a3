//! What removals would do.

use seawall_proto::v1;

use super::{
    super::{
        human::{size, span_ms, time_short},
        json::word,
    },
    render, shard,
};

/// Of a backup.
pub fn removal(backup: &v1::Backup, plan: &v1::PlanRemovalResponse) -> String {
    let left = match plan.complete_left {
        0 => "no complete backup of the shard would be left".to_owned(),
        1 => "1 complete backup would be left".to_owned(),
        left => format!("{left} complete backups would be left"),
    };
    format!(
        "would remove {}: {}, {}, taken {}\n{left}\n\
         what nobody else needs of it would be deleted after {}",
        backup.name,
        word(backup.state()),
        size(backup.logical_bytes),
        time_short(backup.ended_unix_ms),
        span_ms(plan.grace_ms),
    )
}

/// Of a recipient: its key files, by the backups under whose names they lie.
pub fn recipient_removal(shards: &[v1::ShardRecipientRemoval]) -> String {
    let waits = shards.iter().filter(|of| !of.waits_for.is_empty());
    let waits = waits.map(|of| {
        let shard = shard(of.shard.as_ref());
        format!("{shard}: it would wait: {}", of.waits_for)
    });
    let mut lines: Vec<String> = waits.collect();
    let rows = shards.iter().flat_map(|of| {
        of.backups.iter().map(|keys| {
            vec![
                shard(of.shard.as_ref()),
                keys.backup.clone(),
                keys.going.to_string(),
                keys.staying.to_string(),
            ]
        })
    });
    lines.push(render(&["SHARD", "BACKUP", "GO>", "STAY>"], rows));
    let going = shards.iter().flat_map(|of| &of.backups);
    let going: u64 = going.map(|keys| keys.going).sum();
    lines.push(format!("key files that would be deleted: {going}"));
    lines.join("\n")
}
