//! Mutual TLS on real programs: the everyday work goes on under it, and whoever is not welcome is
//! told so in one line and has changed nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use seawall_common::tls::{Dialer, Tls, TlsConfig};
use seawall_proto::v1::{self, agents_client::AgentsClient, topology_client::TopologyClient};
use seawall_tests::harness::{
    Cluster, ClusterPlan, TabletPlan,
    certificates::{Certificates, environment},
    ctl, http,
    wait::{PATIENCE, wait_until},
};
use tonic::Code;

const VIEWER: &str = "viewer-test";
/// A mistake is told within a second; a slow machine starts programs slowly.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Certificates of the cluster, which has some.
fn certificates(cluster: &Cluster) -> Result<&Certificates> {
    cluster.certificates.as_ref().context("no certificates")
}

/// SIGHUP to the first coordinator.
fn hang_up(cluster: &mut Cluster) -> Result<()> {
    let id = cluster.coordinators[0].process()?.id();
    Ok(kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGHUP)?)
}

/// What there is, as the coordinators tell it.
async fn known(cluster: &Cluster) -> Result<String> {
    let listed = cluster.ctl(&["ListTablets", "-o", "name"]).await?.done()?;
    let held = cluster.ctl(&["backup-lock", "--status", "-o", "name"]);
    Ok(listed + &held.await?.done()?)
}

async fn ask(
    cluster: &Cluster,
    member: usize,
    who: &[(String, String)],
    args: &[&str],
) -> Result<ctl::Output> {
    ctl::run_as(&[cluster.coordinators[member].url()], who, args).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_coordinators_agents_and_seawallctl_work_under_mutual_tls() -> Result<()> {
    let mut cluster = ClusterPlan::new("tls")
        .coordinators(3)
        .certified()
        .start()
        .await?;
    cluster.start_small_shard(2).await?;
    let primary = cluster.tablet("zone1-101")?;
    primary
        .server
        .execute(&[
            "CREATE DATABASE shop",
            "CREATE TABLE shop.orders (id INT PRIMARY KEY)",
        ])
        .await?;
    cluster.ctl(&["Backup", "zone1-102"]).await?.done()?;

    // The leader goes; the others are called on, and know each other by their certificates.
    let leader = cluster.leader().await?;
    cluster.coordinators[leader].kill()?;
    let listed = cluster
        .ctl(&["ListBackups", "commerce/0", "-o", "name"])
        .await?;
    ensure!(listed.done()?.lines().count() == 1);
    cluster.coordinators[leader].start()?;
    cluster.coordinators[leader].wait_ready().await?;
    cluster.leader().await?;
    let status = cluster
        .ctl(&["ClusterStatus", "-o", "json"])
        .await?
        .done()?;
    ensure!(!status.contains("\"answers\": false"), "{status}");

    cluster.start_tablet(&TabletPlan::new("zone1-103").restored())?;
    cluster.wait_serving("zone1-103").await?;
    let reparent = [
        "PlannedReparentShard",
        "commerce/0",
        "--new-primary",
        "zone1-103",
    ];
    cluster.ctl(&reparent).await?.done()?;
    cluster.wait_serving("zone1-101").await?;
    let metrics = http::get(&format!("{}/metrics", cluster.coordinators[0].http_url())).await?;
    let expiry = "seawall_coordinator_tls_certificate_expires_timestamp_seconds";
    ensure!(metrics.contains(expiry), "{metrics}");
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_not_the_role_is_told_which_one_it_takes_and_changes_nothing() -> Result<()> {
    let mut cluster = ClusterPlan::new("roles")
        .coordinators(3)
        .certified()
        .start()
        .await?;
    cluster.init_tablet("zone1-101").await?;
    let before = known(&cluster).await?;
    ensure!(before.contains("zone1-101"), "{before}");

    // On the leader, and on a follower that would pass the call on.
    let leader = cluster.leader().await?;
    let viewer = cluster.environment(VIEWER);
    for member in [leader, (leader + 1) % 3] {
        ask(&cluster, member, &viewer, &["ListTablets"])
            .await?
            .done()?;
        for args in [
            &["RemoveTablet", "zone1-101"][..],
            &["backup-lock", "--acquire", "--reason", "none"],
            &["timestamp", "fast-forward", "--timestamp", "900000000"],
        ] {
            let refused = ask(&cluster, member, &viewer, args).await?;
            refused.refused(
                1,
                &[
                    "needs the role operator",
                    "viewer/test",
                    "CreateCertificates",
                ],
            )?;
        }
    }
    ensure!(known(&cluster).await? == before);
    let given: u64 = cluster
        .ctl(&["timestamp", "fetch", "-o", "name"])
        .await?
        .done()?
        .trim()
        .parse()?;
    ensure!(given < 900_000_000, "{given}");

    // An operator is no agent, an agent speaks for its own tablet, and neither is a member.
    certificates(&cluster)?.add(&["--agent=zone1-777=127.0.0.1"])?;
    let register = v1::RegisterRequest {
        alias: "zone1-101".to_owned(),
        shard: Some(v1::ShardRef {
            keyspace: "commerce".to_owned(),
            shard: "0".to_owned(),
        }),
        instance: "another".to_owned(),
        agent_address: "https://127.0.0.1:1".to_owned(),
        engine: "mariadb".to_owned(),
        ..Default::default()
    };
    for (who, says) in [
        ("operator-test", "needs the role agent"),
        ("agent-zone1-777", "speaks for the tablet zone1-777"),
    ] {
        for member in [leader, (leader + 1) % 3] {
            let channel = channel(&cluster, member, who)?;
            let refusal = AgentsClient::new(channel).register(register.clone()).await;
            let refusal = refusal.err().context("was taken")?;
            ensure!(refusal.code() == Code::PermissionDenied, "{refusal}");
            ensure!(refusal.message().contains(says), "{refusal}");
        }
    }
    ensure!(known(&cluster).await? == before);

    // One line on the member that was asked, none where the call was passed on to.
    let removal = ["RemoveTablet", "zone1-101"];
    let follower = (leader + 1) % 3;
    let operator = cluster.environment("operator-test");
    ask(&cluster, follower, &operator, &removal).await?.done()?;
    for (index, member) in cluster.coordinators.iter().enumerate() {
        let log = member.log_text();
        let lines = log
            .lines()
            .filter(|line| line.contains("audit") && line.contains("Topology/RemoveTablet"));
        let done = lines.filter(|line| line.contains("operator/test") && line.contains("ok"));
        let expected = usize::from(index == follower);
        ensure!(done.count() == expected, "member {index}: {log}");
    }
    cluster.finish().await
}

fn channel(cluster: &Cluster, member: usize, who: &str) -> Result<tonic::transport::Channel> {
    use seawall_common::tls::{Dial, ServerUrl, Whom};
    let url: ServerUrl = cluster.coordinators[member].url().parse()?;
    let dialer = certificates(cluster)?.dialer(who)?;
    Ok(dialer.channel(&url, Whom::Coordinator, Dial::within(PATIENCE))?)
}

/// An operator's certificate of the cluster's own authority, which ended an hour ago.
fn expired(certificates: &Certificates) -> Result<TlsConfig> {
    let read = |name: &str| std::fs::read_to_string(certificates.directory().join(name));
    let key = KeyPair::from_pem(&read("ca.key")?)?;
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt")?, key)?;
    let mut params = CertificateParams::new(Vec::new())?;
    let uri = "seawall:operator/late".try_into()?;
    params.subject_alt_names.push(SanType::URI(uri));
    params.not_after = rcgen::date_time_ymd(2026, 1, 1);
    let key = KeyPair::generate()?;
    let files = certificates.of("operator-late");
    let write = |file: &Option<std::path::PathBuf>, text: String| {
        std::fs::write(file.as_ref().context("no file")?, text).map_err(anyhow::Error::from)
    };
    write(&files.cert_file, params.signed_by(&key, &issuer)?.pem())?;
    write(&files.key_file, key.serialize_pem())?;
    Ok(files)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_between_seawallctl_and_a_coordinator_is_said_at_once() -> Result<()> {
    let cluster = ClusterPlan::new("tls-trouble").certified().start().await?;
    let own = certificates(&cluster)?;
    let others = Certificates::make(
        &cluster.scratch.path().join("others"),
        &["--operator=test".to_owned()],
    )?;
    let foreign = TlsConfig {
        ca_file: own.of("any").ca_file,
        ..others.of("operator-test")
    };
    let only_authority = TlsConfig {
        ca_file: own.of("any").ca_file,
        ..TlsConfig::default()
    };
    let url = cluster.coordinators[0].url();
    let plain = url.replace("https://", "http://");
    for (url, files, says) in [
        (&plain, own.of("operator-test"), "speaks TLS. Use https://"),
        (&url, expired(own)?, "which has expired"),
        (&url, foreign, "whose authority it does not know"),
        (
            &url,
            others.of("operator-test"),
            "authority that is not known here",
        ),
        (&url, only_authority, "demands a certificate"),
    ] {
        let began = Instant::now();
        let urls = [url.clone()];
        let said = ctl::run_as(&urls, &environment(&files), &["ListTablets"]).await?;
        said.refused(3, &[says])?;
        ensure!(began.elapsed() < AT_ONCE, "{says}: {:?}", began.elapsed());
    }
    // A program that speaks plain HTTP is told so, too.
    ensure!(http::status(&plain).await? == 400);
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_used_without_a_restart_and_streams_go_on() -> Result<()> {
    let mut cluster = ClusterPlan::new("tls-renewed").certified().start().await?;
    cluster.init_tablet("zone1-101").await?;
    let channel = cluster.channel().await?;
    let mut topology = TopologyClient::new(channel.clone());
    let request = v1::WatchServingRequest::default();
    let mut stream = topology.watch_serving(request).await?.into_inner();
    stream.message().await?.context("the watch ended")?;

    let metrics = format!("{}/metrics", cluster.coordinators[0].http_url());
    let expires = async || {
        let text = http::get(&metrics).await?;
        let name = "seawall_coordinator_tls_certificate_expires_timestamp_seconds ";
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        Ok::<i64, anyhow::Error>(value.context("no metric")?.trim().parse()?)
    };
    let before = expires().await?;
    let renew = ["--member=1=127.0.0.1", "--renew", "--valid-for=800d"];
    certificates(&cluster)?.add(&renew)?;
    hang_up(&mut cluster)?;
    wait_until("the new certificate is used", PATIENCE, || async {
        Ok(expires().await? > before + 300 * 86400)
    })
    .await?;
    cluster.ctl(&["ListTablets"]).await?.done()?;

    // The watch has not been cut, on the connection that it began on.
    let pending = tokio::time::timeout(Duration::from_millis(200), stream.message()).await;
    ensure!(pending.is_err(), "the watch ended: {pending:?}");
    let listed = TopologyClient::new(channel)
        .list_tablets(v1::ListTabletsRequest::default())
        .await?;
    ensure!(listed.into_inner().tablets.len() == 1);

    // A file that cannot be used is told of, and the other one stays.
    let file = certificates(&cluster)?.of("coordinator-1").cert_file;
    std::fs::write(file.context("no file")?, "nonsense")?;
    hang_up(&mut cluster)?;
    let member = &cluster.coordinators[0];
    wait_until("it says so", PATIENCE, || async {
        Ok(member.log_text().contains("the old ones stay"))
    })
    .await?;
    cluster.ctl(&["ListTablets"]).await?.done()?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_certificate_opens_no_agent_and_a_coordinator_without_one_gets_nowhere()
-> Result<()> {
    let mut cluster = ClusterPlan::new("tls-agent").certified().start().await?;
    cluster.start_tablet(&TabletPlan::new("zone1-101"))?;
    cluster.wait_registered("zone1-101").await?;
    let tablet = cluster.tablet("zone1-101")?;
    // As the first coordinator, the agent answers.
    tablet.status().await?;
    let url = tablet.grpc_url();
    for who in ["operator-test", "viewer-test", "agent-zone1-101"] {
        let dialer = certificates(&cluster)?.dialer(who)?;
        let refusal = agent_status(&dialer, &url)
            .await
            .err()
            .context("was taken")?;
        ensure!(refusal.code() == Code::PermissionDenied, "{who}: {refusal}");
        ensure!(
            refusal.message().contains("needs the role coordinator"),
            "{refusal}"
        );
    }
    let nobody = Tls::load(TlsConfig {
        ca_file: certificates(&cluster)?.of("any").ca_file,
        ..TlsConfig::default()
    })?;
    ensure!(agent_status(&Dialer::new(nobody), &url).await.is_err());
    cluster.finish().await
}

async fn agent_status(dialer: &Dialer, url: &str) -> Result<(), tonic::Status> {
    use seawall_common::tls::{Dial, ServerUrl, Whom};
    let url: ServerUrl = url.parse()?;
    let channel = dialer.channel(&url, Whom::Agent, Dial::within(PATIENCE))?;
    let mut agent = v1::agent_client::AgentClient::new(channel);
    agent.status(v1::AgentStatusRequest {}).await.map(drop)
}
