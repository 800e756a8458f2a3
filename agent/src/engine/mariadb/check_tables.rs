//! CHECK TABLE of every table, as mariadb-check does, and the checksums that are noted at a backup
//! and compared on what was restored.

use std::{collections::BTreeMap, time::Duration};

use seawall_common::{Error, Result};
use tokio::time::Instant;

use super::{
    MariaDb,
    blame::of_this_machine,
    sql::{Record, Session, SqlResult, quote_name},
};
use crate::engine::{Checked, Checksums, Say};

/// A large table takes its time; the operation has a deadline of its own.
const CHECK_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Checksums of a backup.
const CHECKSUMS_MAX: usize = 10_000;
/// How the detail of a table's checksum begins.
const CHECKSUM: &str = "checksum ";
/// Engines whose checksum depends on nothing but the rows.
const STABLE: &str = "'InnoDB','Aria','MyISAM'";
/// Types of what has files with rows in it.
const WITH_ROWS: &str = "'BASE TABLE','SYSTEM VERSIONED','SEQUENCE'";
/// The server changes its own tables by itself, also between two looks at them.
const OWN_SCHEMAS: &str = "'mysql','sys','information_schema','performance_schema'";

struct Table {
    schema: String,
    name: String,
}

impl Table {
    fn from(row: &Record) -> Self {
        Self {
            schema: row.text("table_schema").to_owned(),
            name: row.text("table_name").to_owned(),
        }
    }

    /// For statements.
    fn quoted(&self) -> String {
        format!("{}.{}", quote_name(&self.schema), quote_name(&self.name))
    }

    /// For people, and for the names of details.
    fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

async fn checksum(session: &mut Session, table: &Table, limit: Duration) -> SqlResult<String> {
    let statement = format!("CHECKSUM TABLE {}", table.quoted());
    let rows = session.rows_within(&statement, limit).await?;
    Ok(rows
        .first()
        .map_or("", |row| row.text("Checksum"))
        .to_owned())
}

/// What is wrong with the tables of a server that nobody else uses.
pub(super) async fn check(
    session: &mut Session,
    details: &[(String, String)],
    checked: &mut Checked,
    say: Say<'_>,
) -> Result<()> {
    let rows = session
        .rows_within(
            &format!(
                "SELECT table_schema, table_name FROM information_schema.tables \
                 WHERE table_type IN ({WITH_ROWS}) \
                 AND table_schema NOT IN ('information_schema','performance_schema') \
                 ORDER BY table_schema, table_name"
            ),
            CHECK_LIMIT,
        )
        .await?;
    let tables: Vec<Table> = rows.iter().map(Table::from).collect();
    for (number, table) in tables.iter().enumerate() {
        say(format!(
            "checking {} ({} of {})",
            table.shown(),
            number + 1,
            tables.len()
        ));
        let statement = format!("CHECK TABLE {}", table.quoted());
        let rows = session.rows_within(&statement, CHECK_LIMIT).await?;
        note_verdict(checked, table, &rows)?;
    }
    let compared = compare(session, &tables, details, say, checked).await?;
    checked.summary = format!(
        "{} tables checked, {compared} checksums compared",
        tables.len()
    );
    Ok(())
}

/// An error when the table could not be looked at, for the sake of this machine.
fn note_verdict(checked: &mut Checked, table: &Table, rows: &[Record]) -> Result<()> {
    let Some(what) = verdict(rows) else {
        return Ok(());
    };
    let problem = format!("CHECK TABLE {}: {what}", table.shown());
    if let Some(error) = of_this_machine(&what, &problem) {
        return Err(error);
    }
    checked.problem(problem);
    Ok(())
}

/// What CHECK TABLE complains of: its last word decides, an error always does.
fn verdict(rows: &[Record]) -> Option<String> {
    let is_good = |row: &&Record| match row.text("Msg_type") {
        "status" => matches!(row.text("Msg_text"), "OK" | "Table is already up to date"),
        kind => !kind.eq_ignore_ascii_case("error"),
    };
    let bad = rows.iter().find(|row| !is_good(row))?;
    let error = rows.iter().find(|row| row.text("Msg_type") == "Error");
    let said = error.unwrap_or(bad).text("Msg_text");
    Some(said.to_owned())
}

async fn compare(
    session: &mut Session,
    tables: &[Table],
    details: &[(String, String)],
    say: Say<'_>,
    checked: &mut Checked,
) -> Result<usize> {
    let by_name: BTreeMap<String, &Table> = tables.iter().map(|t| (t.shown(), t)).collect();
    let mut compared = 0;
    for (detail, noted) in details {
        let Some(name) = detail.strip_prefix(CHECKSUM) else {
            continue;
        };
        compared += 1;
        let Some(table) = by_name.get(name) else {
            checked.problem(format!("table {name} is missing"));
            continue;
        };
        say(format!("comparing the checksum of {name}"));
        let found = checksum(session, table, CHECK_LIMIT).await?;
        if found != *noted {
            checked.problem(format!(
                "table {name} has checksum {found}, {noted} was noted at the backup"
            ));
        }
    }
    Ok(compared)
}

impl MariaDb {
    /// Smallest tables first. Nobody writes from here on until the guard goes: the checksums say
    /// what will be copied.
    pub(super) async fn note_checksums(&self, budget: Duration) -> Result<Checksums> {
        let until = Instant::now() + budget;
        let mut session = self.session().await?;
        let seconds = budget.as_secs().max(1);
        session
            .run(&format!("SET SESSION lock_wait_timeout={seconds}"))
            .await?;
        session
            .run_within(
                "FLUSH TABLES WITH READ LOCK",
                budget.max(Duration::from_secs(1)) * 2,
            )
            .await?;
        let rows = session
            .rows(&format!(
                "SELECT table_schema, table_name FROM information_schema.tables \
                 WHERE table_type IN ({WITH_ROWS}) AND engine IN ({STABLE}) \
                 AND table_schema NOT IN ({OWN_SCHEMAS}) \
                 ORDER BY data_length, table_schema, table_name LIMIT {CHECKSUMS_MAX}"
            ))
            .await?;
        let mut noted = Vec::new();
        for table in rows.iter().map(Table::from) {
            let left = until.saturating_duration_since(Instant::now());
            // A dot in a name would make two tables look like one.
            if left.is_zero() || table.schema.contains('.') || table.name.contains('.') {
                continue;
            }
            let limit = format!("SET SESSION max_statement_time={}", left.as_secs_f64());
            session.run(&limit).await?;
            match checksum(&mut session, &table, left + Duration::from_secs(5)).await {
                Ok(value) if !value.is_empty() => {
                    noted.push((format!("{CHECKSUM}{}", table.shown()), value));
                }
                Ok(_) => {}
                // It was too large for the time that was left.
                Err(error) if error.is_over_time() => break,
                Err(error) => return Err(Error::from(error)),
            }
        }
        session.run("SET SESSION max_statement_time=0").await?;
        Ok(Checksums {
            noted,
            guard: Some(Box::new(session)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, text: &str) -> Record {
        Record::of(&[
            ("Table", "a.t"),
            ("Op", "check"),
            ("Msg_type", kind),
            ("Msg_text", text),
        ])
    }

    #[test]
    fn a_table_is_bad_when_the_server_says_so_and_not_for_a_note() {
        for good in [
            vec![row("status", "OK")],
            vec![row(
                "note",
                "The storage engine for the table doesn't support check",
            )],
            vec![
                row("warning", "1 client is using the table"),
                row("status", "OK"),
            ],
        ] {
            assert_eq!(verdict(&good), None);
        }
        let bad = vec![
            row(
                "Warning",
                "InnoDB: The B-tree of index PRIMARY is corrupted.",
            ),
            row("error", "Corrupt"),
        ];
        assert_eq!(verdict(&bad).unwrap(), "Corrupt");
        let gone = vec![
            row("Error", "Table 'a.t' doesn't exist"),
            row("status", "Operation failed"),
        ];
        assert_eq!(verdict(&gone).unwrap(), "Table 'a.t' doesn't exist");
    }

    #[test]
    fn a_table_that_cannot_be_looked_at_leaves_what_was_found_before_it() {
        let mut checked = Checked::default();
        let table = |name: &str| Table {
            schema: "a".to_owned(),
            name: name.to_owned(),
        };
        let corrupt = vec![row("error", "Corrupt")];
        note_verdict(&mut checked, &table("t"), &corrupt).unwrap();
        let text = "Got error 24 \"Too many open files\" from storage engine MyISAM";
        let not_looked_at = vec![row("Error", text), row("error", "Corrupt")];
        let error = note_verdict(&mut checked, &table("u"), &not_looked_at).unwrap_err();
        assert!(error.to_string().contains("LimitNOFILE"), "{error}");
        assert_eq!(checked.problems, ["CHECK TABLE a.t: Corrupt"]);
        assert_eq!(checked.problems_total, 1);
    }
}
