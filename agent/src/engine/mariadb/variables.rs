//! Settings that somebody changed while the server ran: a restart loses exactly these.
//!
//! The server itself tells them apart: a value that came from a statement has the origin `SQL`.
//! So nothing has to be guessed about which settings matter, and one that the administrator meanwhile
//! changes in the configuration file is not overwritten with its old value.

use seawall_common::Result;

use super::{
    MariaDb,
    sql::{SqlError, quote},
};
use crate::engine::Flags;

/// Not settings but state that has its own keeper: positions, and who may write.
const NOT_SETTINGS: [&str; 4] = [
    "READ_ONLY",
    "GTID_SLAVE_POS",
    "GTID_BINLOG_STATE",
    "SERVER_ID",
];

const CHANGED: &str = "SELECT VARIABLE_NAME, GLOBAL_VALUE, VARIABLE_TYPE, GLOBAL_VALUE_ORIGIN \
     FROM information_schema.SYSTEM_VARIABLES \
     WHERE READ_ONLY = 'NO' AND GLOBAL_VALUE IS NOT NULL";

/// Settings that are buttons: setting them does something, and means nothing afterwards.
fn is_button(name: &str) -> bool {
    name.ends_with("_NOW")
        || name.ends_with("_ABORT")
        || name.starts_with("INNODB_MONITOR_")
        || name.starts_with("DEBUG")
}

fn is_setting(name: &str) -> bool {
    !NOT_SETTINGS.contains(&name) && !is_button(name)
}

impl MariaDb {
    pub(super) async fn note_flags(&self) -> Result<Flags> {
        let mut session = self.session().await?;
        let read_only = session.value("SELECT @@global.read_only").await? != "0";
        let variables = session
            .rows(CHANGED)
            .await?
            .into_iter()
            .filter(|row| row.text("GLOBAL_VALUE_ORIGIN") == "SQL")
            .map(|row| {
                (
                    row.text("VARIABLE_NAME").to_owned(),
                    row.text("GLOBAL_VALUE").to_owned(),
                )
            })
            .filter(|(name, _)| is_setting(name))
            .collect();
        Ok(Flags {
            read_only,
            variables,
        })
    }

    /// Puts back each noted value that differs from the present one. A value that this server does
    /// not take (a plugin is gone, say) is reported and left: it must not keep the tablet down.
    pub(super) async fn put_flags_back(&self, flags: &Flags) -> Result<()> {
        let mut session = self.session().await?;
        let now = session.rows(CHANGED).await?;
        for (name, value) in &flags.variables {
            let Some(row) = now.iter().find(|row| row.text("VARIABLE_NAME") == name) else {
                tracing::warn!(variable = name, "this server has no such setting any more");
                continue;
            };
            if !is_setting(name) || row.text("GLOBAL_VALUE") == value {
                continue;
            }
            let numeric = ["INT", "DOUBLE"]
                .iter()
                .any(|kind| row.text("VARIABLE_TYPE").contains(kind))
                && value.parse::<f64>().is_ok();
            let literal = if numeric { value.clone() } else { quote(value) };
            match session.run(&format!("SET GLOBAL {name} = {literal}")).await {
                Ok(()) => tracing::info!(variable = name, "put a setting back"),
                Err(error @ SqlError::Server { .. }) => {
                    tracing::warn!(variable = name, %error, "could not put a setting back");
                }
                Err(error) => return Err(self.describe(error)),
            }
        }
        Ok(())
    }
}
