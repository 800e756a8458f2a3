//! The transfers of one tablet.

use seawall_common::rate;
use seawall_proto::v1;

use super::{fields, render};
use crate::output::human::{dash, or_dash, percent, size, span_ms};

/// What an agent transfers, and how fast it may.
pub fn transfers(report: &v1::TransferReport) -> String {
    let limit = rate::show(report.limit_bytes_per_second);
    let head = fields(&[
        ("tablet", report.alias.clone()),
        (
            "limit",
            match report.limit_was_set {
                true => format!("{limit} (set by BackupThrottle)"),
                false => limit,
            },
        ),
        ("traffic", format!("{}/s", size(report.bytes_per_second))),
    ]);
    if report.transfers.is_empty() {
        return format!("{head}\n\nidle");
    }
    let rows = report.transfers.iter().map(|transfer| {
        let sized = transfer.progress.as_ref().filter(|p| p.bytes_total > 0);
        let of = |text: fn(&v1::Progress) -> String| sized.map_or_else(dash, text);
        vec![
            transfer.operation_id.clone(),
            transfer.kind.replace('_', " "),
            or_dash(&transfer.step),
            of(|p| format!("{}%", percent(p.bytes_done, p.bytes_total))),
            of(|p| format!("{} of {}", size(p.bytes_done), size(p.bytes_total))),
            of(|p| format!("{} of {}", p.files_done, p.files_total)),
            of(|p| format!("{}/s", size(p.bytes_per_second))),
            of(|p| p.left_ms.map_or_else(dash, span_ms)),
        ]
    });
    let heads = [
        "OPERATION",
        "KIND",
        "STEP",
        "DONE>",
        "BYTES>",
        "FILES>",
        "RATE>",
        "LEFT>",
    ];
    format!("{head}\n\n{}", render(&heads, rows))
}
