use seawall_common::{
    Error,
    ids::{Alias, BackupName, ShardId},
};
use seawall_proto::v1::{self, BackupState, TabletType, operation_spec::Spec};

use super::{Context, incomplete_answer, list_backups, list_tablets};
use crate::{
    exit::{Failure, Outcome},
    operation::{Launch, carry_out},
    output::{human, json},
};

/// Puts a backup in the place of a tablet's data; refuses a primary
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// Tablet, as cell-uid: zone1-101
    #[arg(value_name = "ALIAS")]
    alias: Alias,
    /// Unset: the newest complete one that fits
    #[arg(long, value_name = "NAME")]
    backup: Option<BackupName>,
    /// Files that are fetched and written at the same time; unset: the agent's restore_concurrency
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: Option<u32>,
    /// Print which backup would be taken, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    launch: Launch,
}

impl Restore {
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("Restore {}", self.alias);
        if self.dry_run {
            let plan = self.plan(context).await;
            let (tablet, backup) = plan.map_err(|failure| failure.of(what))?;
            return print_plan(context, &tablet, &backup);
        }
        let backup = self.backup.as_ref().map(BackupName::to_string);
        let spec = Spec::Restore(v1::RestoreSpec {
            alias: self.alias.to_string(),
            backup: backup.unwrap_or_default(),
            empty_start: false,
            // 0: the agent knows best.
            concurrency: self.concurrency.unwrap_or(0),
        });
        let Some(operation) = carry_out(context, &what, spec, &self.launch).await? else {
            return Ok(());
        };
        context.print(
            &json::Operation::from(&operation),
            || operation.backup.clone(),
            || format!("{} is restored from {}", self.alias, operation.backup),
        )
    }

    /// The tablet, and the backup that would be put on it.
    async fn plan(&self, context: &Context) -> Outcome<(v1::Tablet, v1::Backup)> {
        let alias = self.alias.to_string();
        let tablets = list_tablets::fetch(context, None).await?;
        let tablet = tablets.into_iter().find(|tablet| tablet.alias == alias);
        let tablet = tablet.ok_or_else(|| {
            let error = Error::not_found(format!("there is no tablet {alias}"));
            Failure::failed(error.hint("ListTablets shows them."))
        })?;
        if tablet.r#type() == TabletType::Primary {
            let error = Error::refused(format!("{alias} is the primary of its shard"))
                .hint("Make another tablet the primary first: PlannedReparentShard.");
            return Err(Failure::failed(error));
        }
        let shard = tablet.shard.as_ref();
        let shard = shard.ok_or_else(|| incomplete_answer("shard"))?;
        let shard = ShardId::new(&shard.keyspace, &shard.shard).map_err(Failure::failed)?;
        let backups = list_backups::fetch(context, &shard, false).await?;
        let backup = choose(&backups, &tablet, self.backup.as_ref());
        Ok((tablet, backup.map_err(Failure::failed)?.clone()))
    }
}

/// The named backup, or the newest complete one of the tablet's engine. `backups` is in order.
fn choose<'a>(
    backups: &'a [v1::Backup],
    tablet: &v1::Tablet,
    name: Option<&BackupName>,
) -> Result<&'a v1::Backup, Error> {
    let fits = |backup: &&v1::Backup| {
        backup.state() == BackupState::Complete
            && (tablet.engine.is_empty() || backup.engine == tablet.engine)
    };
    if let Some(name) = name {
        let named = backups.iter().find(|backup| backup.name == name.as_str());
        let backup = named.ok_or_else(|| {
            Error::not_found(format!("there is no backup {name}")).hint("ListBackups shows them.")
        })?;
        if !fits(&backup) {
            let state = json::word(backup.state());
            return Err(Error::refused(format!(
                "backup {name} does not fit: it is {state}, of engine {:?}",
                backup.engine
            ))
            .hint("Choose a complete one of the tablet's engine: ListBackups."));
        }
        return Ok(backup);
    }
    backups.iter().rev().find(fits).ok_or_else(|| {
        let count = backups.len();
        Error::not_found(format!(
            "none of the shard's {count} backups is complete and fits"
        ))
        .hint("Take one with BackupShard.")
    })
}

fn print_plan(context: &Context, tablet: &v1::Tablet, backup: &v1::Backup) -> Outcome {
    let plan = json::RestorePlan {
        tablet: tablet.into(),
        backup: backup.into(),
    };
    context.print(
        &plan,
        || backup.name.clone(),
        || {
            format!(
                "would restore {} onto {}: {} at {}, taken {}",
                backup.name,
                tablet.alias,
                human::size(backup.logical_bytes),
                human::or_dash(&backup.position),
                human::time_short(backup.ended_unix_ms),
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(name: &str, state: BackupState, engine: &str) -> v1::Backup {
        v1::Backup {
            name: name.into(),
            state: state.into(),
            engine: engine.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_restore_takes_the_last_complete_backup_of_its_engine() {
        let backups = [
            backup("2026-11-20.030000.z-2", BackupState::Complete, "mariadb"),
            backup("2026-11-19.030000.z-2", BackupState::Complete, "mariadb"),
            backup("2026-11-21.030000.z-2", BackupState::Complete, "files"),
            backup("2026-11-22.030000.z-2", BackupState::Broken, "mariadb"),
            backup("2026-11-23.030000.z-2", BackupState::Running, "mariadb"),
        ];
        let tablet = v1::Tablet {
            engine: "mariadb".into(),
            ..Default::default()
        };
        // The order is the coordinator's, by epoch and position; the name decides nothing.
        assert_eq!(
            choose(&backups, &tablet, None).unwrap().name,
            backups[1].name
        );
        let name = backups[0].name.parse().unwrap();
        assert_eq!(
            choose(&backups, &tablet, Some(&name)).unwrap().name,
            backups[0].name
        );
        for unfit in [2, 3] {
            let name = backups[unfit].name.parse().unwrap();
            assert!(choose(&backups, &tablet, Some(&name)).is_err());
        }
        assert!(choose(&backups[2..], &tablet, None).is_err());
    }
}
