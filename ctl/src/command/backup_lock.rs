use std::{os::unix::fs::MetadataExt as _, time::Duration};

use seawall_common::{Error, ErrorKind, ids::OperationId};
use seawall_proto::v1::{self, locks_client::LocksClient};

use super::{Context, lines, scope::Scope};
use crate::{
    exit::Outcome,
    output::{human, json, table},
};

/// The backup lock, by hand: while it is held, nothing is deleted that a backup may need
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").multiple(true))]
pub struct BackupLock {
    #[command(flatten)]
    action: Action,
    /// Why it is taken or broken, for those who find it
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["release", "status"])]
    reason: Option<String>,
    /// How long it is held at most, when nobody releases it; unset: 24h
    #[arg(long = "for", value_name = "DURATION", requires = "acquire", value_parser = crate::cli::duration)]
    duration: Option<Duration>,
    /// The hold to release or break; unset: the one taken by hand, or for --break all of --scope
    #[arg(long, value_name = "ID", value_parser = hold_id, group = "which", conflicts_with_all = ["acquire", "status"])]
    id: Option<OperationId>,
    /// Unset: the whole cluster
    #[arg(
        long,
        value_name = "KEYSPACE[/SHARD]",
        group = "which",
        conflicts_with = "status"
    )]
    scope: Option<Scope>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Action {
    /// Take it; prints the hold's id
    #[arg(long)]
    acquire: bool,
    /// Let go of it
    #[arg(long)]
    release: bool,
    /// Show who holds it
    #[arg(long)]
    status: bool,
    /// End other people's holds, those of backups that run too; needs --reason, which is recorded,
    /// and --id or --scope
    #[arg(long = "break", requires = "reason", requires = "which")]
    break_holds: bool,
}

/// Holds have the ids of what took them: of operations, or made as theirs are.
fn hold_id(text: &str) -> Result<OperationId, Error> {
    text.parse().map_err(|_| {
        Error::invalid(format!("malformed hold id {text:?}"))
            .hint("It is a UUID; backup-lock --status shows them.")
    })
}

impl BackupLock {
    /// Empty: none is named.
    fn hold_id(&self) -> String {
        self.id.map(|id| id.to_string()).unwrap_or_default()
    }

    pub async fn run(self, context: &Context) -> Outcome {
        if self.action.acquire {
            self.acquire(context).await
        } else if self.action.release {
            self.release(context).await
        } else if self.action.break_holds {
            self.break_holds(context).await
        } else {
            status(context).await
        }
        .map_err(|failure| failure.of("backup-lock"))
    }

    fn scope(&self) -> v1::LockScope {
        let scope = self.scope.as_ref();
        v1::LockScope {
            keyspace: scope.map(Scope::keyspace).unwrap_or_default().to_owned(),
            shard: scope.map(Scope::shard).unwrap_or_default().to_owned(),
        }
    }

    async fn acquire(self, context: &Context) -> Outcome {
        let duration_ms = self.duration.map_or(0, |duration| duration.as_millis());
        let request = v1::AcquireHoldRequest {
            id: OperationId::generate().to_string(),
            scope: Some(self.scope()),
            owner: who(),
            reason: self.reason.unwrap_or_default(),
            duration_ms: u64::try_from(duration_ms).unwrap_or(u64::MAX),
            ..v1::AcquireHoldRequest::default()
        };
        let hold = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { LocksClient::new(channel).acquire(request).await }
            })
            .await?;
        context.print(
            &json::Hold::from(&hold),
            || hold.id.clone(),
            || {
                let until = human::time_short(hold.expires_unix_ms);
                format!("{} holds the backup lock until {until}", hold.id)
            },
        )
    }

    async fn release(self, context: &Context) -> Outcome {
        let request = v1::ReleaseHoldRequest {
            id: self.hold_id(),
            scope: Some(self.scope()),
        };
        let answer = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { LocksClient::new(channel).release(request).await }
            })
            .await;
        let released = match answer {
            Ok(response) => response.released.unwrap_or_default(),
            // An earlier try whose answer was lost has released it.
            Err(failure) if failure.tried_before && failure.error.kind() == ErrorKind::NotFound => {
                v1::Hold {
                    id: self.hold_id(),
                    ..Default::default()
                }
            }
            Err(failure) => return Err(failure),
        };
        context.print(
            &json::Hold::from(&released),
            || released.id.clone(),
            || format!("{} is released", human::or_dash(&released.id)),
        )
    }

    async fn break_holds(self, context: &Context) -> Outcome {
        let request = v1::BreakHoldRequest {
            id: self.hold_id(),
            scope: Some(self.scope()),
            reason: self.reason.clone().unwrap_or_default(),
            operator: who(),
        };
        let response = context
            .client
            .call(|channel| {
                let request = request.clone();
                async move { LocksClient::new(channel).r#break(request).await }
            })
            .await?;
        let ids = || response.broken.iter().map(|hold| hold.id.as_str());
        context.print(
            &json::Broken::from(&*response.broken),
            || lines(ids()),
            || match response.broken.len() {
                0 => "there was no hold to break".to_owned(),
                _ => ids()
                    .map(|id| format!("{id} is broken"))
                    .collect::<Vec<_>>()
                    .join("\n"),
            },
        )
    }
}

async fn status(context: &Context) -> Outcome {
    let list = context
        .client
        .call(|channel| async {
            LocksClient::new(channel)
                .list(v1::ListHoldsRequest {})
                .await
        })
        .await?;
    context.print(
        &json::Holds::from(&list),
        || lines(list.holds.iter().map(|hold| hold.id.as_str())),
        || table::holds(&list),
    )
}

/// Who is at work here, as others should read it: `user@host`; behind sudo the person before it.
fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|user| !user.is_empty())
        .unwrap_or_else(|| match std::fs::metadata("/proc/self") {
            Ok(own) => format!("uid {}", own.uid()),
            Err(_) => "somebody".to_owned(),
        });
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => user,
        host => format!("{user}@{host}"),
    }
}
