//! A whole cluster: coordinators, tablets, repository, and what tests ask of them.
//!
//! A test ends with [`Cluster::finish`], which demands that every program ends cleanly and that
//! none of them panicked on the way. A test that fails leaves its directory for a look.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use seawall_common::tablets;
use seawall_proto::v1::{
    self, catalogue_client::CatalogueClient, locks_client::LocksClient,
    operations_client::OperationsClient, timestamps_client::TimestampsClient,
    topology_client::TopologyClient,
};
use tonic::{Code, transport::Channel};

use super::{
    certificates::Certificates,
    coordinator::Coordinator,
    ctl,
    plan::{ClusterPlan, OPERATOR},
    process::Process,
    repository::RepositoryDirectory,
    scratch::{Scratch, collect_logs, end_processes},
    tablet::{Tablet, TabletPlan},
    wait::{PATIENCE, wait_for, wait_until},
};

pub struct Cluster {
    pub coordinators: Vec<Coordinator>,
    pub tablets: BTreeMap<String, Tablet>,
    pub repository: RepositoryDirectory,
    pub certificates: Option<Certificates>,
    plan: ClusterPlan,
    // Last: it ends what the others leave.
    pub scratch: Scratch,
}

impl Cluster {
    pub async fn start_in(scratch: Scratch, plan: ClusterPlan) -> Result<Self> {
        let repository = RepositoryDirectory::at(scratch.path().join("repository"));
        let mut coordinators = Vec::new();
        let certificates = match plan.is_certified {
            true => Some(Certificates::of_cluster(&scratch, plan.coordinators)?),
            false => None,
        };
        for id in 1..=plan.coordinators {
            let name = format!("coordinator-{id}");
            let mut member = Coordinator::plan(&scratch, &name, id, &plan.url(&repository))?;
            for (name, value) in plan.environment() {
                member.environment(&name, &value);
            }
            for (key, value) in &plan.settings {
                member.config.set(key, value.clone());
            }
            if let Some(certificates) = &certificates {
                member.certify(certificates, OPERATOR)?;
            }
            coordinators.push(member);
        }
        let mut cluster = Self {
            coordinators,
            tablets: BTreeMap::new(),
            repository,
            certificates,
            plan,
            scratch,
        };
        if cluster.coordinators.len() > 1 {
            let peers = cluster.peers();
            for member in &cluster.coordinators {
                member.init(&peers)?;
            }
        }
        for member in &mut cluster.coordinators {
            member.start()?;
        }
        for member in &mut cluster.coordinators {
            member.wait_ready().await?;
        }
        Ok(cluster)
    }

    /// `1=host:port,2=host:port,...`
    pub fn peers(&self) -> String {
        let peers = self.coordinators.iter();
        let peers = peers.map(|member| format!("{}={}", member.id, member.address()));
        peers.collect::<Vec<_>>().join(",")
    }

    pub fn coordinator_urls(&self) -> Vec<String> {
        self.coordinators.iter().map(Coordinator::url).collect()
    }

    // --- tablets

    /// Makes a tablet of `commerce/0` known, without an agent.
    pub async fn init_tablet(&self, alias: &str) -> Result<()> {
        let shard = ["--keyspace", "commerce", "--shard", "0"];
        let init = [&["InitTablet"], &shard[..], &[alias]].concat();
        self.ctl(&init).await?.done()?;
        Ok(())
    }

    /// Lays a tablet out without starting its agent.
    pub fn prepare_tablet(&mut self, plan: &TabletPlan) -> Result<&mut Tablet> {
        let mut merged = plan.clone();
        merged.settings = self.plan.agent_settings.clone();
        merged.settings.extend(plan.settings.iter().cloned());
        merged.environment = self.plan.environment();
        merged.environment.extend(plan.environment.iter().cloned());
        let urls = self.coordinator_urls();
        let repository = self.plan.url(&self.repository);
        let mut tablet = Tablet::prepare(&self.scratch, &merged, &urls, &repository)?;
        if let Some(certificates) = &self.certificates {
            certificates.add(&[format!("--agent={}=127.0.0.1", plan.alias)])?;
            tablet.certify(certificates)?;
        }
        Ok(self.tablets.entry(plan.alias.clone()).or_insert(tablet))
    }

    pub fn start_tablet(&mut self, plan: &TabletPlan) -> Result<&mut Tablet> {
        let tablet = self.prepare_tablet(plan)?;
        tablet.start()?;
        Ok(tablet)
    }

    /// Tablets of one shard, the first of them its primary; returns once all of them serve.
    pub async fn start_shard(&mut self, plans: &[TabletPlan]) -> Result<()> {
        let first = plans.first().context("a shard without tablets")?;
        for plan in plans {
            self.start_tablet(plan)?;
        }
        for plan in plans {
            self.wait_registered(&plan.alias).await?;
        }
        let shard = format!("{}/{}", first.keyspace, first.shard);
        self.ctl(&["InitShardPrimary", &shard, &first.alias])
            .await?
            .done()?;
        for plan in plans {
            self.wait_serving(&plan.alias).await?;
        }
        Ok(())
    }

    /// `commerce/0` with `zone1-101` as primary and replicas from `zone1-102` on.
    pub async fn start_small_shard(&mut self, tablets: usize) -> Result<()> {
        let plans: Vec<TabletPlan> = (0..tablets)
            .map(|n| TabletPlan::new(&format!("zone1-{}", 101 + n)))
            .collect();
        self.start_shard(&plans).await
    }

    pub fn tablet(&self, alias: &str) -> Result<&Tablet> {
        self.tablets
            .get(alias)
            .with_context(|| format!("no tablet {alias} in this test"))
    }

    pub fn tablet_mut(&mut self, alias: &str) -> Result<&mut Tablet> {
        self.tablets
            .get_mut(alias)
            .with_context(|| format!("no tablet {alias} in this test"))
    }

    /// What the coordinator knows of a tablet.
    pub async fn known_tablet(&self, alias: &str) -> Result<Option<v1::Tablet>> {
        let topology = TopologyClient::new(self.channel().await?);
        let page = async |request| {
            let mut topology = topology.clone();
            let listed = topology.list_tablets(request).await?;
            Ok::<_, anyhow::Error>(listed.into_inner())
        };
        let tablets = tablets::all("", "", page).await?;
        Ok(tablets.into_iter().find(|t| t.alias == alias))
    }

    pub async fn wait_registered(&self, alias: &str) -> Result<()> {
        wait_until(&format!("{alias} has registered"), PATIENCE, || async {
            let Some(tablet) = self.known_tablet(alias).await? else {
                return Ok(false);
            };
            // While a MariaDB server is being made, one runs that does not answer.
            let must_answer = tablet.engine == "mariadb";
            Ok(tablet.status.is_some_and(|status| {
                status.database_running && (!must_answer || !status.engine_version.is_empty())
            }))
        })
        .await
    }

    pub async fn wait_serving(&self, alias: &str) -> Result<()> {
        let tablet = self.tablet(alias)?;
        wait_until(&format!("{alias} serves"), PATIENCE, || async {
            tablet.is_serving().await
        })
        .await
    }

    /// Until the coordinator has heard of it too.
    pub async fn wait_known_serving(&self, alias: &str) -> Result<()> {
        let what = format!("the coordinator knows that {alias} serves");
        wait_until(&what, PATIENCE, || async {
            let tablet = self.known_tablet(alias).await?;
            Ok(tablet.is_some_and(|tablet| tablet.serving))
        })
        .await
    }

    /// Waits until `replica` has executed all that `primary` has now.
    pub async fn wait_caught_up(&self, replica: &str, primary: &str) -> Result<()> {
        self.wait_caught_up_within(replica, primary, PATIENCE).await
    }

    pub async fn wait_caught_up_within(
        &self,
        replica: &str,
        primary: &str,
        limit: Duration,
    ) -> Result<()> {
        let goal: String = self
            .tablet(primary)?
            .server
            .value("SELECT @@global.gtid_binlog_pos")
            .await?;
        let replica = &self.tablet(replica)?.server;
        let statement = format!("SELECT MASTER_GTID_WAIT('{goal}', 1)");
        wait_until(&format!("a replica reaches {goal}"), limit, || async {
            let waited: i64 = replica.value(&statement).await?;
            Ok(waited == 0)
        })
        .await
    }

    /// Every table of every one of these tablets has the same checksum, and there are some.
    pub async fn check_equal(&self, aliases: &[&str]) -> Result<()> {
        let mut expected = None;
        for alias in aliases {
            let found = self.tablet(alias)?.server.checksums().await?;
            ensure!(!found.is_empty(), "{alias} has no tables");
            let expected = expected.get_or_insert_with(|| found.clone());
            ensure!(
                *expected == found,
                "{alias} differs: {expected:?} / {found:?}"
            );
        }
        Ok(())
    }

    // --- seawallctl

    /// Of a `seawallctl` that somebody runs; nothing where there is no TLS.
    pub fn environment(&self, who: &str) -> Vec<(String, String)> {
        let certificates = self.certificates.as_ref();
        certificates.map_or_else(Vec::new, |all| all.environment(who))
    }

    pub async fn ctl(&self, args: &[&str]) -> Result<ctl::Output> {
        ctl::run_as(&self.coordinator_urls(), &self.environment(OPERATOR), args).await
    }

    /// Runs beside the test; its output goes to `<name>.log`.
    pub fn start_ctl(&self, name: &str, args: &[&str]) -> Result<Process> {
        let log = self.scratch.path().join(format!("{name}.log"));
        ctl::start(
            &self.coordinator_urls(),
            &self.environment(OPERATOR),
            args,
            &log,
        )
    }

    // --- gRPC

    /// To any coordinator that answers.
    pub async fn channel(&self) -> Result<Channel> {
        let mut last = anyhow::anyhow!("no coordinators");
        for member in &self.coordinators {
            match member.channel().await {
                Ok(channel) => return Ok(channel),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub async fn operations(&self) -> Result<OperationsClient<Channel>> {
        Ok(OperationsClient::new(self.channel().await?))
    }

    pub async fn locks(&self) -> Result<LocksClient<Channel>> {
        Ok(LocksClient::new(self.channel().await?))
    }

    pub async fn timestamps(&self) -> Result<TimestampsClient<Channel>> {
        Ok(TimestampsClient::new(self.channel().await?))
    }

    /// Starts an operation and does not wait for it.
    pub async fn start_operation(
        &self,
        spec: v1::operation_spec::Spec,
        limit: Option<Duration>,
    ) -> Result<v1::Operation> {
        let request = v1::StartOperationRequest {
            id: uuid::Uuid::now_v7().to_string(),
            spec: Some(v1::OperationSpec { spec: Some(spec) }),
            timeout_ms: limit.map_or(Ok(0), |limit| u64::try_from(limit.as_millis()))?,
        };
        // As any client does: the same id again, so that it is started once.
        wait_for("a leader takes the operation", PATIENCE, || async {
            let mut operations = self.operations().await?;
            match operations.start(request.clone()).await {
                Ok(operation) => Ok(Some(Ok(operation.into_inner()))),
                Err(status) if status.code() == Code::Unavailable => Err(status.into()),
                Err(status) => Ok(Some(Err(status.into()))),
            }
        })
        .await?
    }

    pub async fn start_backup(&self, alias: &str) -> Result<v1::Operation> {
        self.start_operation(backup_spec(alias), None).await
    }

    pub async fn operation(&self, id: &str) -> Result<v1::Operation> {
        let mut operations = self.operations().await?;
        let request = v1::GetOperationRequest { id: id.to_owned() };
        Ok(operations.get(request).await?.into_inner())
    }

    /// Waits for the end of an operation, however it ends.
    pub async fn wait_operation(&self, id: &str, limit: Duration) -> Result<v1::Operation> {
        wait_for(&format!("operation {id} ends"), limit, || async {
            let operation = self.operation(id).await?;
            Ok((operation.finished_unix_ms > 0).then_some(operation))
        })
        .await
    }

    /// Waits for its end and demands that it succeeded.
    pub async fn wait_success(&self, id: &str, limit: Duration) -> Result<v1::Operation> {
        let operation = self.wait_operation(id, limit).await?;
        ensure!(
            operation.state() == v1::OperationState::Succeeded,
            "operation {id} ended as {:?}: {}",
            operation.state(),
            operation.error
        );
        Ok(operation)
    }

    /// One backup from beginning to end: its name.
    pub async fn back_up(&self, alias: &str) -> Result<String> {
        let operation = self.start_backup(alias).await?;
        let operation = self.wait_success(&operation.id, PATIENCE * 2).await?;
        ensure!(!operation.backup.is_empty(), "a backup without a name");
        Ok(operation.backup)
    }

    pub async fn backups(&self, shard: &str, all: bool) -> Result<Vec<v1::Backup>> {
        let (keyspace, shard) = shard.split_once('/').context("keyspace/shard")?;
        let request = v1::ListBackupsRequest {
            shard: Some(v1::ShardRef {
                keyspace: keyspace.to_owned(),
                shard: shard.to_owned(),
            }),
            all,
        };
        let mut catalogue = CatalogueClient::new(self.channel().await?);
        Ok(catalogue.list_backups(request).await?.into_inner().backups)
    }

    /// Index of the member that leads, once all that run agree.
    pub async fn leader(&mut self) -> Result<usize> {
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            let mut leaders = Vec::new();
            for member in &mut self.coordinators {
                if member.is_running() {
                    leaders.push(member.status().await.map_or(0, |status| status.leader));
                }
            }
            let first = leaders.first().copied().unwrap_or(0);
            let position = self.coordinators.iter().position(|m| m.id == first);
            if let Some(position) = position
                && leaders.iter().all(|leader| *leader == first)
                && self.coordinators[position].is_running()
            {
                return Ok(position);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the coordinators agree on no leader")
    }

    // --- the end

    /// SIGTERM to all; an error when a program does not end cleanly or has panicked before.
    pub async fn finish(mut self) -> Result<()> {
        for tablet in self.tablets.values_mut() {
            tablet.terminate()?;
        }
        for member in &mut self.coordinators {
            if member.is_running() {
                member.terminate()?;
            }
        }
        self.end_servers().await?;
        let mut logs = Vec::new();
        collect_logs(self.scratch.path(), &mut logs);
        for log in logs {
            let bytes = std::fs::read(&log)?;
            let text = String::from_utf8_lossy(&bytes);
            if let Some(line) = text.lines().find(|line| line.contains("panicked at")) {
                bail!("{} says: {line}", log.display());
            }
        }
        self.scratch.discard();
        Ok(())
    }

    /// Shuts down the database servers, which outlive their agents.
    async fn end_servers(&self) -> Result<()> {
        let path = self.scratch.path().to_owned();
        let limit = Duration::from_secs(20);
        tokio::task::spawn_blocking(move || end_processes(&path, Signal::SIGTERM, limit)).await?;
        Ok(())
    }

    /// Leaves everything running and lets go of it.
    pub fn leave_running(mut self) -> Result<()> {
        for tablet in self.tablets.values_mut() {
            tablet.leave_running();
        }
        for member in &mut self.coordinators {
            member.leave_running();
        }
        self.scratch.leave_everything()
    }
}

pub fn backup_spec(alias: &str) -> v1::operation_spec::Spec {
    v1::operation_spec::Spec::Backup(v1::BackupSpec {
        alias: alias.to_owned(),
        ..Default::default()
    })
}
