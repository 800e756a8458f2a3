//! Policies and pins: what goes by itself, and what stays all the same.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

const DAY_MS: u64 = 24 * 3600 * 1000;

fn now_ms() -> Result<u64> {
    Ok(u64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis(),
    )?)
}

impl Ground {
    /// A backup that ended about noon of so many days ago, by its agent's clock, and after those
    /// before it; 0: now.
    async fn back_up_of(&mut self, days: u64) -> Result<String> {
        let noon_ms = now_ms()? / DAY_MS * DAY_MS + DAY_MS / 2;
        let noon_ms = noon_ms + self.filled.len() as u64 * 60_000;
        let behind_ms = match days {
            0 => 0,
            days => now_ms()? + days * DAY_MS - noon_ms,
        };
        let faults = self.cluster.tablet(TABLET)?.faults();
        faults.arm("clock", &format!("behind-{behind_ms}")).await?;
        self.back_up().await
    }

    /// The command's arguments with these flags; what it says goes by them, oldest first.
    async fn set_retention(&self, flags: &str) -> Result<Vec<String>> {
        let mut args = vec!["SetRetention", SHARD];
        args.extend(flags.split_whitespace());
        let answer = self.json(&args).await?;
        ensure!(answer["dry_run"] == flags.contains("--dry-run"), "{answer}");
        let expired = names(&answer["expired"]);
        Ok(expired.into_iter().map(str::to_owned).collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_removes_what_its_dry_run_has_named_and_nothing_else() -> Result<()> {
    let mut ground = Ground::start("policy", "0s").await?;
    let mut backups = Vec::new();
    for days in [40, 30, 20, 10, 10, 0] {
        backups.push(ground.back_up_of(days).await?);
    }
    let [b0, b1, b2, b3, b4, b5] = &backups[..] else {
        anyhow::bail!("six backups")
    };
    let pin = ["PinBackup", SHARD, b1.as_str()];
    ground.ctl(&pin).await?.done()?;
    for (flags, going) in [
        ("--keep-count 4", vec![b0]),
        ("--keep-count 0", vec![b0, b2, b3, b4]),
        ("--keep-age 15d", vec![b0, b2]),
        ("--keep-age 15d --keep-count 2", vec![b0, b2, b3]),
        ("--keep-age 1d --minimum 4", vec![b0]),
        ("--keep-count 1 --daily 2", vec![b0, b2, b3]),
        ("--keep-count 1 --weekly 3", vec![b0, b3]),
        ("--keep-count 1 --monthly 1000", vec![]),
    ] {
        let said = ground.set_retention(&format!("{flags} --dry-run")).await?;
        if flags.contains("monthly") {
            // Which of them lie in one month is for the calendar to say: each month keeps one.
            ensure!(!said.contains(b5) && said.len() <= 4, "{flags}: {said:?}");
            continue;
        }
        let said: Vec<&String> = said.iter().collect();
        ensure!(said == going, "{flags}: {said:?}, expected {going:?}");
    }
    let policies = ground.json(&["GetRetention", SHARD]).await?;
    ensure!(policies["shards"][0]["policy"].is_null(), "{policies:#}");
    ensure!(ground.listed().await?.len() == 6, "a dry run has removed");

    let flags = "--keep-count 1 --weekly 3";
    let said = ground.set_retention(flags).await?;
    ensure!(said == [b0.clone(), b3.clone()], "{said:?}");
    ground.wait_listed(&[b1, b2, b4, b5]).await?;
    for backup in [b0, b3] {
        let removals = ground.operations("remove_backup", backup).await?;
        ensure!(removals.len() == 1, "{removals:?}");
        let result = removals[0]["result"].as_str().unwrap_or_default();
        ensure!(result.contains("retention keeps 1"), "{result}");
        ground.wait_swept(backup).await?;
    }
    let policies = ground.json(&["GetRetention", SHARD]).await?;
    let shard = &policies["shards"][0];
    ensure!(shard["from"] == SHARD, "{policies:#}");
    ensure!(shard["policy"]["weekly"] == 3, "{policies:#}");
    ensure!(names(&shard["expired"]).is_empty(), "{policies:#}");

    // A new one: this week's. What was the third week is the fourth, and pins hold.
    let next = ground.back_up_of(0).await?;
    ground.wait_listed(&[b1, b2, b4, &next]).await?;
    ground.check_whole().await?;
    ground.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_holds_until_its_end_or_until_it_is_taken_away() -> Result<()> {
    let mut ground = Ground::start("pins", "0s").await?;
    let backups = ground.back_up_times(3).await?;
    let [forever, for_a_while, newest] = &backups[..] else {
        anyhow::bail!("three backups")
    };
    let past = [
        "PinBackup",
        SHARD,
        forever,
        "--until",
        "2026-01-01T00:00:00Z",
    ];
    ground.ctl(&past).await?.refused(1, &["has passed"])?;
    ground.ctl(&["PinBackup", SHARD, forever]).await?.done()?;
    let until_s = now_ms()? / 1000 + 10;
    let until = until_s.to_string();
    let pin = ["PinBackup", SHARD, for_a_while, "--until", &until];
    let pinned = ground.json(&pin).await?;
    ensure!(pinned["pinned"] == true, "{pinned:#}");
    ensure!(pinned["pinned_until_at"].is_string(), "{pinned:#}");

    let said = ground.set_retention("--keep-count 1").await?;
    ensure!(said.is_empty(), "{said:?}");
    for pinned in [forever, for_a_while] {
        let remove = ["RemoveBackup", SHARD, pinned];
        let refused = ground.ctl(&remove).await?;
        refused.refused(1, &[pinned, "pinned", "UnpinBackup"])?;
    }
    ground.wait_listed(&[forever, newest]).await?;
    let removals = ground.operations("remove_backup", for_a_while).await?;
    let began = removals[0]["created_at"].as_str().context("no time")?;
    let began: jiff::Timestamp = began.parse()?;
    ensure!(began.as_second() >= i64::try_from(until_s)?, "{removals:?}");

    // It stays while others come and go, and its objects, too.
    let next = ground.back_up().await?;
    ground.wait_listed(&[forever, &next]).await?;
    ground.wait_swept(newest).await?;
    ground.check_whole().await?;
    ground.ctl(&["UnpinBackup", SHARD, forever]).await?.done()?;
    ground.wait_listed(&[&next]).await?;
    ground.wait_swept(forever).await?;
    ground.check_whole().await?;
    ground.finish().await
}
