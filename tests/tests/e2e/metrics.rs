//! The numbers that alarms are made of: real programs export each of them under the name that the
//! documents and the rules of `deploy/prometheus` know.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result, ensure};
use seawall_tests::harness::{
    Cluster, ClusterPlan, http,
    wait::{PATIENCE, wait_until},
};

use crate::files::{directory_tablet, fill};

const ALIAS: &str = "zone1-101";

fn text_of(file: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// What is written as a metric of ours anywhere in a text.
fn named(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !is_of_name(c));
    let names = words.filter(|word| word.starts_with("seawall_"));
    names.map(str::to_owned).collect()
}

/// Names of what has a value there.
fn exported(scraped: &str) -> impl Iterator<Item = String> {
    let samples = scraped.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned()))
}

async fn scrape(cluster: &Cluster, member: usize) -> Result<String> {
    let url = cluster.coordinators[member].http_url();
    http::get(&format!("{url}/metrics")).await
}

/// The value on the line that begins so, in what a coordinator exports.
async fn value(cluster: &Cluster, member: usize, line: &str) -> Result<Option<f64>> {
    let scraped = scrape(cluster, member).await?;
    let found = scraped.lines().find_map(|text| text.strip_prefix(line));
    found
        .map(|value| Ok(value.trim().parse::<f64>()?))
        .transpose()
}

/// A group under TLS that has done a little of everything that is counted.
async fn start() -> Result<Cluster> {
    let plan = ClusterPlan::new("metrics").coordinators(3).certified();
    let mut cluster = plan.start().await?;
    let (tablet, data) = directory_tablet(&cluster, ALIAS);
    fill(&data)?;
    cluster.start_tablet(&tablet)?;
    cluster.wait_registered(ALIAS).await?;
    for args in [
        &["InitShardPrimary", "documents/0", ALIAS][..],
        &["Backup", "--allow-primary", ALIAS],
        &["SetSchedule", "yearly", "--cron", "0 3 1 1 *", "--cluster"],
    ] {
        cluster.ctl(args).await?.done()?;
    }
    cluster.wait_serving(ALIAS).await?;
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_number_that_documents_and_rules_name_is_exported_by_that_name() -> Result<()> {
    let cluster = start().await?;
    let mut found = BTreeSet::new();
    for member in 0..3 {
        found.extend(exported(&scrape(&cluster, member).await?));
    }
    let agent = cluster.tablet(ALIAS)?.http_url();
    for program in [&cluster.coordinators[0].http_url(), &agent] {
        let said = http::content_type(&format!("{program}/metrics")).await?;
        ensure!(
            said.starts_with("application/openmetrics-text;"),
            "{program}: {said}"
        );
    }
    found.extend(exported(&http::get(&format!("{agent}/metrics")).await?));

    let documented = named(&text_of("docs/metrics.md")?);
    ensure!(documented.len() > 30, "{documented:?}");
    let missing: Vec<_> = documented.difference(&found).collect();
    ensure!(missing.is_empty(), "nobody exports {missing:?}: {found:?}");
    for file in ["docs/alarms.md", "deploy/prometheus/seawall.rules.yml"] {
        let names = named(&text_of(file)?);
        let unknown: Vec<_> = names.difference(&documented).collect();
        ensure!(
            !names.is_empty() && unknown.is_empty(),
            "{file} names {unknown:?}, docs/metrics.md does not"
        );
    }
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_counts_members_and_agents_that_are_not_heard() -> Result<()> {
    let mut cluster = start().await?;
    let leader = cluster.leader().await?;
    let follower = (leader + 1) % 3;
    let silent = format!(
        "seawall_coordinator_member_silent_seconds{{member=\"{}\",voter=\"true\"}}",
        follower + 1
    );
    let tablets = "seawall_coordinator_tablets_silent ".to_owned();
    for line in [&silent, &tablets] {
        let before = value(&cluster, leader, line).await?;
        ensure!(before == Some(0.0), "{line}: {before:?}");
    }
    cluster.coordinators[follower].kill()?;
    cluster.tablet_mut(ALIAS)?.kill()?;
    for line in [&silent, &tablets] {
        wait_until(&format!("{line} grows"), PATIENCE, || async {
            Ok(value(&cluster, leader, line)
                .await?
                .is_some_and(|n| n > 0.0))
        })
        .await?;
    }
    cluster.coordinators[follower].start()?;
    cluster.tablet_mut(ALIAS)?.start()?;
    for line in [&silent, &tablets] {
        wait_until(&format!("{line} is 0"), PATIENCE, || async {
            Ok(value(&cluster, leader, line).await? == Some(0.0))
        })
        .await?;
    }
    cluster.wait_serving(ALIAS).await?;
    cluster.finish().await
}
