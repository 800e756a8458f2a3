//! Who wrote a backup: agents sign what they write, readers pin whom they believe.

use anyhow::{Context as _, Result, ensure};
use seawall_tests::harness::{
    Cluster, ClusterPlan,
    config::list,
    wait::{PATIENCE, wait_until},
};

use super::{
    Identity, check_nothing_restored, encrypting, on_repository, restore, start_encrypted_shard,
    take_restored, write,
};

async fn writers(cluster: &Cluster) -> Result<Vec<String>> {
    let listed = cluster.ctl(&["ListWriters", "-o", "name"]).await?.done()?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// A backup as somebody makes it who knows the recipients and may write to the store, and has none
/// of the keys that the agents sign with.
async fn forge(cluster: &mut Cluster) -> Result<String> {
    write(cluster, "forged").await?;
    let forger = cluster.tablet_mut("zone1-102")?;
    forger.terminate()?;
    let key = forger.state_dir().join("writer.key");
    std::fs::rename(&key, key.with_extension("key.kept"))?;
    forger.start()?;
    cluster.wait_serving("zone1-102").await?;
    cluster.wait_known_serving("zone1-102").await?;
    cluster.back_up("zone1-102").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_with_pins_a_forged_backup_is_refused_and_no_database_is_started_on_it() -> Result<()> {
    let mut cluster = ClusterPlan::new("pins").start().await?;
    let identity = Identity::new(&cluster, "identity").await?;
    start_encrypted_shard(&mut cluster, &identity.recipient).await?;
    let good = cluster.back_up("zone1-102").await?;
    let pins = writers(&cluster).await?;
    ensure!(pins.len() == 2 && pins[0] != pins[1], "{pins:?}");
    let forged = forge(&mut cluster).await?;
    let signed_by = async |name: &str| {
        let get = ["GetBackup", "commerce/0", name, "-o", "json"];
        let shown = cluster.ctl(&get).await?.done()?;
        let shown: serde_json::Value = serde_json::from_str(&shown)?;
        let key = shown["writer_key"].as_str().context("not signed")?;
        anyhow::Ok(key.to_owned())
    };
    ensure!(pins.contains(&signed_by(&good).await?));
    let stranger = signed_by(&forged).await?;
    ensure!(!pins.contains(&stranger));
    check_from_the_repository(&cluster, &identity, &pins, (&good, &forged), &stranger).await?;

    let reader = encrypting("zone1-103", &identity.recipient)
        .restored()
        .set("repository.identity_file", identity.file.as_str())
        .set("repository.trusted_writers", list(pins));
    cluster.start_tablet(&reader)?;
    wait_until("the forged backup is refused", PATIENCE, || async {
        let restores = crate::restore::restores(&cluster).await?;
        Ok(restores.iter().any(|operation| {
            operation.error.contains("is forged") && operation.error.contains(&stranger)
        }))
    })
    .await?;
    let tablet = cluster.tablet("zone1-103")?;
    ensure!(tablet.server.process().is_none(), "a database was started");
    ensure!(!tablet.server.data_dir().exists(), "it looks restored");
    // A reader's own pins make nothing broken for those who pin otherwise.
    let backups = cluster.backups("commerce/0", false).await?;
    ensure!(
        backups.len() == 2 && backups.iter().all(|b| b.note.is_empty()),
        "{backups:?}"
    );

    let mark = [
        "MarkBackupBroken",
        "commerce/0",
        &forged,
        "--reason",
        "none of ours",
    ];
    cluster.ctl(&mark).await?.done()?;
    cluster.wait_serving("zone1-103").await?;
    cluster.wait_caught_up("zone1-103", "zone1-101").await?;
    cluster.check_equal(&["zone1-101", "zone1-103"]).await?;
    cluster.finish().await
}

/// The same with no coordinator in sight.
async fn check_from_the_repository(
    cluster: &Cluster,
    identity: &Identity,
    pins: &[String],
    (good, forged): (&str, &str),
    stranger: &str,
) -> Result<()> {
    let pins = pins.join(",");
    let pinned = [
        &identity.flags()[..],
        &["--repository-trusted-writers", &pins],
    ]
    .concat();
    let refused = restore(cluster, Some(forged), &pinned, None).await?;
    refused.refused(1, &["is forged", stranger, "trusted_writers"])?;
    check_nothing_restored(cluster)?;

    let newest = restore(cluster, None, &pinned, None).await?;
    ensure!(
        newest.stderr.contains(forged) && newest.stderr.contains("is forged"),
        "{newest}"
    );
    let said = newest.done()?;
    ensure!(
        said.contains(good) && said.contains("a trusted writer"),
        "{said}"
    );
    ensure!(!said.contains("who wrote it"), "{said}");
    ensure!(take_restored(cluster)? > 0);

    // Without pins nobody can tell, and it says so.
    let said = restore(cluster, None, &identity.flags(), None)
        .await?
        .done()?;
    ensure!(
        said.contains(forged) && said.contains("who wrote it"),
        "{said}"
    );
    take_restored(cluster)?;

    let list = [&["repository", "list"], &pinned[..]].concat();
    let listed = on_repository(cluster, &list, None).await?.done()?;
    let of_forged = listed.lines().find(|line| line.contains(forged));
    let of_good = listed.lines().find(|line| line.contains(good));
    ensure!(
        of_forged.is_some_and(|line| line.contains("NOT TRUSTED")),
        "{listed}"
    );
    ensure!(
        of_good.is_some_and(|line| !line.contains("NOT TRUSTED")),
        "{listed}"
    );

    let check = ["repository", "check", "commerce/0"];
    on_repository(cluster, &check, None).await?.done()?;
    let check = [&check[..], &pinned].concat();
    let checked = on_repository(cluster, &check, None).await?;
    ensure!(
        checked.code == 1 && checked.stderr.contains("is forged") && checked.stdout.contains(good),
        "{checked}"
    );
    Ok(())
}
