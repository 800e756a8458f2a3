//! The coordinator group by command: members come and go, and it is backed up.

use anyhow::{Result, ensure};
use seawall_tests::harness::{
    coordinator::Coordinator,
    ctl,
    scratch::Scratch,
    wait::{PATIENCE, wait_until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_grows_shrinks_and_is_backed_up_by_command() -> Result<()> {
    let mut scratch = Scratch::create("coordinators")?;
    let repository = format!("file://{}", scratch.path().join("repository").display());
    let mut first = Coordinator::plan(&scratch, "first", 1, &repository)?;
    first.start()?;
    first.wait_ready().await?;
    let mut second = Coordinator::plan(&scratch, "second", 2, &repository)?;
    second.join(&first.address())?;
    second.start()?;
    let urls = vec![first.url()];
    let address = second.address();

    let nowhere = ctl::run(&urls, &["--timeout", "8s", "AddMember", "3", "127.0.0.1:1"]).await?;
    ensure!(nowhere.code != 0, "{nowhere}");
    let added = ctl::run(&urls, &["AddMember", "2", &address])
        .await?
        .done()?;
    ensure!(added.contains("votes"), "{added}");
    // Again: it is one already.
    ctl::run(&urls, &["add-member", "2", &address])
        .await?
        .done()?;
    let status = ctl::run(&urls, &["-ojson", "ClusterStatus"])
        .await?
        .done()?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    let members = status["members"].as_array().cloned().unwrap_or_default();
    ensure!(members.len() == 2, "{status}");
    for member in &members {
        ensure!(
            member["voter"] == true && member["answers"] == true,
            "{status}"
        );
        ensure!(member["log_bytes"].as_u64() > Some(0), "{status}");
        ensure!(member["disk_free_bytes"].as_u64() > Some(0), "{status}");
        ensure!(member["lag_entries"].as_u64() < Some(1000), "{status}");
    }
    ensure!(status["repository_error"].is_null(), "{status}");

    let name = ctl::run(&urls, &["BackupCoordinator", "--keep", "3"])
        .await?
        .done()?;
    let listed = ctl::run(&urls, &["-oname", "ListCoordinatorBackups"])
        .await?
        .done()?;
    ensure!(listed == name, "{listed} is not {name}");
    let check = ["repository", "check", "--repository", &repository, "-ojson"];
    let checked = ctl::run(&urls, &check).await?.done()?;
    let checked: serde_json::Value = serde_json::from_str(&checked)?;
    ensure!(checked["unknown"]["objects"] == 0, "{checked}");

    ctl::run(&urls, &["RemoveMember", "7"])
        .await?
        .refused(1, &["no member 7"])?;
    ctl::run(&urls, &["RemoveMember", "2"]).await?.done()?;
    ctl::run(&urls, &["RemoveMember", "1"])
        .await?
        .refused(1, &["the last one"])?;
    wait_until("the one that was removed ends", PATIENCE, || {
        let ended = !second.is_running();
        async move { Ok(ended) }
    })
    .await?;
    ctl::run(&urls, &["timestamp", "fetch"]).await?.done()?;
    drop((first, second));
    scratch.discard();
    Ok(())
}
