//! What lies in `deploy/` can be used as it is: the programs and the server read it.

use std::{collections::BTreeSet, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use seawall_tests::harness::{
    binary::{binary, system_program, unpacked_program},
    ctl::{Output, run_command},
};

const LIMIT: Duration = Duration::from_secs(30);

fn deploy(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(file)
}

async fn print_config(program: &str, file: &str) -> Result<Output> {
    let mut command = Command::new(binary(program)?);
    command.arg("--config").arg(deploy(file));
    command.arg("--print-config");
    run_command(command, LIMIT).await
}

/// Each key of the file is in force, and no other place has a say in it.
async fn every_key_is_known(program: &str, file: &str) -> Result<()> {
    let printed = print_config(program, file).await?.done()?;
    let text = std::fs::read_to_string(deploy(file))?;
    let from_file = printed.lines().filter(|line| line.contains(file)).count();
    let keys = text
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains(" = "))
        .count();
    ensure!(
        keys > 0 && from_file == keys,
        "{keys} keys, but:\n{printed}"
    );
    Ok(())
}

#[tokio::test]
async fn the_coordinators_example_configuration_is_read() -> Result<()> {
    every_key_is_known("seawall-coordinator", "coordinator.toml").await
}

#[tokio::test]
async fn the_agents_example_configuration_is_read() -> Result<()> {
    every_key_is_known("seawall-agent", "agent.toml").await
}

#[tokio::test]
async fn the_agents_example_configuration_is_right_with_its_comments_taken_away_too() -> Result<()>
{
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("agent.toml");
    let text = std::fs::read_to_string(deploy("agent.toml"))?;
    let text = text
        .replace("# recipients", "recipients")
        .replace("# identity_file", "identity_file");
    std::fs::write(&file, text)?;
    let mut command = Command::new(binary("seawall-agent")?);
    command.arg("--config").arg(&file).arg("--print-config");
    let printed = run_command(command, LIMIT).await?.done()?;
    ensure!(printed.contains("repository.identity_file"), "{printed}");
    Ok(())
}

/// What stands there commented out, from limits to TLS, is right as well.
#[tokio::test]
async fn the_examples_of_tls_and_limits_are_right_with_their_comments_taken_away() -> Result<()> {
    for (program, example, key) in [
        ("seawall-coordinator", "coordinator.toml", "limits.watchers"),
        ("seawall-agent", "agent.toml", "tls.cert_file"),
    ] {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join(example);
        let text = std::fs::read_to_string(deploy(example))?;
        let (before, rest) = text.split_once("[repository]").context("no repository")?;
        let sections = ["# [limits]", "# [tls]"];
        let mut is_example = false;
        let lines = before.lines().map(|line| {
            is_example = match line {
                "" => false,
                line => is_example || sections.contains(&line),
            };
            match is_example {
                true => line.trim_start_matches("# "),
                false => line,
            }
        });
        let text = lines.collect::<Vec<_>>().join("\n") + "\n[repository]" + rest;
        std::fs::write(&file, text)?;
        let mut command = Command::new(binary(program)?);
        command.arg("--config").arg(&file).arg("--print-config");
        let printed = run_command(command, LIMIT).await?.done()?;
        for key in [key, "tls.ca_file"] {
            let line = printed.lines().find(|line| line.starts_with(key));
            let line = line.with_context(|| format!("no {key} in {printed}"))?;
            ensure!(line.contains(example), "{line}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn mariadb_knows_every_option_of_the_example_server() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let text = std::fs::read_to_string(deploy("mariadb/tablet.cnf"))?;
    let text = text
        .replace("# read_only", "read_only")
        .replace("# skip_slave", "skip_slave");
    let file = directory.path().join("tablet.cnf");
    std::fs::write(&file, text)?;
    let mut command = Command::new(system_program("mariadbd")?);
    command
        .arg(format!("--defaults-file={}", file.display()))
        .arg(format!("--datadir={}", directory.path().display()))
        .args(["--help", "--verbose"]);
    let printed = run_command(command, LIMIT).await?.done()?;
    for (option, value) in [
        ("gtid-strict-mode", "TRUE"),
        ("log-bin", "bin"),
        ("relay-log", "relay"),
        ("sync-binlog", "1"),
        ("log-slave-updates", "TRUE"),
        ("read-only", "TRUE"),
        ("skip-slave-start", "TRUE"),
    ] {
        let line = printed
            .lines()
            .find(|line| line.split_whitespace().next() == Some(option))
            .with_context(|| format!("the server does not say what {option} is"))?;
        ensure!(line.split_whitespace().last() == Some(value), "{line}");
    }
    Ok(())
}

#[test]
fn the_database_outlives_the_agents_unit() -> Result<()> {
    let unit = std::fs::read_to_string(deploy("systemd/seawall-agent@.service"))?;
    let says = |line: &str| unit.lines().any(|l| l == line);
    ensure!(says("KillMode=process"));
    ensure!(says("OOMPolicy=continue"));
    // Both are emptied or removed when the agent stops, under a server that still uses them.
    ensure!(!unit.contains("PrivateTmp=") && !unit.contains("RuntimeDirectory="));
    Ok(())
}

/// `promtool`, run beside the rules; no output when it cannot be had, which is said.
async fn promtool(args: &[&str]) -> Result<Option<Output>> {
    let Some(program) = unpacked_program("prometheus", "promtool")? else {
        return Ok(None);
    };
    let mut command = Command::new(program);
    command.args(args).current_dir(deploy("prometheus"));
    run_command(command, 4 * LIMIT).await.map(Some)
}

#[tokio::test]
async fn prometheus_reads_the_rules_and_the_example_configuration() -> Result<()> {
    let Some(checked) = promtool(&["check", "config", "prometheus.yml"]).await? else {
        return Ok(());
    };
    let printed = checked.done()?;
    ensure!(printed.contains("rules found"), "{printed}");
    Ok(())
}

#[tokio::test]
async fn the_alarms_are_raised_when_they_should_be_and_not_before() -> Result<()> {
    let tests = ["test", "rules", "minutes.test.yml", "days.test.yml"];
    if let Some(tested) = promtool(&tests).await? {
        tested.done()?;
    }
    Ok(())
}

/// The alerts of the rules, each with its lines.
fn alerts(rules: &str) -> impl Iterator<Item = (&str, &str)> {
    let alerts = rules.split("- alert: ").skip(1);
    alerts.filter_map(|alert| alert.split_once('\n'))
}

#[test]
fn each_alarm_says_what_to_do_and_names_a_section_that_is_there() -> Result<()> {
    let rules = std::fs::read_to_string(deploy("prometheus/seawall.rules.yml"))?;
    let alarms = std::fs::read_to_string(deploy("../docs/alarms.md"))?;
    let headings = alarms.lines().filter_map(|line| line.strip_prefix("## "));
    let kept = |c: &char| c.is_alphanumeric() || *c == '-';
    let anchor = |heading: &str| -> String {
        let dashed = heading.to_lowercase().replace(' ', "-");
        dashed.chars().filter(kept).collect()
    };
    let anchors: BTreeSet<String> = headings.map(anchor).collect();
    let mut count = 0;
    for (name, lines) in alerts(&rules) {
        for needed in ["for: ", "severity: ", "summary: ", "description: "] {
            ensure!(lines.contains(needed), "{name} has no {needed}");
        }
        let link = lines.split_once("runbook: docs/alarms.md#");
        let (_, rest) = link.with_context(|| format!("{name} names no section"))?;
        let section = rest.lines().next().unwrap_or_default();
        ensure!(anchors.contains(section), "{name}: no section {section}");
        count += 1;
    }
    ensure!(count > 20, "only {count} alarms were found");
    Ok(())
}
