//! The transfers of one tablet.

use seawall_proto::v1;
use serde::Serialize;

use super::{known, time};
use crate::output::human::percent;

#[derive(Debug, Serialize)]
pub struct Transfers {
    alias: String,
    limit_bytes_per_second: Option<u64>,
    paused: bool,
    limit_was_set: bool,
    traffic_bytes_per_second: u64,
    transfers: Vec<Transfer>,
}

#[derive(Debug, Serialize)]
struct Transfer {
    operation_id: String,
    kind: String,
    step: Option<String>,
    began_at: Option<String>,
    percent: Option<u64>,
    bytes_done: Option<u64>,
    bytes_total: Option<u64>,
    files_done: Option<u64>,
    files_total: Option<u64>,
    bytes_per_second: Option<u64>,
    left_ms: Option<u64>,
    message: Option<String>,
}

impl From<&v1::TransferReport> for Transfers {
    fn from(report: &v1::TransferReport) -> Self {
        Self {
            alias: report.alias.clone(),
            limit_bytes_per_second: report.limit_bytes_per_second,
            paused: report.limit_bytes_per_second == Some(0),
            limit_was_set: report.limit_was_set,
            traffic_bytes_per_second: report.bytes_per_second,
            transfers: report.transfers.iter().map(Transfer::from).collect(),
        }
    }
}

impl From<&v1::Transfer> for Transfer {
    fn from(transfer: &v1::Transfer) -> Self {
        let progress = transfer.progress.as_ref();
        let sized = progress.filter(|progress| progress.bytes_total > 0);
        Self {
            operation_id: transfer.operation_id.clone(),
            kind: transfer.kind.clone(),
            step: known(&transfer.step),
            began_at: time(transfer.began_unix_ms),
            percent: sized.map(|p| percent(p.bytes_done, p.bytes_total)),
            bytes_done: sized.map(|p| p.bytes_done),
            bytes_total: sized.map(|p| p.bytes_total),
            files_done: sized.map(|p| p.files_done),
            files_total: sized.map(|p| p.files_total),
            bytes_per_second: sized.map(|p| p.bytes_per_second),
            left_ms: sized.and_then(|p| p.left_ms),
            message: progress.and_then(|p| known(&p.message)),
        }
    }
}
