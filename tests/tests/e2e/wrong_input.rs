//! Wrong input: one clear line, the right exit code, and nothing started.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use seawall_tests::harness::{
    ClusterPlan, Tablet, TabletPlan,
    binary::binary,
    config::{Config, list},
    coordinator::Coordinator,
    ctl::{self, Output},
    ports::Port,
    scratch::Scratch,
    tablet::Data,
    wait::{PATIENCE, wait_until},
};

const LIMIT: Duration = Duration::from_secs(30);

/// The last line of what a server program printed: what it died of.
fn last_line(output: &Output) -> &str {
    let mut lines = output.stderr.lines().rev();
    lines.find(|line| !line.trim().is_empty()).unwrap_or("")
}

fn check(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    ensure!(output.code == code, "expected exit code {code}: {output}");
    let line = last_line(output);
    for word in words {
        ensure!(
            line.contains(word),
            "expected {word:?} in the last line: {output}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_command_lines_are_explained_in_one_line() -> Result<()> {
    let nobody = vec!["http://127.0.0.1:1".to_owned()];
    for (args, code, word) in [
        ("Backup zone1", 2, "alias"),
        ("Backup ../x-1", 2, "alias"),
        ("Backup", 2, "ALIAS"),
        ("Backup --concurrency 0 zone1-101", 2, "concurrency"),
        ("Backup --no-such-option zone1-101", 2, "--no-such-option"),
        ("ListBackups ../0", 2, "keyspace"),
        ("ListBackups commerce/..", 2, "shard"),
        ("ListBackups commerce", 2, "commerce"),
        (
            "InitTablet --keyspace ../etc --shard 0 zone1-101",
            2,
            "keyspace",
        ),
        (
            "InitTablet --keyspace commerce --shard ../0 zone1-101",
            2,
            "shard",
        ),
        ("ChangeTabletType zone1-101 queen", 2, "queen"),
        ("RemoveBackup commerce/0 ../../x", 2, "backup"),
        ("WatchOperation 17", 2, "17"),
        ("AddMember 0 a:7601", 2, "0"),
        ("AddMember 4", 2, "HOST:PORT"),
        ("RemoveMember x", 2, "x"),
        ("BackupCoordinator --keep 0", 2, "keep"),
        ("backup-lock --acquire --for never", 2, "never"),
        ("timestamp fast-forward", 2, "--timestamp"),
        ("NoSuchCommand", 2, "NoSuchCommand"),
        ("--output yaml ListTablets", 2, "yaml"),
        ("--coordinator ftp://x ListTablets", 2, "ftp"),
        ("--timeout 2s ListTablets", 3, "127.0.0.1:1"),
        ("--timeout 2s Backup zone1-101", 3, "127.0.0.1:1"),
    ] {
        let args: Vec<&str> = args.split_whitespace().collect();
        let output = ctl::run(&nobody, &args).await?;
        output.refused(code, &[word])?;
    }
    Ok(())
}

async fn run_agent(file: &std::path::Path) -> Result<Output> {
    let mut command = Command::new(binary("seawall-agent")?);
    command.arg("--config").arg(file);
    ctl::run_command(command, LIMIT).await
}

/// A configuration without any fault, of a tablet that need not start.
fn good_tablet(scratch: &Scratch) -> Result<Tablet> {
    let mut plan = TabletPlan::new("zone1-101");
    plan.data = Data::Nothing;
    let repository = format!("file://{}", scratch.path().join("repository").display());
    Tablet::prepare(
        scratch,
        &plan,
        &["http://127.0.0.1:1".to_owned()],
        &repository,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_agent_configuration_ends_it_with_one_clear_line() -> Result<()> {
    let mut scratch = Scratch::create("agent-config")?;
    let tablet = good_tablet(&scratch)?;
    let file = scratch.path().join("wrong.toml");
    type Change = Box<dyn Fn(&mut Config)>;
    let set = |key: &'static str, value: &'static str| -> Change {
        Box::new(move |config: &mut Config| {
            config.set(key, value);
        })
    };
    let unset = |key: &'static str| -> Change {
        Box::new(move |config: &mut Config| {
            config.unset(key);
        })
    };
    let cases: Vec<(Change, Vec<&str>)> = vec![
        (set("alias", "zone1"), vec!["alias", "zone1"]),
        (set("keyspace", "../etc"), vec!["keyspace"]),
        (set("shard", ".."), vec!["shard"]),
        (unset("alias"), vec!["alias"]),
        (
            set("restore_form_backup", "true"),
            vec!["restore_form_backup", "restore_from_backup"],
        ),
        (
            set("engine.data_dri", "/x"),
            vec!["engine.data_dri", "engine.data_dir"],
        ),
        (
            set("repository.url", "ftp://host/x"),
            vec!["ftp", "file://"],
        ),
        (set("repository.url", "nonsense"), vec!["nonsense"]),
        (set("engine.kind", "oracle"), vec!["oracle", "mariadb"]),
        (
            set("engine.defaults_file", "/nowhere/my.cnf"),
            vec!["/nowhere/my.cnf"],
        ),
        (
            Box::new(|config| {
                config.set("engine.start_command", list(["/nowhere/mariadbd"]));
            }),
            vec!["/nowhere/mariadbd"],
        ),
        (
            set("engine.replication.password_file", "/nowhere/pw"),
            vec!["/nowhere/pw"],
        ),
        (set("listen", "somewhere"), vec!["somewhere", "listen"]),
        (
            set("http_listen", "0.0.0.0:7612"),
            vec!["loopback", "--insecure"],
        ),
        (set("state_dir", "/proc/nowhere"), vec!["/proc/nowhere"]),
        (set("drain_time", "a while"), vec!["a while"]),
        (
            set("repository.identity_file", "/nowhere/key"),
            vec!["/nowhere/key"],
        ),
    ];
    for (change, words) in cases {
        let mut config = tablet.config.clone();
        change(&mut config);
        config.write(&file)?;
        check(&run_agent(&file).await?, 1, &words)?;
    }
    std::fs::write(&file, "alias = ")?;
    check(&run_agent(&file).await?, 1, &["wrong.toml"])?;
    check(
        &run_agent(&PathBuf::from("/nowhere.toml")).await?,
        1,
        &["/nowhere.toml"],
    )?;
    scratch.discard();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_coordinator_configuration_ends_it_with_one_clear_line() -> Result<()> {
    let mut scratch = Scratch::create("coordinator-config")?;
    let good = Coordinator::plan(&scratch, "one", 1, "file:///nowhere-to-be-made")?;
    let file = scratch.path().join("wrong.toml");
    let blocked = scratch.path().join("a-file");
    std::fs::write(&blocked, "")?;
    let below_a_file = blocked.join("repository").display().to_string();
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken_address = taken.local_addr()?.to_string();
    for (key, value, words) in [
        ("repository.url", "ftp://host/x", vec!["ftp", "file://"]),
        (
            "repository.url",
            &format!("file://{below_a_file}"),
            vec!["a-file"],
        ),
        ("data_dir", &below_a_file, vec!["a-file"]),
        ("data_dri", "x", vec!["data_dri", "data_dir"]),
        ("listen", "somewhere", vec!["listen"]),
        ("listen", "0.0.0.0:7601", vec!["loopback", "--insecure"]),
        ("listen", &taken_address, vec![&taken_address]),
    ] {
        let mut config = good.config.clone();
        let repository = scratch.path().join("repository").display().to_string();
        config.set("repository.url", format!("file://{repository}"));
        config.set(key, value);
        config.write(&file)?;
        let mut command = Command::new(binary("seawall-coordinator")?);
        command.arg("--config").arg(&file);
        check(&ctl::run_command(command, LIMIT).await?, 1, &words)?;
    }
    drop(taken);
    scratch.discard();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unwritable_directory_is_named() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        // Root writes anywhere; what it cannot write is tried in the tables above.
        return Ok(());
    }
    let mut scratch = Scratch::create("unwritable")?;
    let mut tablet = good_tablet(&scratch)?;
    let sealed = scratch.path().join("sealed");
    std::fs::create_dir(&sealed)?;
    std::fs::set_permissions(&sealed, std::fs::Permissions::from_mode(0o500))?;
    let state = sealed.join("state").display().to_string();
    tablet.config.set("state_dir", state.as_str());
    let file = scratch.path().join("wrong.toml");
    tablet.config.write(&file)?;
    check(&run_agent(&file).await?, 1, &[&state])?;
    scratch.discard();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_database_password_is_said_and_nothing_is_broken() -> Result<()> {
    let mut cluster = ClusterPlan::new("password").start().await?;
    let password = cluster.scratch.path().join("wrong.password");
    std::fs::write(&password, "not the password\n")?;
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600))?;
    let plan =
        TabletPlan::new("zone1-101").set("engine.password_file", password.display().to_string());
    cluster.start_tablet(&plan)?;
    let tablet = cluster.tablet("zone1-101")?;
    wait_until("the agent says that it was denied", PATIENCE, || async {
        Ok(tablet.log_text().contains("ccess denied"))
    })
    .await?;
    ensure!(
        !tablet.log_text().contains("not the password"),
        "a secret in the log"
    );
    ensure!(!tablet.is_serving().await.unwrap_or(false));
    cluster.tablet_mut("zone1-101")?.kill().ok();
    cluster.tablets.clear();
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_backup_is_not_restored_without_the_right_identity() -> Result<()> {
    let mut cluster = ClusterPlan::new("identity").start().await?;
    let mut keys = Vec::new();
    for name in ["right", "wrong"] {
        let file = cluster.scratch.path().join(name).display().to_string();
        let args = ["GenerateIdentity", "--output-file", &file];
        let printed = cluster.ctl(&args).await?.done()?;
        let public = printed
            .split_whitespace()
            .find(|word| word.starts_with("age1"))
            .context("no public key was printed")?;
        keys.push((public.to_owned(), file));
    }
    let writer = |alias: &str| {
        TabletPlan::new(alias).set("repository.recipients", list([keys[0].0.as_str()]))
    };
    cluster
        .start_shard(&["zone1-101", "zone1-102"].map(writer))
        .await?;
    cluster.back_up("zone1-102").await?;

    let without = TabletPlan::new("zone1-103").restored();
    let wrong = TabletPlan::new("zone1-104")
        .restored()
        .set("repository.identity_file", keys[1].1.as_str());
    for plan in [without, wrong] {
        let alias = plan.alias.clone();
        cluster.start_tablet(&plan)?;
        let tablet = cluster.tablet(&alias)?;
        wait_until(
            &format!("{alias} says what is missing"),
            PATIENCE,
            || async { Ok(tablet.log_text().contains("identity")) },
        )
        .await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        ensure!(!tablet.server.data_dir().exists());
        ensure!(tablet.server.process().is_none());
    }
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_no_coordinator_waits_and_says_so() -> Result<()> {
    let mut scratch = Scratch::create("lonely")?;
    let nobody = Port::reserve()?.url();
    let repository = format!("file://{}", scratch.path().join("repository").display());
    let mut tablet = Tablet::prepare(
        &scratch,
        &TabletPlan::new("zone1-101"),
        &[nobody],
        &repository,
    )?;
    tablet.start()?;
    wait_until(
        "the agent says that no coordinator answers",
        PATIENCE,
        || async { Ok(tablet.log_text().contains("coordinator")) },
    )
    .await?;
    ensure!(!tablet.is_serving().await.unwrap_or(false));
    tablet.terminate()?;
    scratch.discard();
    Ok(())
}
