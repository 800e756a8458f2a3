//! Ceph's gateway, a real S3 server: a monitor, an OSD that keeps its objects in memory, `radosgw`.
//!
//! They are started in a test's scratch directory on free ports and end with it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use toml::Value;

use super::{
    binary::system_program,
    http,
    objects::{Bucket, request},
    ports::Port,
    process::Process,
    scratch::Scratch,
    wait::{PATIENCE, wait_until},
};

const PROGRAMS: [&str; 8] = [
    "ceph",
    "ceph-authtool",
    "ceph-mon",
    "ceph-osd",
    "monmaptool",
    "rados",
    "radosgw",
    "radosgw-admin",
];
const ACCESS_KEY: &str = "SEAWALLTESTKEY";
const SECRET_KEY: &str = "seawall-test-secret";
const REGION: &str = "us-east-1";
/// For one command of the administrator's.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Ceph {
    directory: PathBuf,
    gateway: Port,
    monitor: [Port; 2],
    processes: Vec<Process>,
}

impl Ceph {
    /// `None`, said aloud: a program is missing.
    pub async fn start(scratch: &Scratch) -> Result<Option<Self>> {
        if let Some(missing) = PROGRAMS.iter().find(|name| system_program(name).is_err()) {
            eprintln!(
                "SKIPPED: {missing} is not installed (make setup), so nothing is tested on Ceph"
            );
            return Ok(None);
        }
        let directory = scratch.path().join("ceph");
        for name in ["osd.0", "mon.a"] {
            std::fs::create_dir_all(directory.join(name))?;
        }
        let mut ceph = Self {
            directory,
            gateway: Port::reserve()?,
            monitor: [Port::reserve()?, Port::reserve()?],
            processes: Vec::new(),
        };
        ceph.configure(scratch)?;
        ceph.start_monitor().await?;
        ceph.start_osd().await?;
        ceph.start_gateway().await?;
        Ok(Some(ceph))
    }

    /// A bucket that exists from here on. `versioned`: with object versioning.
    pub async fn bucket(&self, name: &str, versioned: bool) -> Result<Bucket> {
        let url = format!("{}/{name}", self.gateway.url());
        self.send(&url, "").await?;
        if versioned {
            let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
            self.send(&format!("{url}?versioning="), on).await?;
        }
        Ok(self.named(name))
    }

    /// A bucket that may be there or not.
    pub fn named(&self, name: &str) -> Bucket {
        Bucket {
            url: format!("s3://{name}/seawall"),
            settings: vec![(
                "repository.endpoint".to_owned(),
                Value::from(self.gateway.url()),
            )],
            environment: [
                ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
                ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
                ("AWS_REGION", REGION),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        }
    }

    /// Where S3 requests go.
    pub fn address(&self) -> String {
        self.gateway.address()
    }

    /// Names of all objects of a bucket, as the gateway itself keeps them.
    pub async fn objects(&self, bucket: &str) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Object {
            name: String,
        }
        let text = self
            .run("radosgw-admin", &["bucket", "list", "--bucket", bucket])
            .await?;
        let objects: Vec<Object> = serde_json::from_str(&text)?;
        Ok(objects.into_iter().map(|object| object.name).collect())
    }

    /// What lies in the pool below the gateway: every piece of an object, and of parts of uploads.
    pub async fn stored_pieces(&self) -> Result<usize> {
        let pool = ["-p", "default.rgw.buckets.data", "ls"];
        Ok(self.run("rados", &pool).await?.lines().count())
    }

    /// Stops and continues the gateway, as a machine that swaps would.
    pub fn gateway(&self) -> Result<&Process> {
        self.processes.last().context("no gateway runs")
    }

    async fn send(&self, url: &str, body: &str) -> Result<()> {
        let credential = AwsCredential {
            key_id: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            token: None,
        };
        let mut signed = request(http::Method::PUT, url)?;
        *signed.body_mut() = body.to_owned().into();
        AwsAuthorizer::new(&credential, "s3", REGION).try_authorize(&mut signed, None)?;
        http::send(signed, body).await
    }

    fn configure(&self, scratch: &Scratch) -> Result<()> {
        let directory = self.directory.display();
        let [v2, v1] = &self.monitor;
        let text = format!(
            "[global]
fsid = {fsid}
mon_host = v2:{v2}/0,v1:{v1}/0
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_crush_chooseleaf_type = 0
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
mon_max_pg_per_osd = 1000
mon_allow_pool_size_one = true
mon_data_avail_warn = 1
mon_data_avail_crit = 1
auth_allow_insecure_global_id_reclaim = false
run_dir = {directory}
admin_socket = {socket}
log_file = {directory}/$name.log
mon_cluster_log_file = {directory}/cluster.log
pid_file = {directory}/$name.pid
mon_data = {directory}/mon.$id
osd_data = {directory}/osd.$id
keyring = {directory}/keyring
osd_objectstore = memstore
memstore_device_bytes = 6442450944
osd_class_update_on_start = false
[client.rgw.a]
rgw_frontends = beast endpoint={gateway}
rgw_dns_name = 127.0.0.1
rgw_enable_usage_log = false
",
            fsid = uuid::Uuid::new_v4(),
            v2 = v2.address(),
            v1 = v1.address(),
            socket = scratch.socket("$name").display(),
            gateway = self.gateway.address(),
        );
        std::fs::write(self.directory.join("ceph.conf"), text)?;
        Ok(())
    }

    async fn start_monitor(&mut self) -> Result<()> {
        let keyring = self.path("keyring");
        let all = |daemon| ["--cap", daemon, "allow *"];
        let create = ["--create-keyring", &keyring, "--gen-key", "-n"];
        let add = [&keyring, "--gen-key", "-n"];
        self.run(
            "ceph-authtool",
            &[&create[..], &["mon."], &all("mon")].concat(),
        )
        .await?;
        let admin = [all("mon"), all("osd"), all("mgr"), all("mds")].concat();
        let osd = [
            "--cap",
            "mon",
            "allow profile osd",
            "--cap",
            "osd",
            "allow *",
        ];
        let gateway = ["--cap", "mon", "allow rw", "--cap", "osd", "allow rwx"];
        for (name, caps) in [
            ("client.admin", &admin[..]),
            ("osd.0", &osd),
            ("client.rgw.a", &gateway),
        ] {
            self.run("ceph-authtool", &[&add[..], &[name], caps].concat())
                .await?;
        }
        let conf = std::fs::read_to_string(self.path("ceph.conf"))?;
        let value = |key: &str| {
            conf.lines()
                .find_map(|line| line.strip_prefix(&format!("{key} = ")))
                .unwrap_or_default()
        };
        let addresses = format!("[{}]", value("mon_host"));
        let monmap = self.path("monmap");
        self.run(
            "monmaptool",
            &[
                "--create",
                "--addv",
                "a",
                &addresses,
                "--fsid",
                value("fsid"),
                &monmap,
            ],
        )
        .await?;
        self.run(
            "ceph-mon",
            &[
                "--mkfs",
                "-i",
                "a",
                "--monmap",
                &monmap,
                "--keyring",
                &keyring,
            ],
        )
        .await?;
        self.daemon("ceph-mon", &["-i", "a"])?;
        wait_until("the monitor answers", PATIENCE, || async {
            self.run("ceph", &["--connect-timeout", "3", "-s"]).await?;
            Ok(true)
        })
        .await
    }

    async fn start_osd(&mut self) -> Result<()> {
        let id = uuid::Uuid::new_v4().to_string();
        self.run("ceph", &["osd", "new", &id]).await?;
        self.run("ceph-osd", &["-i", "0", "--mkfs", "--osd-uuid", &id])
            .await?;
        self.daemon("ceph-osd", &["-i", "0"])
    }

    async fn start_gateway(&mut self) -> Result<()> {
        self.daemon("radosgw", &["-n", "client.rgw.a"])?;
        let url = self.gateway.url();
        wait_until("the gateway answers", PATIENCE, || async {
            Ok(http::status(&url).await? < 500)
        })
        .await?;
        let user = [
            "user",
            "create",
            "--uid=seawall",
            "--display-name=seawall",
            &format!("--access-key={ACCESS_KEY}"),
            &format!("--secret={SECRET_KEY}"),
        ];
        self.run("radosgw-admin", &user).await.map(drop)
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn command(&self, program: &str, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(system_program(program)?);
        command.args(["-c", &self.path("ceph.conf")]).args(args);
        Ok(command)
    }

    fn daemon(&mut self, program: &str, args: &[&str]) -> Result<()> {
        let mut command = self.command(program, args)?;
        command.arg("-f");
        let log = Path::new(&self.directory).join(format!("{program}.out.log"));
        self.processes
            .push(Process::start(program, &mut command, &log)?);
        Ok(())
    }

    /// Runs a command to its end; what it prints.
    async fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = self.command(program, args)?;
        if matches!(program, "ceph-authtool" | "monmaptool") {
            // These take no configuration that has to be read.
            command = Command::new(system_program(program)?);
            command.args(args);
        }
        let mut command = tokio::process::Command::from(command);
        let output = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output())
            .await
            .with_context(|| format!("{program} {args:?} takes longer than {LIMIT:?}"))??;
        ensure!(
            output.status.success(),
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
