//! Reads a backup back. Beside the database, which is not touched.

use seawall_common::{
    Result,
    repository::{Depth, VerifyOptions, VerifyReport, pack_name, verify},
};

use super::Job;
use crate::{
    call::Aside,
    journal::{Outcome, Verification},
};

/// Damaged packs that are told of: an answer has its bounds.
const DAMAGED_TOLD: usize = 500;
/// What could not be checked, in an answer's note.
const UNCHECKED_TOLD: usize = 5;

pub(super) async fn run(job: &Job, aside: &Aside, percent: u8, seed: u64) -> Result<Outcome> {
    let tablet = &job.tablet;
    let repository = job.or_cancelled(tablet.repository()).await??;
    let options = VerifyOptions {
        depth: Depth::Chunks,
        percent,
        seed,
        concurrency: aside.concurrency(tablet),
    };
    job.progress.say(format!("reading {} back", aside.backup));
    let report = verify(
        repository,
        &aside.shard,
        &aside.backup,
        aside.expected_hash(),
        &options,
        &job.progress.transfer,
        &job.cancel,
    )
    .await?;
    job.reach("agent.verify.middle").await?;
    Ok(outcome(&report))
}

fn outcome(report: &VerifyReport) -> Outcome {
    let damaged = report.damage.iter().filter_map(|damage| damage.pack);
    let unchecked = report.unchecked.iter().take(UNCHECKED_TOLD).cloned();
    let unchecked: Vec<String> = unchecked.collect();
    Outcome {
        verification: Some(Verification {
            passed: report.passed(),
            percent: u32::from(report.percent),
            seed: report.seed,
            message: report.summary(),
            bytes: report.bytes_read,
        }),
        damaged_packs: damaged.map(pack_name).take(DAMAGED_TOLD).collect(),
        note: match unchecked.is_empty() {
            true => String::new(),
            false => format!("not checked: {}", unchecked.join("; ")),
        },
        ..Outcome::default()
    }
}
