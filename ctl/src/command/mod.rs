//! The commands, one file each: arguments, the request, what is printed.

mod add_member;
mod add_recipient;
mod backup;
mod backup_coordinator;
mod backup_lock;
mod backup_shard;
mod backup_status;
mod backup_throttle;
mod cancel_operation;
mod change_tablet_type;
mod cluster_status;
mod collect_garbage;
mod completions;
mod create_certificates;
mod generate_identity;
mod get_backup;
mod get_history;
mod get_retention;
mod init_shard_primary;
mod init_tablet;
mod list_backups;
mod list_operations;
mod list_recipients;
mod list_schedules;
mod list_tablets;
mod list_writers;
mod man;
mod mark_backup_broken;
mod moment;
mod pause_schedule;
mod pin_backup;
mod planned_reparent_shard;
mod remove_backup;
mod remove_member;
mod remove_recipient;
mod remove_schedule;
mod remove_tablet;
mod repository;
mod restore;
mod restore_coordinator;
mod scope;
mod set_retention;
mod set_schedule;
mod tablet_type;
mod test_restore;
mod timestamp;
mod verify;
mod watch_operation;

use serde::Serialize;

use crate::{
    cli::Cli,
    client::Client,
    exit::{Failure, Outcome},
    output::Output,
};

#[derive(Debug, clap::Subcommand)]
#[command(rename_all = "PascalCase")]
pub enum Command {
    #[command(alias = "init-tablet")]
    InitTablet(init_tablet::InitTablet),
    #[command(alias = "remove-tablet")]
    RemoveTablet(remove_tablet::RemoveTablet),
    #[command(alias = "list-tablets")]
    ListTablets(list_tablets::ListTablets),
    #[command(aliases = ["init-shard-primary", "InitShardMaster", "init-shard-master"])]
    InitShardPrimary(init_shard_primary::InitShardPrimary),
    #[command(alias = "planned-reparent-shard")]
    PlannedReparentShard(planned_reparent_shard::PlannedReparentShard),
    #[command(alias = "change-tablet-type")]
    ChangeTabletType(change_tablet_type::ChangeTabletType),
    #[command(alias = "get-history")]
    GetHistory(get_history::GetHistory),
    #[command(alias = "backup")]
    Backup(backup::Backup),
    #[command(alias = "backup-shard")]
    BackupShard(backup_shard::BackupShard),
    #[command(alias = "backup-keyspace")]
    BackupKeyspace(backup_shard::BackupKeyspace),
    #[command(alias = "backup-status")]
    BackupStatus(backup_status::BackupStatus),
    #[command(alias = "backup-throttle")]
    BackupThrottle(backup_throttle::BackupThrottle),
    #[command(alias = "list-backups")]
    ListBackups(list_backups::ListBackups),
    #[command(alias = "get-backup")]
    GetBackup(get_backup::GetBackup),
    #[command(alias = "remove-backup")]
    RemoveBackup(remove_backup::RemoveBackup),
    #[command(alias = "verify")]
    Verify(verify::Verify),
    #[command(alias = "test-restore")]
    TestRestore(test_restore::TestRestore),
    #[command(alias = "mark-backup-broken")]
    MarkBackupBroken(mark_backup_broken::MarkBackupBroken),
    #[command(alias = "pin-backup")]
    PinBackup(pin_backup::PinBackup),
    #[command(alias = "unpin-backup")]
    UnpinBackup(pin_backup::UnpinBackup),
    #[command(alias = "set-retention")]
    SetRetention(set_retention::SetRetention),
    #[command(alias = "get-retention")]
    GetRetention(get_retention::GetRetention),
    #[command(alias = "set-schedule")]
    SetSchedule(set_schedule::SetSchedule),
    #[command(alias = "list-schedules")]
    ListSchedules(list_schedules::ListSchedules),
    #[command(alias = "pause-schedule")]
    PauseSchedule(pause_schedule::PauseSchedule),
    #[command(alias = "resume-schedule")]
    ResumeSchedule(pause_schedule::ResumeSchedule),
    #[command(alias = "remove-schedule")]
    RemoveSchedule(remove_schedule::RemoveSchedule),
    #[command(alias = "collect-garbage")]
    CollectGarbage(collect_garbage::CollectGarbage),
    #[command(alias = "restore")]
    Restore(restore::Restore),
    #[command(name = "timestamp", subcommand)]
    Timestamp(timestamp::Timestamp),
    #[command(name = "backup-lock")]
    BackupLock(backup_lock::BackupLock),
    #[command(alias = "list-operations")]
    ListOperations(list_operations::ListOperations),
    #[command(alias = "watch-operation")]
    WatchOperation(watch_operation::WatchOperation),
    #[command(alias = "cancel-operation")]
    CancelOperation(cancel_operation::CancelOperation),
    #[command(alias = "cluster-status")]
    ClusterStatus(cluster_status::ClusterStatus),
    #[command(alias = "add-member")]
    AddMember(add_member::AddMember),
    #[command(alias = "remove-member")]
    RemoveMember(remove_member::RemoveMember),
    #[command(alias = "backup-coordinator")]
    BackupCoordinator(backup_coordinator::BackupCoordinator),
    #[command(alias = "list-coordinator-backups")]
    ListCoordinatorBackups(backup_coordinator::ListCoordinatorBackups),
    #[command(alias = "restore-coordinator")]
    RestoreCoordinator(restore_coordinator::RestoreCoordinator),
    #[command(name = "repository", subcommand)]
    Repository(repository::RepositoryCommand),
    #[command(alias = "generate-identity")]
    GenerateIdentity(generate_identity::GenerateIdentity),
    #[command(alias = "add-recipient")]
    AddRecipient(add_recipient::AddRecipient),
    #[command(alias = "list-recipients")]
    ListRecipients(list_recipients::ListRecipients),
    #[command(alias = "remove-recipient")]
    RemoveRecipient(remove_recipient::RemoveRecipient),
    #[command(alias = "list-writers")]
    ListWriters(list_writers::ListWriters),
    #[command(alias = "create-certificates")]
    CreateCertificates(create_certificates::CreateCertificates),
    #[command(name = "completions")]
    Completions(completions::Completions),
    #[command(name = "man")]
    Man(man::Man),
}

/// What every command works with.
pub struct Context {
    pub client: Client,
    pub output: Output,
}

impl Context {
    pub fn print(
        &self,
        value: &impl Serialize,
        name: impl FnOnce() -> String,
        table: impl FnOnce() -> String,
    ) -> Outcome {
        self.output.print(value, name, table)
    }
}

pub async fn run(cli: Cli) -> Outcome {
    let Cli { global, command } = cli;
    let context = || -> Outcome<Context> {
        Ok(Context {
            client: global.client(|name| std::env::var(name).ok())?,
            output: global.output,
        })
    };
    match command {
        Command::InitTablet(command) => command.run(&context()?).await,
        Command::RemoveTablet(command) => command.run(&context()?).await,
        Command::ListTablets(command) => command.run(&context()?).await,
        Command::InitShardPrimary(command) => command.run(&context()?).await,
        Command::PlannedReparentShard(command) => command.run(&context()?).await,
        Command::ChangeTabletType(command) => command.run(&context()?).await,
        Command::GetHistory(command) => command.run(&context()?).await,
        Command::Backup(command) => command.run(&context()?).await,
        Command::BackupShard(command) => command.run(&context()?).await,
        Command::BackupKeyspace(command) => command.run(&context()?).await,
        Command::BackupStatus(command) => command.run(&context()?).await,
        Command::BackupThrottle(command) => command.run(&context()?).await,
        Command::ListBackups(command) => command.run(&context()?).await,
        Command::GetBackup(command) => command.run(&context()?).await,
        Command::RemoveBackup(command) => command.run(&context()?).await,
        Command::Verify(command) => command.run(&context()?).await,
        Command::TestRestore(command) => command.run(&context()?).await,
        Command::MarkBackupBroken(command) => command.run(&context()?).await,
        Command::PinBackup(command) => command.run(&context()?).await,
        Command::UnpinBackup(command) => command.run(&context()?).await,
        Command::SetRetention(command) => command.run(&context()?).await,
        Command::GetRetention(command) => command.run(&context()?).await,
        Command::SetSchedule(command) => command.run(&context()?).await,
        Command::ListSchedules(command) => command.run(&context()?).await,
        Command::PauseSchedule(command) => command.run(&context()?).await,
        Command::ResumeSchedule(command) => command.run(&context()?).await,
        Command::RemoveSchedule(command) => command.run(&context()?).await,
        Command::CollectGarbage(command) => command.run(&context()?).await,
        Command::Restore(command) => command.run(&context()?).await,
        Command::Timestamp(command) => command.run(&context()?).await,
        Command::BackupLock(command) => command.run(&context()?).await,
        Command::ListOperations(command) => command.run(&context()?).await,
        Command::WatchOperation(command) => command.run(&context()?).await,
        Command::CancelOperation(command) => command.run(&context()?).await,
        Command::ClusterStatus(command) => command.run(&context()?).await,
        Command::AddMember(command) => command.run(&context()?).await,
        Command::RemoveMember(command) => command.run(&context()?).await,
        Command::BackupCoordinator(command) => command.run(&context()?).await,
        Command::ListCoordinatorBackups(command) => command.run(&context()?).await,
        Command::RestoreCoordinator(command) => command.run(),
        Command::Repository(command) => command.run(&global).await,
        Command::GenerateIdentity(command) => command.run(global.output).await,
        Command::AddRecipient(command) => command.run(global.output).await,
        Command::ListRecipients(command) => command.run(global.output).await,
        Command::RemoveRecipient(command) => command.run(&context()?).await,
        Command::ListWriters(command) => command.run(&context()?).await,
        Command::CreateCertificates(command) => command.run(global.output),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    }
}

/// Says on standard error that what follows may be out of date.
fn tell_not_read(why: &str) {
    if !why.is_empty() {
        eprintln!(
            "seawallctl: WARNING: the repository was not read: {why}; this is what was known before"
        );
    }
}

/// For results that do not fit: a defect of the coordinator, not of the operator.
fn incomplete_answer(what: &str) -> Failure {
    Failure::failed(seawall_common::Error::internal(format!(
        "the coordinator's answer names no {what}"
    )))
}

/// One name a line.
fn lines<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join("\n")
}
