use std::time::Duration;

use seawall_proto::v1::{self, retention_client::RetentionClient};

use super::{Context, lines, scope::Scope, tell_not_read};
use crate::{
    exit::Outcome,
    output::{json, retention},
};

/// Sets which backups of a keyspace or a shard are removed by themselves
///
/// --keep-count and --keep-age say what goes, the other numbers what stays all the same. The newest
/// complete backup always stays, and so does what is pinned. What is set for a shard holds there
/// instead of what is set for its keyspace. It is applied after each backup and every hour.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
#[command(group = clap::ArgGroup::new("limit").multiple(true))]
pub struct SetRetention {
    /// commerce, commerce/0
    #[arg(value_name = "KEYSPACE[/SHARD]", required_unless_present = "resume")]
    scope: Option<Scope>,
    /// Only so many of the newest complete backups stay; 0: none but what the other numbers keep, and the newest
    #[arg(long, value_name = "N", groups = ["what", "limit"])]
    keep_count: Option<u32>,
    /// What is older goes: 30d
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration, groups = ["what", "limit"])]
    keep_age: Option<Duration>,
    /// So many of the newest complete ones stay, whatever count and age say [default: 1]
    #[arg(long, value_name = "N", requires = "limit")]
    minimum: Option<u32>,
    /// The newest of each of the last N days with backups (UTC) stays, too
    #[arg(long, value_name = "N", requires = "limit")]
    daily: Option<u32>,
    /// The newest of each of the last N weeks with backups stays, too
    #[arg(long, value_name = "N", requires = "limit")]
    weekly: Option<u32>,
    /// The newest of each of the last N months with backups stays, too
    #[arg(long, value_name = "N", requires = "limit")]
    monthly: Option<u32>,
    /// Nothing is removed by itself, whatever is set for the keyspace
    #[arg(long, group = "what", conflicts_with = "limit")]
    none: bool,
    /// What is set here is forgotten: of a shard, what is set for its keyspace holds again
    #[arg(long, group = "what", conflicts_with_all = ["limit", "none"])]
    inherit: bool,
    /// Retention and schedules, which stood still, go on: the clock is right, what was restored has been looked at
    #[arg(long, group = "what", conflicts_with_all = ["limit", "none", "inherit", "scope", "dry_run"])]
    resume: bool,
    /// Print what would go, and set nothing
    #[arg(long)]
    dry_run: bool,
}

impl SetRetention {
    pub async fn run(self, context: &Context) -> Outcome {
        let Some(scope) = &self.scope else {
            return resume(context)
                .await
                .map_err(|failure| failure.of("SetRetention --resume"));
        };
        let request = v1::SetRetentionRequest {
            keyspace: scope.keyspace().to_owned(),
            shard: scope.shard().to_owned(),
            policy: (!self.inherit).then(|| self.policy()),
            dry_run: self.dry_run,
        };
        let answer = context
            .client
            .call_reading(|channel| {
                let request = request.clone();
                async move { RetentionClient::new(channel).set_retention(request).await }
            })
            .await
            .map_err(|failure| failure.of(format_args!("SetRetention {scope}")))?;
        answer.not_read.iter().for_each(|why| tell_not_read(why));
        let expired = &answer.expired;
        context.print(
            &json::Expiry::new(&answer, self.dry_run),
            || lines(expired.iter().map(|backup| backup.name.as_str())),
            || self.describe(scope, &answer),
        )
    }

    fn policy(&self) -> v1::RetentionPolicy {
        let age_ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        v1::RetentionPolicy {
            keep_count: self.keep_count,
            keep_age_ms: self.keep_age.map(age_ms),
            minimum: self.minimum.unwrap_or(0),
            daily: self.daily.unwrap_or(0),
            weekly: self.weekly.unwrap_or(0),
            monthly: self.monthly.unwrap_or(0),
        }
    }

    fn describe(&self, scope: &Scope, answer: &v1::SetRetentionResponse) -> String {
        let mut lines = Vec::new();
        if answer.unknown {
            lines.push(format!("nothing is known of {scope} yet"));
        }
        if !answer.stopped.is_empty() {
            lines.push(retention::stopped(&answer.stopped));
        }
        lines.push(self.describe_policy(scope, &answer.expired));
        lines.join("\n")
    }

    fn describe_policy(&self, scope: &Scope, expired: &[v1::ExpiredBackup]) -> String {
        let (what, go) = if self.dry_run {
            ("nothing is set", "would go")
        } else if self.inherit {
            ("is forgotten", "go")
        } else {
            ("is set", "go")
        };
        let head = match (self.dry_run, expired.len()) {
            (true, 0) => format!("{what}; nothing {go}"),
            (true, count) => format!("{what}; {count} {go}:"),
            (false, 0) => format!("retention of {scope} {what}; nothing goes by it now"),
            (false, count) => format!("retention of {scope} {what}; by it {count} {go}:"),
        };
        match expired.len() {
            0 => head,
            _ => format!("{head}\n{}", retention::expired(expired)),
        }
    }
}

async fn resume(context: &Context) -> Outcome {
    context
        .client
        .call(|channel| async {
            RetentionClient::new(channel)
                .resume_retention(v1::ResumeRetentionRequest {})
                .await
        })
        .await?;
    context.print(
        &json::Resumed { resumed: true },
        || "resumed".to_owned(),
        || "retention goes on".to_owned(),
    )
}
