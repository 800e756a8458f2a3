//! Which tablets serve, as whoever watches is told, while agents stand still, leave and come back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use seawall_common::{
    coordinators::Coordinators,
    serving::{ServingWatch, Tablets},
    tls::{Dialer, Tls},
};
use seawall_proto::v1::TabletType;
use seawall_tests::harness::{Cluster, ClusterPlan, TabletPlan, wait::PATIENCE};
use tokio::time::timeout;

use crate::directories::directory;

const ALIAS: &str = "zone1-101";
/// An agent of which nothing is heard for so long is silent.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// Waits until the set is such; how long that took.
async fn until(
    watch: &mut ServingWatch<'_>,
    what: &str,
    is_so: impl Fn(&Tablets) -> bool,
) -> Result<Duration> {
    let began = Instant::now();
    let changed = async {
        while !is_so(watch.changed().await?) {}
        Ok::<_, anyhow::Error>(())
    };
    timeout(PATIENCE, changed)
        .await
        .with_context(|| what.to_owned())??;
    Ok(began.elapsed())
}

async fn listed(cluster: &Cluster) -> Result<serde_json::Value> {
    let listed = cluster.ctl(&["-ojson", "ListTablets"]).await?.done()?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    Ok(listed["tablets"][0].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tablet_that_stands_still_leaves_comes_back_and_one_that_ends_is_gone_at_once()
-> Result<()> {
    let mut cluster = ClusterPlan::new("serving").coordinators(3).start().await?;
    let leader = cluster.leader().await?;
    let follower = cluster.coordinators[(leader + 1) % 3].url();
    let data = directory(&cluster, ALIAS);
    std::fs::create_dir_all(&data)?;
    std::fs::write(data.join("journal"), "open\n")?;
    let plan = TabletPlan::new(ALIAS).directory(&data, "journal").set(
        "coordinators",
        toml::Value::Array(vec![follower.clone().into()]),
    );
    cluster.start_tablet(&plan)?;
    cluster.wait_registered(ALIAS).await?;
    cluster
        .ctl(&["InitShardPrimary", "documents/0", ALIAS])
        .await?
        .done()?;

    let coordinators = Coordinators::new(&[follower], &Dialer::new(Tls::off()?))?;
    let mut watch = ServingWatch::new(&coordinators, "documents", "");
    let serves = |tablets: &Tablets| tablets.contains_key(ALIAS);
    until(&mut watch, "it serves", |tablets| {
        let tablet = tablets.get(ALIAS);
        tablet.is_some_and(|t| t.r#type() == TabletType::Primary && t.epoch == 1)
    })
    .await?;

    let agent = cluster.tablet_mut(ALIAS)?.process()?;
    agent.pause()?;
    let gone = until(&mut watch, "it is gone", |tablets| !serves(tablets)).await?;
    ensure!(gone < SILENT_AFTER + Duration::from_secs(2), "{gone:?}");
    ensure!(gone > SILENT_AFTER - Duration::from_secs(2), "{gone:?}");
    let tablet = listed(&cluster).await?;
    ensure!(
        tablet["silent"] == true && tablet["serving"] == false,
        "{tablet}"
    );
    let table = cluster.ctl(&["ListTablets"]).await?.done()?;
    ensure!(table.contains("silent"), "{table}");

    cluster.tablet_mut(ALIAS)?.process()?.resume()?;
    until(&mut watch, "it is back", serves).await?;
    let tablet = listed(&cluster).await?;
    ensure!(
        tablet["silent"] == false && tablet["serving"] == true,
        "{tablet}"
    );

    // Another leader: the set is the same again, and the agent's session goes on with it.
    cluster.coordinators[leader].kill()?;
    let next = cluster.leader().await?;
    ensure!(next != leader);
    let mut anew = ServingWatch::new(&coordinators, "", "");
    until(&mut anew, "it serves under the next leader", serves).await?;

    cluster.tablet_mut(ALIAS)?.terminate()?;
    let gone = until(&mut anew, "it has left", |tablets| !serves(tablets)).await?;
    ensure!(gone < Duration::from_secs(2), "{gone:?}");
    ensure!(listed(&cluster).await?["silent"] == true);
    cluster.tablet_mut(ALIAS)?.start()?;
    until(&mut anew, "it serves again", serves).await?;
    until(
        &mut watch,
        "so says the watch that was there before",
        serves,
    )
    .await?;
    cluster.finish().await
}
