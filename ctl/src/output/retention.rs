//! Tables of what is kept and what goes.

use seawall_proto::v1;

use super::{
    human::{dash, or_dash, size, span_ms},
    table::{render, shard},
};

/// The coordinator says why, and what is to be done.
pub fn stopped(why: &str) -> String {
    format!("retention stands still: {why}")
}

/// Backups that go by a rule.
pub fn expired(expired: &[v1::ExpiredBackup]) -> String {
    let rows = expired.iter().map(|backup| {
        vec![
            shard(backup.shard.as_ref()),
            backup.name.clone(),
            backup.reason.clone(),
        ]
    });
    render(&["SHARD", "BACKUP", "WHY"], rows)
}

/// What is in force for each shard.
pub fn retention(shards: &[v1::ShardRetention]) -> String {
    let number = |number: Option<u32>| number.map_or_else(dash, |number| number.to_string());
    let rows = shards.iter().map(|of| {
        let policy = of.policy.as_ref();
        let tier = |tier: fn(&v1::RetentionPolicy) -> u32| {
            number(policy.map(tier).filter(|number| *number > 0))
        };
        vec![
            shard(of.shard.as_ref()),
            or_dash(&of.from),
            number(policy.and_then(|policy| policy.keep_count)),
            policy
                .and_then(|policy| policy.keep_age_ms)
                .map_or_else(dash, span_ms),
            number(policy.map(|policy| policy.minimum.max(1))),
            tier(|policy| policy.daily),
            tier(|policy| policy.weekly),
            tier(|policy| policy.monthly),
            of.expired.len().to_string(),
        ]
    });
    render(
        &[
            "SHARD", "FROM", "COUNT>", "AGE>", "MINIMUM>", "DAILY>", "WEEKLY>", "MONTHLY>", "DUE>",
        ],
        rows,
    )
}

/// What removed backups have left, and what would become of it.
pub fn collection(shards: &[v1::ShardCollection]) -> String {
    let stopped = shards
        .iter()
        .filter(|of| !of.stopped.is_empty())
        .map(|of| format!("{}: {}", shard(of.shard.as_ref()), of.stopped));
    let mut lines: Vec<String> = stopped.collect();
    let rows: Vec<Vec<String>> = shards
        .iter()
        .flat_map(|of| {
            let leftovers = of.leftovers.iter();
            leftovers.map(|left| leftover(of.shard.as_ref(), left))
        })
        .collect();
    if !rows.is_empty() {
        let heads = ["SHARD", "BACKUP", "OBJECTS>", "GOES>", "STAYS>", "BECAUSE"];
        lines.push(render(&heads, rows));
    } else if lines.is_empty() {
        lines.push("nothing would go".to_owned());
    }
    lines.join("\n")
}

fn leftover(of: Option<&v1::ShardRef>, left: &v1::Leftover) -> Vec<String> {
    let because = match (left.kept, left.staying_objects) {
        (true, _) => "its grace time is not over".to_owned(),
        (false, 0) => dash(),
        (false, _) => format!("needed by {}", left.needed_by.join(", ")),
    };
    vec![
        shard(of),
        left.backup.clone(),
        left.objects.to_string(),
        size(left.bytes),
        size(left.staying_bytes),
        because,
    ]
}
