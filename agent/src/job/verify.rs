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

/// Damaged packs that are told of: an answer has its bounds. That there are more is told as well, and
/// then no new backup refers to any of those that there are.
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
    let mut damaged_packs: Vec<String> = report
        .damage
        .iter()
        .filter_map(|damage| damage.pack)
        .map(pack_name)
        .collect();
    let is_cut_off = report.damaged_objects > report.damage.len() as u64;
    let more_damaged = is_cut_off || damaged_packs.len() > DAMAGED_TOLD;
    damaged_packs.truncate(DAMAGED_TOLD);
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
        damaged_packs,
        more_damaged,
        note: match unchecked.is_empty() {
            true => String::new(),
            false => format!("not checked: {}", unchecked.join("; ")),
        },
        ..Outcome::default()
    }
}

#[cfg(test)]
mod tests {
    use seawall_common::repository::Damage;
    use uuid::Uuid;

    use super::*;

    /// With `named` damaged packs in it, of as many as `damaged`.
    fn report(named: u128, damaged: u64) -> VerifyReport {
        let damage = (1..=named).map(|n| Damage {
            object: format!("packs/{n}"),
            what: "is missing".into(),
            pack: Some(Uuid::from_u128(n)),
        });
        let mut report = VerifyReport::new(&crate::testing::backup_name(), 100, 0);
        report.damage = damage.collect();
        report.damaged_objects = damaged;
        report
    }

    #[test]
    fn i5_damaged_packs_that_are_not_named_are_told_of() {
        for (named, damaged, told, more) in [
            (0, 0, 0, false),
            (500, 500, 500, false),
            (501, 501, 500, true),
            // The report itself has its bounds.
            (400, 2000, 400, true),
        ] {
            let outcome = outcome(&report(named, damaged));
            assert_eq!(outcome.damaged_packs.len(), told);
            assert_eq!(outcome.more_damaged, more, "{named} of {damaged}");
        }
    }
}
