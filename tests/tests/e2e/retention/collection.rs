//! Two phases: a removed backup is forgotten at once, and its objects go after a grace time.

use super::*;

const GRACE: Duration = Duration::from_secs(8);

impl Ground {
    /// What a collection would make of one removed backup.
    async fn planned(&self, backup: &str) -> Result<Option<Value>> {
        let plan = self.json(&["CollectGarbage", SHARD, "--dry-run"]).await?;
        let shard = &plan["shards"][0];
        ensure!(shard["stopped"].is_null(), "{plan:#}");
        let left = shard["leftovers"].as_array().context("no list")?;
        Ok(left.iter().find(|left| left["backup"] == backup).cloned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_objects_go_after_the_grace_time_as_the_dry_run_says_and_none_that_others_need()
-> Result<()> {
    let grace = format!("{}s", GRACE.as_secs());
    let mut ground = Ground::start("collect", &grace).await?;
    let backups = ground.back_up_times(3).await?;
    let [first, second, third] = &backups[..] else {
        anyhow::bail!("three backups")
    };
    let whole = ground.objects()?;
    let remove = ["RemoveBackup", SHARD, first.as_str()];
    let would = ground.json(&[&remove[..], &["--dry-run"]].concat()).await?;
    ensure!(would["backup"]["name"] == first.as_str(), "{would:#}");
    ensure!(would["complete_left"] == 2, "{would:#}");
    ensure!(would["grace_ms"] == GRACE.as_millis() as u64, "{would:#}");
    ensure!(ground.objects()? == whole, "a dry run has put a mark");
    ground.wait_listed(&[first, second, third]).await?;
    ground.ctl(&remove).await?.done()?;
    let again = ground.ctl(&[&remove[..], &["--dry-run"]].concat()).await?;
    again.refused(1, &["is removed", "deletes its objects"])?;

    // First phase: the mark, and nothing else, whoever asks.
    ground.wait_listed(&[second, third]).await?;
    let left = ground.planned(first).await?.context("nothing left")?;
    ensure!(left["kept"] == true && left["objects"] == 0, "{left:#}");
    ground.ctl(&["CollectGarbage", SHARD]).await?.done()?;
    let mut marked = ground.objects()?;
    marked.retain(|key, _| !key.ends_with("/removed"));
    ensure!(marked == whole, "deleted before its time");

    // Second phase: what the dry run says, while a lock by hand keeps everybody from deleting.
    let lock = ["backup-lock", "--acquire", "--reason", "a look"];
    ground.ctl(&lock).await?.done()?;
    let left = wait_for("its grace time is over", PATIENCE, || async {
        let left = ground.planned(first).await?;
        Ok(left.filter(|left| left["kept"] == false))
    })
    .await?;
    ensure!(left["needed_by"] == serde_json::json!([second, third]));
    let before = ground.objects()?;
    ground.ctl(&["backup-lock", "--release"]).await?.done()?;
    ground.ctl(&["CollectGarbage", SHARD]).await?.done()?;
    let swept = ground.wait_swept(first).await?;
    let removal = ground.operations("remove_backup", first).await?;
    let removed_at = removal[0]["finished_at"].as_str().context("no time")?;
    let removed_at: jiff::Timestamp = removed_at.parse()?;
    let after = i64::try_from(swept.finished_unix_ms)? - removed_at.as_millisecond();
    ensure!(u128::try_from(after)? >= GRACE.as_millis(), "{after} ms");
    let after = ground.objects()?;
    let gone: BTreeMap<&String, &u64> = before
        .iter()
        .filter(|(key, _)| !after.contains_key(*key))
        .collect();
    let bytes: u64 = gone.values().copied().sum();
    ensure!(left["objects"] == gone.len(), "{left:#}, gone: {gone:?}");
    ensure!(left["bytes"] == bytes, "{left:#}, gone: {gone:?}");
    ensure!(gone.keys().all(|key| key.contains(first.as_str())));
    let staying = after
        .keys()
        .filter(|key| key.contains(&format!("packs/{first}/")));
    ensure!(left["staying_objects"] == staying.count(), "{left:#}");
    ensure!(
        left["staying_objects"] != 0,
        "the others need nothing of it"
    );
    ground.check_whole().await?;

    // The last that needs it has gone: so do its packs, and only marks are left.
    for backup in [second, third] {
        let remove = ["RemoveBackup", "--force", SHARD, backup];
        ground.ctl(&remove).await?.done()?;
    }
    ground.wait_swept(second).await?;
    ground.wait_swept(third).await?;
    let objects = ground.objects()?;
    let left: Vec<&String> = objects
        .keys()
        .filter(|key| key.contains("/packs/") || key.contains("/backups/"))
        .filter(|key| !key.ends_with("/removed"))
        .collect();
    ensure!(left.is_empty(), "{left:?}");
    ground.check_whole().await?;
    ground.finish().await
}
