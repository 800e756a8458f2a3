//! Looking at a running server: health, replication, position.

use std::time::Duration;

use seawall_common::{
    Error, Result,
    position::{Gtid, Position},
};

use super::{
    MariaDb,
    sql::{Record, Session, SqlResult},
};
use crate::engine::{Health, Replication, Source};

/// A server's position, of itself or of another.
pub(super) const POSITION_QUERY: &str = "SELECT @@global.gtid_slave_pos AS applied, \
     @@global.gtid_binlog_pos AS logged, @@global.gtid_current_pos AS current";

/// The default replication connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub source: Source,
    pub user: String,
    pub by_slave_position: bool,
    /// Connected, or still trying.
    pub receiving_wanted: bool,
    pub receiving: bool,
    pub applying: bool,
    lag: Option<Duration>,
    receive_error: Option<(u64, String)>,
    apply_error: Option<(u64, String)>,
}

impl Connection {
    pub fn wanted(&self) -> bool {
        self.receiving_wanted || self.applying
    }

    /// The error that has stopped a side for good; one that is still being retried is not meant.
    pub fn fatal_error(&self) -> Option<&str> {
        let apply = self.apply_error.as_ref().filter(|_| !self.applying);
        let receive = self
            .receive_error
            .as_ref()
            .filter(|_| !self.receiving_wanted);
        apply.or(receive).map(|(_, text)| text.as_str())
    }

    /// The source does not take our user or password.
    pub fn is_refused(&self) -> bool {
        matches!(self.receive_error, Some((1045 | 1698, _)))
    }

    fn last_error(&self) -> Option<String> {
        let error = self.apply_error.as_ref().or(self.receive_error.as_ref());
        error.map(|(number, text)| format!("{text} (error {number})"))
    }
}

impl From<&Record> for Connection {
    fn from(row: &Record) -> Self {
        let error = |side: &str| {
            let number = row.number(&format!("Last_{side}_Errno"))?;
            (number != 0).then(|| (number, row.text(&format!("Last_{side}_Error")).to_owned()))
        };
        let receiving = row.text("Slave_IO_Running");
        Self {
            source: Source {
                host: row.text("Master_Host").to_owned(),
                port: row
                    .number("Master_Port")
                    .and_then(|n| n.try_into().ok())
                    .unwrap_or(0),
            },
            user: row.text("Master_User").to_owned(),
            by_slave_position: row.text("Using_Gtid") == "Slave_Pos",
            receiving_wanted: receiving != "No",
            receiving: receiving == "Yes",
            applying: row.flag("Slave_SQL_Running"),
            lag: row.number("Seconds_Behind_Master").map(Duration::from_secs),
            receive_error: error("IO"),
            apply_error: error("SQL"),
        }
    }
}

/// The default connection; none when the server has nowhere to replicate from.
pub(super) async fn connection(session: &mut Session) -> SqlResult<Option<Connection>> {
    let rows = session.rows("SHOW ALL SLAVES STATUS").await?;
    Ok(rows
        .iter()
        .find(|row| row.text("Connection_name").is_empty())
        .filter(|row| !row.text("Master_Host").is_empty())
        .map(Connection::from))
}

/// How far a server's history has got.
#[derive(Debug)]
pub(super) struct Reached {
    /// What replication has applied: stale on a server that was promoted and wrote.
    pub applied: Position,
    /// In each domain the later of `applied` and what the binary log ends with.
    pub with_log: Position,
    /// The same, but of the binary log only what the server wrote under its own id.
    pub with_own: Position,
}

impl Reached {
    /// The position of a server that follows somebody, or nobody.
    ///
    /// A follower counts only its own entries of the binary log, as MariaDB does: after a crash under
    /// relaxed durability the log may hold transactions of the primary that the tables have lost, and
    /// they must not be taken for applied. One that follows nobody counts the whole log: a primary's
    /// log is its history, also where a copy of it or a changed configuration gave it another id.
    pub fn position(self, follows: bool) -> Position {
        if follows {
            self.with_own
        } else {
            self.with_log
        }
    }
}

impl TryFrom<&Record> for Reached {
    type Error = Error;
    fn try_from(row: &Record) -> Result<Self> {
        let applied: Position = row.text("applied").parse()?;
        let with_log = later(&applied, &row.text("logged").parse()?)?;
        Ok(Self {
            with_own: row.text("current").parse()?,
            applied,
            with_log,
        })
    }
}

/// In each domain the later of the two.
pub(super) fn later(a: &Position, b: &Position) -> Result<Position> {
    let mut gtids: Vec<Gtid> = a.gtids().collect();
    for gtid in b.gtids() {
        match gtids.iter_mut().find(|other| other.domain == gtid.domain) {
            Some(other) if other.sequence < gtid.sequence => *other = gtid,
            Some(_) => {}
            None => gtids.push(gtid),
        }
    }
    let text: Vec<String> = gtids.iter().map(Gtid::to_string).collect();
    text.join(",").parse()
}

pub(super) async fn reached(session: &mut Session) -> Result<Reached> {
    Reached::try_from(&session.row(POSITION_QUERY).await?)
}

impl MariaDb {
    pub(super) async fn read_position(&self, session: &mut Session) -> Result<Position> {
        let follows = connection(session).await?.is_some();
        Ok(reached(session).await?.position(follows))
    }

    pub(super) async fn look(&self) -> Result<Health> {
        let mut session = self.session().await?;
        let row = session
            .row(
                "SELECT VERSION() AS version, @@global.server_id AS server_id, \
                 @@global.read_only AS read_only, @@global.gtid_slave_pos AS applied, \
                 @@global.gtid_binlog_pos AS logged, @@global.gtid_current_pos AS current, \
                 @@global.expire_logs_days AS log_days",
            )
            .await?;
        let connection = connection(&mut session).await?;
        Ok(Health {
            version: row.text("version").to_owned(),
            server_id: row
                .number("server_id")
                .and_then(|n| n.try_into().ok())
                .unwrap_or(0),
            read_only: row.flag("read_only"),
            position: Reached::try_from(&row)?.position(connection.is_some()),
            replication: connection.map_or_else(Replication::default, |connection| {
                let running = connection.receiving && connection.applying;
                Replication {
                    configured: true,
                    running,
                    wanted: connection.wanted(),
                    lag: connection.lag.filter(|_| running),
                    error: connection.last_error(),
                    source: Some(connection.source),
                }
            }),
            log_kept: log_kept(row.text("log_days")),
        })
    }
}

/// From 10.6 on this is a decimal number of days, and the same setting as
/// `binlog_expire_logs_seconds`; before that it is a whole number. 0: for ever.
fn log_kept(days: &str) -> Option<Duration> {
    let days: f64 = days.trim().parse().ok()?;
    // Rounded: days are written with six digits, so that seconds can be told.
    let seconds = (days * 24.0 * 3600.0).round();
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_the_log_is_kept_is_told_to_the_second() {
        for (days, seconds) in [
            ("0.000000", 0),
            ("0", 0),
            ("10", 864_000),
            ("4.000000", 345_600),
            ("0.041667", 3_600),
            ("0.000694", 60),
            ("99.999988", 8_639_999),
        ] {
            assert_eq!(log_kept(days), Some(Duration::from_secs(seconds)), "{days}");
        }
        for unknown in ["", "-1", "for ever"] {
            assert_eq!(log_kept(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_position_is_the_later_half_of_each_domain() {
        let position = |text: &str| text.parse::<Position>().unwrap();
        let merged = later(&position("0-1-50,1-1-7"), &position("0-2-60,2-1-1")).unwrap();
        assert_eq!(merged, position("0-2-60,1-1-7,2-1-1"));
        assert_eq!(
            later(&position("0-1-70"), &position("0-2-60")).unwrap(),
            position("0-1-70")
        );
    }
}
