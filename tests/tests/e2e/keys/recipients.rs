//! Recipients that come and go: small key files only, while the data stays as it lies.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use seawall_tests::harness::{Cluster, ClusterPlan, binary::binary, ctl::run_command};

use super::{
    Identity, check_nothing_restored, encrypting, objects, on_repository, restore,
    start_encrypted_shard, take_restored, write, write_first,
};

type Objects = BTreeMap<String, Vec<u8>>;

/// The objects that are in `one` and not, or not the same, in `other`.
fn only_in<'a>(one: &'a Objects, other: &Objects) -> BTreeSet<&'a str> {
    one.iter()
        .filter(|(key, bytes)| other.get(*key) != Some(*bytes))
        .map(|(key, _)| key.as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_was_added_opens_old_backups_and_a_removed_one_nothing() -> Result<()> {
    let mut cluster = ClusterPlan::new("recipients").start().await?;
    let own = Identity::new(&cluster, "identity").await?;
    let colleague = Identity::new(&cluster, "colleague").await?;
    start_encrypted_shard(&mut cluster, &own.recipient).await?;
    let old = cluster.back_up("zone1-102").await?;
    write(&cluster, "second").await?;
    let new = cluster.back_up("zone1-102").await?;
    let closed = ["does not open backup", "1 other recipient"];
    let refused = restore(&cluster, None, &colleague.flags(), None).await?;
    refused.refused(1, &closed)?;
    check_nothing_restored(&cluster)?;

    let before = objects(&cluster)?;
    add(
        &cluster,
        &colleague,
        &own,
        "key files written: 2, there before: 0",
    )
    .await?;
    add(
        &cluster,
        &colleague,
        &own,
        "key files written: 0, there before: 2",
    )
    .await?;
    let with_both = objects(&cluster)?;
    ensure!(
        only_in(&before, &with_both).is_empty(),
        "something was rewritten"
    );
    let fingerprint = check_only_key_files(&only_in(&with_both, &before), &[&old, &new])?;
    for backup in [&old, &new] {
        restore(&cluster, Some(backup), &colleague.flags(), None)
            .await?
            .done()?;
        take_restored(&cluster)?;
    }
    let listed = on_repository(&cluster, &["ListRecipients"], None)
        .await?
        .done()?;
    ensure!(
        listed.contains(&own.recipient) && listed.contains(&colleague.recipient),
        "{listed}"
    );
    ensure!(listed.matches("2 of 2").count() == 2, "{listed}");

    let dry_run = ["RemoveRecipient", &colleague.recipient, "--dry-run"];
    let would = cluster.ctl(&dry_run).await?.done()?;
    ensure!(
        would.contains(&old) && would.contains(&new) && would.contains("would be deleted: 2"),
        "{would}"
    );
    ensure!(objects(&cluster)? == with_both, "a dry run deletes");
    let removed = cluster
        .ctl(&["RemoveRecipient", &colleague.recipient])
        .await?
        .done()?;
    ensure!(
        removed.contains(&format!("key files of {fingerprint} deleted: 2")),
        "{removed}"
    );
    let after = objects(&cluster)?;
    ensure!(
        only_in(&after, &with_both).is_empty(),
        "something was written"
    );
    let gone = only_in(&with_both, &after);
    ensure!(
        gone.len() == 2 && gone.iter().all(|key| key.contains(&fingerprint)),
        "{gone:?}"
    );
    for backup in [&old, &new] {
        let refused = restore(&cluster, Some(backup), &colleague.flags(), None).await?;
        refused.refused(1, &closed)?;
        restore(&cluster, Some(backup), &own.flags(), None)
            .await?
            .done()?;
        take_restored(&cluster)?;
    }
    check_refusals(&cluster, &own, &colleague).await?;
    ensure!(
        objects(&cluster)? == after,
        "a refused removal has changed something"
    );
    cluster.finish().await
}

async fn add(cluster: &Cluster, whom: &Identity, by: &Identity, says: &str) -> Result<()> {
    let flags = by.flags();
    let args = ["AddRecipient", &whom.recipient, flags[0], flags[1]];
    let added = on_repository(cluster, &args, None).await?.done()?;
    ensure!(added.contains(says), "{added}");
    Ok(())
}

/// What an added recipient has brought: its public key, and one file for each backup's session. Its
/// fingerprint.
fn check_only_key_files(written: &BTreeSet<&str>, backups: &[&String]) -> Result<String> {
    let noted = written
        .iter()
        .find_map(|key| key.strip_prefix("recipients/"));
    let fingerprint = noted.context("the public key was not noted")?.to_owned();
    for backup in backups {
        let of_backup = format!("keyspaces/commerce/0/packs/{backup}/keys/");
        let is_own = |key: &&&str| {
            key.starts_with(&of_backup) && key.ends_with(&format!(".{fingerprint}.age"))
        };
        ensure!(
            written.iter().filter(is_own).count() == 1,
            "{backup}: {written:?}"
        );
    }
    ensure!(
        written.len() == 1 + backups.len(),
        "more than key files: {written:?}"
    );
    Ok(fingerprint)
}

async fn check_refusals(cluster: &Cluster, own: &Identity, colleague: &Identity) -> Result<()> {
    // Nobody could ever open the backups again.
    let dry_run = ["RemoveRecipient", &own.recipient, "--dry-run"];
    let last = cluster.ctl(&dry_run).await?;
    ensure!(
        last.code == 1 && last.stderr.contains("would stay: 2"),
        "{last}"
    );
    let last = cluster.ctl(&["RemoveRecipient", &own.recipient]).await?;
    ensure!(
        last.code == 1 && last.stderr.contains("the last one"),
        "{last}"
    );
    for nobody in [colleague.recipient.as_str(), "0123456789abcdef"] {
        let refused = cluster.ctl(&["RemoveRecipient", nobody]).await?;
        refused.refused(1, &["has no key file in the repository", "ListRecipients"])?;
    }
    let malformed = cluster.ctl(&["RemoveRecipient", "nobody"]).await?;
    malformed.refused(2, &["nobody"])?;
    // Who cannot read cannot let others read.
    let flags = colleague.flags();
    let args = ["AddRecipient", &colleague.recipient, flags[0], flags[1]];
    let closed = on_repository(cluster, &args, None).await?;
    ensure!(
        closed.code == 1 && closed.stderr.contains("stays closed"),
        "{closed}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_key_file_is_found_and_made_anew() -> Result<()> {
    let mut cluster = ClusterPlan::new("key-file").start().await?;
    let own = Identity::new(&cluster, "identity").await?;
    let colleague = Identity::new(&cluster, "colleague").await?;
    let reader =
        encrypting("zone1-102", &own.recipient).set("repository.identity_file", own.file.as_str());
    let plans = [encrypting("zone1-101", &own.recipient), reader];
    cluster.start_shard(&plans).await?;
    write_first(&cluster).await?;
    let name = cluster.back_up("zone1-102").await?;
    let before = objects(&cluster)?;
    let written = "key files written: 1, there before: 0";
    add(&cluster, &colleague, &own, written).await?;
    let with_both = objects(&cluster)?;
    let fingerprint = check_only_key_files(&only_in(&with_both, &before), &[&name])?;
    let key = with_both
        .keys()
        .find(|key| key.ends_with(".age") && key.contains(&fingerprint));
    let key = key.context("the colleague has no key file")?;
    std::fs::write(cluster.repository.path().join(key), &with_both[key][..100])?;

    let verify = ["Verify", "commerce/0", &name];
    let found = cluster.ctl(&verify).await?;
    ensure!(
        found.code == 1 && found.to_string().contains(key.as_str()),
        "{found}"
    );
    ensure!(state(&cluster, &name).await?.contains("broken"));

    cluster
        .ctl(&["RemoveRecipient", &fingerprint])
        .await?
        .done()?;
    add(&cluster, &colleague, &own, written).await?;
    cluster.ctl(&verify).await?.done()?;
    ensure!(state(&cluster, &name).await?.contains("complete"));
    restore(&cluster, None, &colleague.flags(), None)
        .await?
        .done()?;
    take_restored(&cluster)?;
    cluster.finish().await
}

/// The line of `ListBackups` about one.
async fn state(cluster: &Cluster, name: &str) -> Result<String> {
    let listed = cluster.ctl(&["ListBackups", "commerce/0"]).await?.done()?;
    let line = listed.lines().find(|line| line.contains(name));
    Ok(line.context("it is not listed")?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_an_identity_writes_and_cannot_read() -> Result<()> {
    let mut cluster = ClusterPlan::new("write-only").start().await?;
    let identity = Identity::new(&cluster, "identity").await?;
    start_encrypted_shard(&mut cluster, &identity.recipient).await?;
    let name = cluster.back_up("zone1-102").await?;
    let writer = cluster.tablet("zone1-102")?;
    ensure!(!writer.status().await?.can_read_repository);
    let sessions = writer.state_dir().join("sessions");
    let left = std::fs::read_dir(&sessions).map_or(0, Iterator::count);
    ensure!(left == 0, "it keeps the keys of {left} sessions");

    // All that it has does not open what it wrote.
    let verify = ["Verify", "commerce/0", &name, "--on", "zone1-102"];
    let refused = cluster.ctl(&verify).await?;
    refused.refused(1, &["has no identity to read the backup with"])?;
    let refused = cluster.ctl(&["Verify", "commerce/0", &name]).await?;
    let ways = [
        "repository.identity_file",
        "repository.identity ",
        "SEAWALL_PASSPHRASE",
    ];
    refused.refused(1, &ways)?;
    let refused = restore(&cluster, None, &[], None).await?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("no identity is configured"),
        "{refused}"
    );
    check_nothing_restored(&cluster)?;

    // Told to restore, it does not even start.
    let told = encrypting("zone1-103", &identity.recipient).restored();
    let told = cluster.prepare_tablet(&told)?;
    told.config.write(&told.config_file())?;
    let mut command = std::process::Command::new(binary("seawall-agent")?);
    command.arg("--config").arg(told.config_file());
    let ended = run_command(command, std::time::Duration::from_secs(20)).await?;
    cluster.tablets.remove("zone1-103");
    ended.refused(
        1,
        &["there is no identity to open it with", ways[0], ways[1]],
    )?;

    restore(&cluster, None, &identity.flags(), None)
        .await?
        .done()?;
    take_restored(&cluster)?;
    cluster.finish().await
}
