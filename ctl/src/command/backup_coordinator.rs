use seawall_proto::v1::{self, members_client::MembersClient};

use super::{Context, incomplete_answer};
use crate::{
    exit::Outcome,
    output::{
        human::{size, time_short},
        json, table,
    },
};

/// Takes the group's backup: puts the coordinator group's own state into the repository; prints the backup's name
///
/// It is checked by reading it back. seawall-coordinator restore makes a new group from it.
#[derive(Debug, clap::Args)]
pub struct BackupCoordinator {
    /// How many of the newest stay, this one too
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    keep: u32,
}

impl BackupCoordinator {
    pub async fn run(self, context: &Context) -> Outcome {
        let keep = self.keep;
        let taken = context
            .client
            .call_reading(|channel| async move {
                MembersClient::new(channel)
                    .backup(v1::BackupCoordinatorRequest { keep })
                    .await
            })
            .await
            .map_err(|failure| failure.of("BackupCoordinator"))?;
        let backup = taken.backup.as_ref();
        let backup = backup.ok_or_else(|| incomplete_answer("backup"))?;
        let printed = json::CoordinatorBackupTaken {
            backup: backup.into(),
            removed: taken.removed.clone(),
        };
        let name = || backup.name.clone();
        context.print(&printed, name, name)
    }
}

/// Lists the groups' backups in the repository, the oldest first
#[derive(Debug, clap::Args)]
pub struct ListCoordinatorBackups {}

impl ListCoordinatorBackups {
    pub async fn run(self, context: &Context) -> Outcome {
        let listed = context
            .client
            .call_reading(|channel| async move {
                MembersClient::new(channel)
                    .list_backups(v1::ListCoordinatorBackupsRequest {})
                    .await
            })
            .await
            .map_err(|failure| failure.of("ListCoordinatorBackups"))?;
        let printed = json::CoordinatorBackups {
            backups: listed.backups.iter().map(Into::into).collect(),
            unreadable: listed.unreadable.clone(),
        };
        for what in &listed.unreadable {
            eprintln!("seawallctl: WARNING: not read: {what}");
        }
        let names = listed.backups.iter().map(|backup| backup.name.as_str());
        let names = super::lines(names);
        context.print(&printed, || names, || render(&listed.backups))
    }
}

fn render(backups: &[v1::CoordinatorBackup]) -> String {
    let heads = [
        "NAME",
        "GROUP",
        "TAKEN",
        "ENTRY>",
        "SIZE>",
        "ENCRYPTED",
        "VERSION",
    ];
    let rows = backups.iter().map(|backup| {
        vec![
            backup.name.clone(),
            backup.group_id.clone(),
            time_short(backup.taken_unix_ms),
            backup.last_index.to_string(),
            size(backup.state_bytes),
            table::yes_no(backup.encrypted),
            backup.version.clone(),
        ]
    });
    table::render(&heads, rows)
}
