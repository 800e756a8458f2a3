//! One session with a MariaDB server: text queries only, each with a limit, secrets kept out of
//! every message.
//!
//! A session is opened for each use and thrown away: over a Unix socket that is cheap, and none is
//! ever found dead after the server was restarted.

use std::{fmt, time::Duration};

use mysql_async::{Conn, Opts, Row, Value, prelude::Queryable};
use seawall_common::{Error, ErrorKind};
use secrecy::{ExposeSecret, SecretString};

/// For opening a session.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// For a query that waits for nobody.
pub(super) const QUERY_LIMIT: Duration = Duration::from_secs(15);
/// The server ends a statement's wait for locks before we stop waiting for the statement: so that
/// none takes effect after it was given up.
pub(super) const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Server error numbers that decide something.
pub(super) mod code {
    pub const ACCESS_DENIED: u16 = 1045;
    pub const ACCESS_DENIED_NO_PASSWORD: u16 = 1698;
    pub const SLAVE_MUST_STOP: u16 = 1198;
    pub const MASTER_INFO: u16 = 1201;
}

/// A query's failure, with what the server said.
#[derive(Debug)]
pub(super) enum SqlError {
    Server {
        code: u16,
        message: String,
    },
    /// No server there, or it went away.
    Gone(String),
    Timeout(Duration),
    Setting(Error),
}

pub(super) type SqlResult<T> = std::result::Result<T, SqlError>;

impl SqlError {
    pub fn code(&self) -> Option<u16> {
        match self {
            SqlError::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The statement was ended by its own limit, here or in the server.
    pub fn is_over_time(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    pub fn is_access_denied(&self) -> bool {
        matches!(
            self.code(),
            Some(code::ACCESS_DENIED | code::ACCESS_DENIED_NO_PASSWORD)
        )
    }

    fn kind(&self) -> ErrorKind {
        match self {
            SqlError::Gone(_) => ErrorKind::Unavailable,
            SqlError::Timeout(_) => ErrorKind::Timeout,
            SqlError::Setting(error) => error.kind(),
            SqlError::Server { code, .. } => match code {
                // Too many connections; shutting down; killed.
                1040 | 1053 | 1927 => ErrorKind::Unavailable,
                // Waited too long for a lock; statement over its time.
                1205 | 1969 | 3024 => ErrorKind::Timeout,
                // Access denied to the server, a schema, a table, an administrator's statement.
                1044 | 1045 | 1142 | 1227 | 1698 => ErrorKind::Refused,
                _ => ErrorKind::Internal,
            },
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlError::Server { code, message } => write!(f, "{message} (error {code})"),
            SqlError::Gone(text) => f.write_str(text),
            SqlError::Timeout(limit) => write!(f, "no answer within {limit:?}"),
            SqlError::Setting(error) => error.fmt(f),
        }
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Error {
        let wrong_password = error.is_access_denied();
        match error {
            SqlError::Setting(error) => error,
            error => {
                let text = Error::new(error.kind(), format!("database: {error}"));
                if wrong_password {
                    text.hint("Check the user and the password file in the agent's configuration.")
                } else {
                    text
                }
            }
        }
    }
}

impl From<mysql_async::Error> for SqlError {
    fn from(error: mysql_async::Error) -> Self {
        match error {
            mysql_async::Error::Server(e) => SqlError::Server {
                code: e.code,
                message: e.message,
            },
            // Every layer of the client calls this one "Input/output error": the cause is enough.
            mysql_async::Error::Io(mysql_async::IoError::Io(e)) => SqlError::Gone(e.to_string()),
            other => SqlError::Gone(seawall_common::error::chain(&other)),
        }
    }
}

pub(super) struct Session {
    /// There until the session is dropped.
    connection: Option<Conn>,
}

impl Drop for Session {
    /// Says goodbye: the client's own drop does not, and the server would log each of our looks as
    /// an aborted connection.
    fn drop(&mut self) {
        if let (Some(connection), Ok(runtime)) = (
            self.connection.take(),
            tokio::runtime::Handle::try_current(),
        ) {
            runtime.spawn(within(CONNECT_LIMIT, connection.disconnect()));
        }
    }
}

impl Session {
    pub async fn open(options: Opts) -> SqlResult<Self> {
        let connection = within(CONNECT_LIMIT, Conn::new(options)).await?;
        let mut session = Self {
            connection: Some(connection),
        };
        // Strings are then quoted in one way, whatever the server's default.
        session
            .run(&format!(
                "SET SESSION sql_mode='', lock_wait_timeout={}",
                LOCK_LIMIT.as_secs()
            ))
            .await?;
        Ok(session)
    }

    fn connection(&mut self) -> SqlResult<&mut Conn> {
        let connection = self.connection.as_mut();
        connection.ok_or_else(|| SqlError::Gone("the session is over".to_owned()))
    }

    pub async fn run(&mut self, statement: &str) -> SqlResult<()> {
        self.run_within(statement, QUERY_LIMIT).await
    }

    pub async fn run_within(&mut self, statement: &str, limit: Duration) -> SqlResult<()> {
        within(limit, self.connection()?.query_drop(statement)).await
    }

    /// A statement that carries `secret`: what the server says about it is cleaned of it.
    pub async fn run_secret(&mut self, statement: &str, secret: &SecretString) -> SqlResult<()> {
        self.run(statement).await.map_err(|error| match error {
            SqlError::Server { code, message } if !secret.expose_secret().is_empty() => {
                let quoted = quote(secret.expose_secret());
                let message = message
                    .replace(quoted.trim_matches('\''), "***")
                    .replace(secret.expose_secret(), "***");
                SqlError::Server { code, message }
            }
            error => error,
        })
    }

    pub async fn rows(&mut self, query: &str) -> SqlResult<Vec<Record>> {
        self.rows_within(query, QUERY_LIMIT).await
    }

    pub async fn rows_within(&mut self, query: &str, limit: Duration) -> SqlResult<Vec<Record>> {
        let rows: Vec<Row> = within(limit, self.connection()?.query(query)).await?;
        Ok(rows.into_iter().map(Record::from).collect())
    }

    /// The only row of a query that always has one.
    pub async fn row(&mut self, query: &str) -> SqlResult<Record> {
        let rows = self.rows(query).await?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    /// The first column of the first row, as text.
    pub async fn value(&mut self, query: &str) -> SqlResult<String> {
        let row = self.row(query).await?;
        Ok(row.0.into_iter().next().map_or_else(String::new, |c| c.1))
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, mysql_async::Error>>,
) -> SqlResult<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(SqlError::from),
        Err(_) => Err(SqlError::Timeout(limit)),
    }
}

/// A row as text, by column name. NULL is the empty text.
#[derive(Debug, Default)]
pub(super) struct Record(Vec<(String, String)>);

impl Record {
    #[cfg(test)]
    pub fn of(columns: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(columns.iter().map(own).collect())
    }

    pub fn text(&self, column: &str) -> &str {
        self.0
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(column))
            .map_or("", |(_, value)| value)
    }

    pub fn columns(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn number(&self, column: &str) -> Option<u64> {
        self.text(column).parse().ok()
    }

    pub fn flag(&self, column: &str) -> bool {
        matches!(self.text(column), "1" | "ON" | "Yes" | "YES")
    }
}

impl From<Row> for Record {
    fn from(row: Row) -> Self {
        let columns = row.columns();
        let values = row.unwrap_raw();
        Self(
            columns
                .iter()
                .map(|column| column.name_str().into_owned())
                .zip(values.into_iter().map(|value| match value {
                    None | Some(Value::NULL) => String::new(),
                    Some(Value::Bytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
                    // The text protocol carries nothing else.
                    Some(other) => other.as_sql(true),
                }))
                .collect(),
        )
    }
}

/// A string literal; right only under the `sql_mode` of [`Session::open`].
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// A name of a schema, table or column.
pub(super) fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Connections that may have been refused by name rather than by password carry the same hint; this
/// says whose they were.
pub(super) fn denied(error: SqlError, user: &str, whereto: impl fmt::Display) -> Error {
    let denied = error.is_access_denied();
    let error = Error::from(error);
    if denied {
        error.context(format_args!("user {user:?} was refused by {whereto}"))
    } else {
        error.context(whereto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_cannot_leave_a_literal() {
        assert_eq!(quote(r"a'b\c"), r"'a''b\\c'");
        assert_eq!(quote(""), "''");
    }
}
