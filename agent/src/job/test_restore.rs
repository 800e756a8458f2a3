//! Restores a backup to a directory of its own, has the engine start on it and check it, and
//! removes everything again. The tablet's own database goes on, and is not touched.

use std::{collections::BTreeMap, path::PathBuf};

use seawall_common::{
    Error, ErrorKind, Result,
    repository::{Manifest, check_room_aside, download, packs_named_in, read_manifest},
};

use super::{
    Job,
    fetch::{check_engine, check_version},
};
use crate::{
    call::Aside,
    engine::{Checked, ScratchGround},
    journal::{Outcome, Verification},
    scratch::{self, Scratch},
};

pub(super) async fn run(job: &Job, aside: &Aside) -> Result<Outcome> {
    let tablet = &job.tablet;
    let Some(directory) = &tablet.settings.scratch_dir else {
        return Err(Error::refused(format!(
            "the agent of {} has no directory to restore to aside",
            tablet.alias
        ))
        .hint("Set scratch_dir in its configuration."));
    };
    job.or_cancelled(tablet.until_cleared()).await?;
    let checking = scratch::check(tablet, directory);
    job.or_cancelled(checking).await??;
    let scratch = Scratch::make(directory, &tablet.alias, job.operation).await?;
    let tested = test(job, aside, &scratch).await;
    job.progress.say("removing what was restored aside");
    // What is left takes room, and says nothing of the backup.
    let left = scratch.remove().await.err().map(|error| {
        let left = format!("what was restored aside is still there: {error}");
        tracing::error!("{left}");
        left
    });
    let found = match tested {
        Ok(found) => found,
        // What is not as it was written is what the test is for.
        Err(error) if error.kind() == ErrorKind::Corrupt => Found {
            bytes: 0,
            damaged_packs: packs_named_in(error.message()),
            checked: Checked {
                summary: String::new(),
                problems: vec![error.message().to_owned()],
                problems_total: 1,
            },
            cut_short: None,
        },
        Err(error) => return Err(error),
    };
    Ok(Outcome {
        note: left.unwrap_or_default(),
        ..outcome(found)
    })
}

struct Found {
    bytes: u64,
    checked: Checked,
    /// Why what is not named was not looked at.
    cut_short: Option<Error>,
    damaged_packs: Vec<String>,
}

async fn test(job: &Job, aside: &Aside, scratch: &Scratch) -> Result<Found> {
    let tablet = &job.tablet;
    let repository = job.or_cancelled(tablet.repository()).await??;
    let backup = &aside.backup;
    job.progress
        .say(format!("reading the manifest of {backup}"));
    let reading = read_manifest(repository, &aside.shard, backup, aside.expected_hash());
    let manifest = job.or_cancelled(reading).await??;
    check_engine(tablet, &manifest)?;
    check_version(&manifest, &tablet.engine.program_version().await?)?;
    let targets = targets(&manifest, scratch);
    check_room(&manifest, &targets).await?;
    job.progress.say(format!("restoring {backup} aside"));
    download(
        repository,
        &manifest,
        &targets,
        aside.concurrency(tablet),
        &job.progress.transfer,
        &job.cancel,
    )
    .await?;
    job.reach("agent.test_restore.restored").await?;
    let ground = ScratchGround {
        directory: scratch.directory().to_owned(),
        roots: targets.into_iter().collect(),
        details: manifest.details.clone(),
    };
    job.progress.say("starting the database on it");
    let starting = tablet.engine.start_scratch(&ground);
    let server = job.or_cancelled(starting).await??;
    let mut checked = Checked::default();
    let looked = async {
        job.reach("agent.test_restore.middle").await?;
        let say = |what| job.progress.say(what);
        job.or_cancelled(server.check(&mut checked, &say)).await?
    }
    .await;
    if let Err(error) = server.stop().await {
        tracing::error!("cannot stop the database of the restore test: {error}");
    }
    let cut_short = match looked {
        Ok(()) => None,
        // Damage that was found is no less damage for what happened then.
        Err(error) if checked.problems_total > 0 => Some(error),
        Err(error) => return Err(error),
    };
    Ok(Found {
        bytes: manifest.header.logical_bytes,
        checked,
        cut_short,
        damaged_packs: Vec::new(),
    })
}

/// Databases at work may have their files there too.
async fn check_room(manifest: &Manifest, targets: &BTreeMap<String, PathBuf>) -> Result<()> {
    let (manifest, targets) = (manifest.clone(), targets.clone());
    tokio::task::spawn_blocking(move || check_room_aside(&manifest, &targets))
        .await
        .map_err(|e| Error::internal(format!("the thread that looks for room died: {e}")))?
}

fn targets(manifest: &Manifest, scratch: &Scratch) -> BTreeMap<String, PathBuf> {
    let place = |number: usize| scratch.directory().join(format!("root{number}"));
    let roots = manifest.roots.iter().enumerate();
    roots
        .map(|(number, root)| (root.name.clone(), place(number)))
        .collect()
}

fn outcome(found: Found) -> Outcome {
    let checked = found.checked;
    let mut message = match checked.problems.as_slice() {
        [] => format!("restored and started; {}", checked.summary),
        [only] if checked.problems_total == 1 => only.clone(),
        [first, ..] => format!("{first}, and {} more problems", checked.problems_total - 1),
    };
    if let Some(why) = found.cut_short {
        message.push_str(&format!("; the rest was not tested: {}", why.message()));
    }
    Outcome {
        verification: Some(Verification {
            passed: checked.problems_total == 0,
            percent: 100,
            seed: 0,
            message,
            bytes: found.bytes,
        }),
        damaged_packs: found.damaged_packs,
        ..Outcome::default()
    }
}
