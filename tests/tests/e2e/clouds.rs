//! Repositories in object stores: Ceph's gateway, which is a real S3 server, and Azure's emulator.

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};
use seawall_tests::harness::{
    ClusterPlan, TabletPlan,
    azurite::Azurite,
    binary::binary,
    ceph::Ceph,
    ctl::{Output, run_command},
    load::{Load, check_nothing_is_lost},
    objects::Bucket,
    ports::Port,
    proxy::{Cut, Proxy},
    scratch::Scratch,
    wait::{PATIENCE, wait_until},
};

const LIMIT: Duration = Duration::from_secs(120);
const SHARD: &str = "commerce/0";

/// The checks that a directory has to pass too.
async fn conforms(bucket: &Bucket) -> Result<()> {
    run(bucket, "conformance", &[]).await?.done().map(drop)
}

async fn put(bucket: &Bucket, bytes: usize) -> Result<Output> {
    run(bucket, "conformance", &["--put", &bytes.to_string()]).await
}

async fn list(bucket: &Bucket) -> Result<Output> {
    run(bucket, "seawallctl", &["repository", "list"]).await
}

async fn run(bucket: &Bucket, program: &str, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary(program)?);
    bucket.tell(&mut command);
    command.args(args);
    run_command(command, LIMIT).await
}

/// A coordinator that is to make a repository there does not start: what it says.
async fn coordinator_refuses(scratch: &Scratch, bucket: &Bucket) -> Result<String> {
    let (grpc, http) = (Port::reserve()?, Port::reserve()?);
    let data = scratch.path().join("refused");
    let data = data.display().to_string();
    let args = [
        "--data-dir",
        &data,
        "--listen",
        &grpc.address(),
        "--http-listen",
        &http.address(),
    ];
    let output = run(bucket, "seawall-coordinator", &args).await?;
    ensure!(output.code != 0, "{output}");
    let errors: Vec<&str> = output
        .stderr
        .lines()
        .filter(|line| line.starts_with("seawall-coordinator: "))
        .collect();
    ensure!(errors.len() == 1, "expected one line: {output}");
    Ok(errors[0].to_owned())
}

/// A shard is backed up while it is written to, by an agent that hears no first answer to a put, and
/// restored; what is removed is gone.
async fn a_shard_is_backed_up_and_restored(name: &str, bucket: Bucket) -> Result<()> {
    let mut cluster = ClusterPlan::new(name)
        .bucket(bucket)
        .set("removal_grace", "1s")
        .start()
        .await?;
    let replica = TabletPlan::new("zone1-102").faults("repository.put=lose-answer-once");
    cluster
        .start_shard(&[TabletPlan::new("zone1-101"), replica])
        .await?;
    let load = Load::start(&cluster.tablet("zone1-101")?.server).await?;
    load.wait_progress(50).await?;
    let first = cluster.back_up("zone1-102").await?;
    cluster.wait_serving("zone1-102").await?;
    let second = cluster.back_up("zone1-102").await?;
    cluster.wait_serving("zone1-102").await?;
    cluster
        .ctl(&["RemoveBackup", SHARD, &first])
        .await?
        .done()?;
    let left = cluster.backups(SHARD, false).await?;
    ensure!(left.len() == 1 && left[0].name == second, "{left:?}");

    let plan = TabletPlan::new("zone1-103")
        .restored()
        .faults("repository.get=fail-once");
    cluster.start_tablet(&plan)?;
    cluster.wait_serving("zone1-103").await?;
    let orders = load.stop().await?;
    cluster.wait_caught_up("zone1-103", "zone1-101").await?;
    cluster.check_equal(&["zone1-101", "zone1-103"]).await?;
    check_nothing_is_lost(&cluster.tablet("zone1-103")?.server, &orders).await?;
    cluster.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_cephs_gateway_a_shard_is_backed_up_and_restored() -> Result<()> {
    let mut scratch = Scratch::create("ceph-cluster")?;
    let Some(ceph) = Ceph::start(&scratch).await? else {
        scratch.discard();
        return Ok(());
    };
    let bucket = ceph.bucket("cluster", false).await?;
    a_shard_is_backed_up_and_restored("ceph-shard", bucket).await?;
    scratch.discard();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_cephs_gateway_keeps_its_promises_except_with_versioning_and_says_what_is_wrong()
-> Result<()> {
    let mut scratch = Scratch::create("ceph")?;
    let Some(ceph) = Ceph::start(&scratch).await? else {
        scratch.discard();
        return Ok(());
    };
    let plain = ceph.bucket("plain", false).await?;
    conforms(&plain).await?;
    cut_off_requests_do_no_harm(&ceph, &plain).await?;

    let versioned = ceph.bucket("versioned", true).await?;
    let line = coordinator_refuses(&scratch, &versioned).await?;
    ensure!(line.contains("create-only puts do not hold"), "{line}");
    ensure!(line.contains("versioning"), "{line}");

    let wrong = plain
        .clone()
        .environment("AWS_SECRET_ACCESS_KEY", "geheim-und-falsch");
    let line = list(&wrong).await?.refused(1, &["credentials"])?;
    ensure!(!line.contains("geheim"), "{line}");
    let missing = ceph.named("missing");
    list(&missing)
        .await?
        .refused(1, &["NoSuchBucket", "bucket"])?;
    let line = coordinator_refuses(&scratch, &missing).await?;
    ensure!(line.contains("NoSuchBucket"), "{line}");
    let unreachable = plain
        .clone()
        .set("repository.endpoint", Port::reserve()?.url())
        .set("repository.retry_limit", "2s");
    list(&unreachable)
        .await?
        .refused(1, &["given up after 2s"])?;

    // It takes connections and never answers: the machine stands still.
    ceph.gateway()?.pause()?;
    let impatient = plain
        .set("repository.request_timeout", "1s")
        .set("repository.retry_limit", "3s");
    list(&impatient)
        .await?
        .refused(1, &["no answer within 1s"])?;
    ceph.gateway()?.resume()?;
    scratch.discard();
    Ok(())
}

/// Each request of a put breaks, is not heard, or hangs; and one put never comes through.
async fn cut_off_requests_do_no_harm(ceph: &Ceph, bucket: &Bucket) -> Result<()> {
    const BYTES: usize = 33 << 20;
    let proxy = Proxy::start(&ceph.address()).await?;
    let behind = bucket
        .clone()
        .set("repository.endpoint", proxy.url())
        .set("repository.request_timeout", "3s");
    proxy.cut(&[Cut::RequestAfter(9 << 20), Cut::Answer]);
    put(&behind, BYTES).await?.done()?;
    ensure!(proxy.is_through(), "the put was not disturbed");
    proxy.cut(&[Cut::Hang]);
    put(&behind, 1 << 20).await?.done()?;
    ensure!(proxy.is_through(), "the put was not disturbed");
    let names = [1 << 20, BYTES].map(|bytes| format!("seawall/conformance/put-{bytes}"));
    ensure!(ceph.objects("plain").await? == names);

    // One put is one request: where it breaks off there is nothing, not even a part of it.
    let empty = ceph.bucket("empty", false).await?;
    let hasty = empty
        .set("repository.endpoint", proxy.url())
        .set("repository.retry_limit", "2s");
    let before = ceph.stored_pieces().await?;
    proxy.cut(&[Cut::RequestAfter(9 << 20); 200]);
    put(&hasty, BYTES)
        .await?
        .refused(1, &["given up after 2s"])?;
    ensure!(!proxy.is_through());
    proxy.forgive();
    ensure!(ceph.objects("empty").await?.is_empty());
    wait_until("nothing is left of the put", PATIENCE, || async {
        Ok(ceph.stored_pieces().await? == before)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_azurite_a_shard_is_backed_up_and_restored_and_the_store_keeps_its_promises()
-> Result<()> {
    let mut scratch = Scratch::create("azurite")?;
    let Some(azurite) = Azurite::start(&scratch).await? else {
        scratch.discard();
        return Ok(());
    };
    let container = azurite.container("seawall").await?;
    conforms(&container).await?;
    let wrong = container
        .clone()
        .environment("AZURE_STORAGE_ACCOUNT_KEY", "Z2VoZWltIHVuZCBmYWxzY2g=");
    let line = list(&wrong).await?.refused(1, &["credentials"])?;
    ensure!(!line.contains("Z2VoZWlt"), "{line}");
    let missing = azurite.named("missing");
    list(&missing)
        .await?
        .refused(1, &["ContainerNotFound", "container"])?;
    a_shard_is_backed_up_and_restored("azurite-shard", container).await?;
    scratch.discard();
    Ok(())
}
