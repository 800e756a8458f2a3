//! The coordinator group by command: members come and go, and it is backed up.

use anyhow::{Result, ensure};
use seawall_tests::harness::{
    coordinator::Coordinator,
    ctl, http,
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

    backed_up_by_itself(&first, &urls).await?;
    let restore = ["RestoreCoordinator", "--data-dir", "/nowhere"];
    ctl::run(&urls, &restore)
        .await?
        .refused(1, &["seawall-coordinator restore --config"])?;

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

/// A schedule takes the group's backup again and again, and keeps as many as it should.
async fn backed_up_by_itself(member: &Coordinator, urls: &[String]) -> Result<()> {
    let set = [
        "SetSchedule",
        "own",
        "--group",
        "--keep",
        "2",
        "--cron",
        "* * * * * *",
    ];
    let said = ctl::run(urls, &set).await?.done()?;
    ensure!(said.contains("for the coordinator group"), "{said}");
    let names = || async {
        let listed = ctl::run(urls, &["-oname", "ListCoordinatorBackups"]).await?;
        let listed = listed.done()?;
        anyhow::Ok(listed.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let first = names().await?;
    wait_until("two others have taken its place", PATIENCE, || async {
        let now = names().await?;
        Ok(now.len() == 2 && first.iter().all(|name| !now.contains(name)))
    })
    .await?;
    let listed = ctl::run(urls, &["ListSchedules", "own"]).await?.done()?;
    ensure!(
        listed.contains("the group") && listed.contains("succeeded"),
        "{listed}"
    );
    let numbers = http::get(&format!("{}/metrics", member.http_url())).await?;
    let name = "seawall_coordinator_group_backup_timestamp_seconds ";
    let taken = numbers.lines().find_map(|line| line.strip_prefix(name));
    ensure!(taken.is_some_and(|at| at.trim() != "0"), "{numbers}");
    ctl::run(urls, &["RemoveSchedule", "own"]).await?.done()?;
    let wrong = [
        "SetSchedule",
        "own",
        "--group",
        "--at-once",
        "2",
        "--cron",
        "@daily",
    ];
    ctl::run(urls, &wrong).await?.refused(2, &["--at-once"])?;
    Ok(())
}
