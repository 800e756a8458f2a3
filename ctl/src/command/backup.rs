use seawall_common::ids::{Alias, ShardId};
use seawall_proto::v1::{self, operation_spec::Spec};

use super::{Context, get_backup, incomplete_answer};
use crate::{
    exit::{Failure, Outcome},
    operation::{Launch, carry_out},
    output::{Output, json, to_stdout},
};

/// Backs one tablet up and prints the backup's name
#[derive(Debug, clap::Args)]
pub struct Backup {
    #[command(flatten)]
    options: BackupOptions,
    /// Tablet, as cell-uid: zone1-101
    #[arg(value_name = "ALIAS")]
    alias: Alias,
    #[command(flatten)]
    launch: Launch,
}

/// What a backup of one tablet and of many have in common.
#[derive(Clone, Debug, clap::Args)]
pub struct BackupOptions {
    /// Files that are read, compressed and uploaded at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub concurrency: u32,
    /// How the files are copied: with the database shut down
    // The coordinator is not told: there is no other way yet.
    #[arg(long = "mode", value_enum, default_value = "cold")]
    _mode: Mode,
    /// Do not wait until the tablet has caught up with the primary
    #[arg(long)]
    pub no_wait: bool,
    /// Take a primary too; it is down while its files are copied
    #[arg(long, alias = "allow-master")]
    pub allow_primary: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Mode {
    Cold,
}

impl Backup {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("Backup {}", self.alias);
        let spec = Spec::Backup(v1::BackupSpec {
            alias: self.alias.to_string(),
            concurrency: self.options.concurrency,
            no_wait: self.options.no_wait,
            allow_primary: self.options.allow_primary,
        });
        let Some(operation) = carry_out(context, &what, spec, &self.launch).await? else {
            return Ok(());
        };
        if operation.backup.is_empty() {
            return Err(incomplete_answer("backup").of(what));
        }
        if context.output != Output::Json {
            return to_stdout(&operation.backup);
        }
        let shard = ShardId::from_proto(operation.shard.as_ref()).map_err(Failure::failed)?;
        let got = get_backup::fetch(context, &shard, &operation.backup)
            .await
            .map_err(|failure| failure.of(what))?;
        context.print(&json::Backup::from(&got.backup), String::new, String::new)
    }
}
