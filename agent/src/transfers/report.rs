//! What the agent says of its transfers.

use seawall_proto::v1;

use super::limit;
use crate::{execute::Executor, journal::OperationKind, tablet::Tablet};

/// Every operation that is at work here, whatever it does at this moment.
pub fn report(tablet: &Tablet, executor: &Executor) -> v1::TransferReport {
    let contents = tablet.journal.read();
    let throttle = tablet.known_repository().map(|it| it.throttle());
    let transfers = contents.operations.iter().filter_map(|operation| {
        let under_way = executor.under_way(operation.id);
        if under_way.is_none() && !operation.is_open() {
            return None;
        }
        // Between two steps: the one that has just ended.
        let last = operation.last_step().map_or("", |last| last.step.name());
        let step = under_way.as_ref().map_or(last, |(step, _)| step);
        let kind = match operation.kind {
            // Of one step, which says more.
            OperationKind::Aside => step,
            kind => kind.name(),
        };
        Some(v1::Transfer {
            operation_id: operation.id.to_string(),
            kind: kind.to_owned(),
            step: step.to_owned(),
            began_unix_ms: operation.began_unix_ms,
            progress: under_way.map(|(_, progress)| progress.to_proto()),
        })
    });
    v1::TransferReport {
        alias: tablet.alias.to_string(),
        limit_bytes_per_second: limit(tablet),
        limit_was_set: contents.transfer_limit.is_some(),
        bytes_per_second: throttle.map_or(0, |throttle| throttle.rate()),
        transfers: transfers.collect(),
    }
}
