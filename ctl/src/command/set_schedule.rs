use std::time::Duration;

use seawall_proto::v1::{self, schedule_spec::Job, schedules_client::SchedulesClient};

use super::{Context, backup::BackupOptions, incomplete_answer, scope, scope::Scope};
use crate::{
    exit::Outcome,
    output::{json, schedule},
};

/// Backs shards up by themselves: of a keyspace, of one shard, or all, at the times of a cron expression
///
/// With --group it is the group's backup that is taken, as BackupCoordinator does it.
/// Of each shard the tablet is taken that BackupShard would take. A slot never starts twice, and
/// runs do not overlap: a slot that comes while the run before is at work is passed over. One that
/// came while no coordinator was there is caught up, once. A shard that fails is tried again.
/// A schedule that there is already is replaced: what is not given is the default again.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("where").required(true),
    override_usage = "seawallctl SetSchedule <NAME> <KEYSPACE[/SHARD]|--cluster|--group> --cron <EXPRESSION> [OPTIONS]"
)]
pub struct SetSchedule {
    /// Its name: nightly
    #[arg(value_name = "NAME", value_parser = scope::schedule)]
    name: String,
    /// commerce, commerce/0
    #[arg(value_name = "KEYSPACE[/SHARD]", group = "where")]
    scope: Option<Scope>,
    /// Every shard of every keyspace
    #[arg(long, group = "where")]
    cluster: bool,
    /// The coordinator group's own state, and no shard
    #[arg(long, group = "where", conflicts_with_all = ["concurrency", "_mode", "no_wait", "allow_primary", "deadline", "at_once", "spread"])]
    group: bool,
    /// With --group: how many of the group's backups stay
    #[arg(long, value_name = "N", requires = "group", value_parser = clap::value_parser!(u32).range(1..=1000))]
    keep: Option<u32>,
    /// Minute, hour, day of the month, month, day of the week: "0 3 * * *"; a sixth field before them is seconds
    #[arg(long, value_name = "EXPRESSION")]
    cron: String,
    /// Time zone of the expression: Europe/Zurich
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: String,
    #[command(flatten)]
    options: BackupOptions,
    /// Time after which one backup is given up and undone; unset: the coordinator's default
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration)]
    deadline: Option<Duration>,
    /// Shards that are backed up at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    at_once: u32,
    /// Spread the starts of the shards over this time, each always at the same place
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration)]
    spread: Option<Duration>,
    /// How often a shard, or the group, is tried in one slot
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=20))]
    tries: u32,
    /// Pause after the first try that failed; each later one is twice as long, up to an hour
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = crate::cli::duration)]
    retry_after: Duration,
    /// Runs that are remembered
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    history: u32,
    /// Print the next slots, and set nothing
    #[arg(long)]
    dry_run: bool,
}

impl SetSchedule {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("SetSchedule {}", self.name);
        let request = v1::SetScheduleRequest {
            name: self.name.clone(),
            spec: Some(self.spec()),
            dry_run: self.dry_run,
        };
        let answer = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { SchedulesClient::new(channel).set_schedule(request).await }
            })
            .await
            .map_err(|failure| failure.of(&what))?;
        let Some(set) = &answer.schedule else {
            return Err(incomplete_answer("schedule").of(what));
        };
        context.print(
            &json::SetSchedule::new(&answer, set, self.dry_run),
            || self.name.clone(),
            || schedule::set(&answer, set, self.dry_run),
        )
    }

    fn spec(&self) -> v1::ScheduleSpec {
        let scope = self.scope.as_ref();
        v1::ScheduleSpec {
            keyspace: scope.map(Scope::keyspace).unwrap_or_default().to_owned(),
            shard: scope.map(Scope::shard).unwrap_or_default().to_owned(),
            cron: self.cron.clone(),
            zone: self.zone.clone(),
            job: Some(self.job()),
            at_once: self.at_once,
            spread_ms: self.spread.map_or(0, millis),
            tries: self.tries,
            retry_ms: millis(self.retry_after),
            history: Some(self.history),
        }
    }

    fn job(&self) -> Job {
        if self.group {
            return Job::GroupBackup(v1::ScheduledGroupBackup {
                keep: self.keep.unwrap_or(0),
            });
        }
        Job::Backup(v1::ScheduledBackup {
            concurrency: self.options.concurrency,
            no_wait: self.options.no_wait,
            allow_primary: self.options.allow_primary,
            deadline_ms: self.deadline.map_or(0, millis),
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
