//! What a cold copy of a MariaDB server consists of, and where its files lie.
//!
//! Left out is what must not be taken along: whom the server replicated from and what it had fetched
//! (a copy would go on replicating by itself), and its binary logs with their index (it holds
//! absolute paths: a copy would read, and purge, the original's). `<log>.state` stays: it is what the
//! binary log had got to. Where binary logs have a directory of their own, nothing of it is copied:
//! adopting the copy gives it its position.

use std::path::{Path, PathBuf};

use seawall_common::{Error, Result};
use walkdir::WalkDir;

use super::{
    MariaDb,
    configuration::Configuration,
    locks::Guard,
    sql::{Session, quote},
};
use crate::engine::{CopyRoot, CopySet};

/// What may lie outside the data directory: name of the root, the setting that moves it there.
pub(super) const MOVABLE: [(&str, &str); 4] = [
    ("tablespace", "innodb-data-home-dir"),
    ("redo", "innodb-log-group-home-dir"),
    ("undo", "innodb-undo-directory"),
    ("aria", "aria-log-dir-path"),
];
/// Schemas hold tables, and those may hold partitions: links stand no deeper.
const LINK_DEPTH_MAX: usize = 3;
/// Undecided prepared transactions named in a backup's details.
const PREPARED_MAX: usize = 100;
/// Settings that decide how files are read, apart from where they lie: noted with a backup, so that
/// a restore test reads them as the server did that wrote them. Not every version has each.
pub(super) const SHAPES: [&str; 10] = [
    "innodb_page_size",
    "innodb_data_file_path",
    "innodb_undo_tablespaces",
    "innodb_checksum_algorithm",
    "innodb_log_file_size",
    "lower_case_table_names",
    "character_set_server",
    "collation_server",
    "aria_block_size",
    "aria_log_file_size",
];

/// The directories of a backup, without what is excluded in them.
pub(super) fn roots(configuration: &Configuration, data_dir: &Path) -> Result<Vec<CopyRoot>> {
    let mut roots = vec![root("data".to_owned(), data_dir.to_owned())];
    for (name, setting) in MOVABLE {
        let path = configuration.directory(setting);
        if real(&path).starts_with(real(data_dir)) {
            continue;
        }
        match roots
            .iter_mut()
            .find(|root| real(&root.path) == real(&path))
        {
            // One directory for both: named so that it only fits a server that is laid out alike.
            Some(root) => root.name = format!("{}-{name}", root.name),
            None => roots.push(root(name.to_owned(), path)),
        }
    }
    for outer in &roots {
        let inside = |root: &&CopyRoot| {
            root.name != outer.name && real(&root.path).starts_with(real(&outer.path))
        };
        if let Some(inner) = roots.iter().find(inside) {
            return Err(Error::refused(format!(
                "the {} directory {} contains the {} directory {}",
                outer.name,
                outer.path.display(),
                inner.name,
                inner.path.display()
            ))
            .hint("Give each a directory of its own."));
        }
    }
    check_tablespace(configuration, &roots)?;
    Ok(roots)
}

/// Where a path leads when links on the way are followed, as far as it exists.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// `path` as seen from `root`, whatever links lead to either; its last part may be a pattern.
pub(super) fn relative(path: &Path, root: &Path) -> Option<String> {
    let directory = real(path.parent()?);
    let inner = directory.strip_prefix(real(root)).ok()?;
    Some(inner.join(path.file_name()?).to_string_lossy().into_owned())
}

fn root(name: String, path: PathBuf) -> CopyRoot {
    CopyRoot {
        name,
        path,
        exclude: Vec::new(),
    }
}

fn check_tablespace(configuration: &Configuration, roots: &[CopyRoot]) -> Result<()> {
    for file in configuration.system_tablespace() {
        if relative_to_any(&file, roots).is_none() {
            return Err(outside(&file));
        }
    }
    if let Some(path) = configuration.value("rocksdb-datadir") {
        let path = configuration.resolve(path);
        if relative_to_any(&path, roots).is_none() {
            return Err(outside(&path));
        }
    }
    Ok(())
}

fn relative_to_any(path: &Path, roots: &[CopyRoot]) -> Option<String> {
    roots.iter().find_map(|root| relative(path, &root.path))
}

fn outside(path: &Path) -> Error {
    Error::refused(format!(
        "{} lies outside every directory that a backup copies",
        path.display()
    ))
    .hint("Move it into the data directory.")
}

/// Tables whose files lie elsewhere, by `DATA DIRECTORY` or by a link.
fn check_links(data_dir: &Path) -> Result<()> {
    for entry in WalkDir::new(data_dir)
        .min_depth(1)
        .max_depth(LINK_DEPTH_MAX)
    {
        let entry = match entry {
            Ok(entry) => entry,
            // The server runs: temporary files come and go.
            Err(e)
                if e.io_error()
                    .is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) =>
            {
                continue;
            }
            Err(e) => return Err(Error::internal(format!("cannot look for links: {e}"))),
        };
        let path = entry.path();
        let target = if entry.path_is_symlink() {
            std::fs::read_link(path).ok()
        } else if path.extension().is_some_and(|ending| ending == "isl") {
            std::fs::read_to_string(path)
                .ok()
                .map(|text| text.trim().into())
        } else {
            continue;
        };
        let target = target.unwrap_or_default();
        return Err(Error::refused(format!(
            "{} has its data in {}, outside every directory that a backup copies",
            path.display(),
            target.display()
        ))
        .hint("Move the table into the data directory: ALTER TABLE ... without DATA DIRECTORY."));
    }
    Ok(())
}

impl MariaDb {
    pub(super) async fn read_copy_set(&self) -> Result<CopySet> {
        let configuration = self.configuration().await?;
        let data_dir = self.settings.data_dir.clone();
        let mut roots = roots(&configuration, &data_dir)?;
        tokio::task::spawn_blocking(move || check_links(&data_dir))
            .await
            .map_err(|e| Error::internal(format!("cannot look for links: {e}")))??;
        let mut session = self.session().await?;
        check_single_source(&mut session).await?;
        let excluded = excluded(&mut session).await?;
        for root in &mut roots {
            root.exclude = excluded
                .iter()
                .filter_map(|path| relative(path, &root.path))
                .collect();
        }
        let details = details(&mut session).await?;
        Ok(CopySet { roots, details })
    }

    pub(super) async fn guard_files(&self) -> Result<Guard> {
        if self.server_is_running().await? {
            return Err(Error::refused(format!(
                "a database server has {} open",
                self.settings.data_dir.display()
            )));
        }
        let configuration = self.configuration().await?;
        let guard = Guard::take(&configuration.locked_files())?;
        // The state of the binary log is written at a clean end, and removed at the next start.
        if let Some(log) = configuration.binary_log()
            && log.with_extension("index").exists()
            && !log.with_extension("state").exists()
        {
            return Err(Error::refused(
                "the database did not end cleanly: its binary log was left open",
            )
            .hint("Let it start and recover, then try again."));
        }
        Ok(guard)
    }
}

async fn check_single_source(session: &mut Session) -> Result<()> {
    for row in session.rows("SHOW ALL SLAVES STATUS").await? {
        let name = row.text("Connection_name");
        if !name.is_empty() {
            return Err(Error::refused(format!(
                "this server replicates from several sources (connection {name:?})"
            ))
            .hint("Only the default connection can be put back after a backup."));
        }
    }
    Ok(())
}

/// Absolute paths, with a star at the end where any ending is meant.
async fn excluded(session: &mut Session) -> Result<Vec<PathBuf>> {
    let row = session
        .row(
            "SELECT @@global.datadir AS datadir, @@global.log_bin_basename AS log, \
             @@global.log_bin_index AS log_index, @@global.relay_log_basename AS relay, \
             @@global.relay_log_index AS relay_index, @@global.relay_log_info_file AS relay_info, \
             @@global.pid_file AS pid, @@global.socket AS socket, @@global.log_error AS log_error, \
             @@global.general_log_file AS general_log, \
             @@global.slow_query_log_file AS slow_log, \
             @@global.innodb_temp_data_file_path AS temporary, \
             @@global.innodb_data_home_dir AS tablespace",
        )
        .await?;
    let data_dir = Path::new(row.text("datadir"));
    let mut paths: Vec<PathBuf> = [
        "master.info",
        "master-*",
        "relay-log.info",
        "relay-log-*",
        "multi-master.info",
    ]
    .map(|name| data_dir.join(name))
    .into();
    for column in [
        "log_index",
        "relay_index",
        "relay_info",
        "pid",
        "socket",
        "log_error",
        "general_log",
        "slow_log",
    ] {
        let path = row.text(column);
        if !path.is_empty() {
            paths.push(data_dir.join(path));
        }
    }
    if !row.text("log").is_empty() {
        // Numbers only: the state beside them is kept.
        paths.extend((0..=9).map(|digit| data_dir.join(format!("{}.{digit}*", row.text("log")))));
    }
    if !row.text("relay").is_empty() {
        // Schemas never have a dot or a dash in the name of their directory: they are written as @002e, @002d.
        paths.push(data_dir.join(format!("{}.*", row.text("relay"))));
        paths.push(data_dir.join(format!("{}-*", row.text("relay"))));
    }
    let tablespace = data_dir.join(row.text("tablespace"));
    for file in row.text("temporary").split(';') {
        let name = file.split(':').next().unwrap_or_default();
        if !name.is_empty() {
            paths.push(tablespace.join(name));
        }
    }
    Ok(paths)
}

async fn details(session: &mut Session) -> Result<Vec<(String, String)>> {
    let row = session
        .row(
            "SELECT VERSION() AS version, @@global.version_comment AS version_comment, \
             @@global.server_id AS server_id, @@global.server_uid AS server_uid, \
             @@global.log_bin_basename AS log_bin, \
             @@global.gtid_slave_pos AS gtid_slave_pos, \
             @@global.gtid_binlog_state AS gtid_binlog_state",
        )
        .await?;
    let mut details: Vec<(String, String)> = row
        .columns()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let names = SHAPES.map(quote).join(",");
    let shapes = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
    let shapes = session.rows(&shapes).await?;
    details.extend(shapes.iter().map(|row| {
        let text = |column| row.text(column).to_owned();
        (text("Variable_name"), text("Value"))
    }));
    let prepared = session.rows("XA RECOVER FORMAT='SQL'").await?;
    if !prepared.is_empty() {
        let names: Vec<&str> = prepared
            .iter()
            .take(PREPARED_MAX)
            .map(|row| row.text("data"))
            .collect();
        details.push((
            "prepared_transactions".to_owned(),
            prepared.len().to_string(),
        ));
        details.push(("prepared".to_owned(), names.join("; ")));
    }
    Ok(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_lies_elsewhere_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("shop")).unwrap();
        check_links(directory.path()).unwrap();
        std::fs::write(
            directory.path().join("shop/orders.isl"),
            "/else/shop/orders.ibd\n",
        )
        .unwrap();
        let error = check_links(directory.path()).unwrap_err().to_string();
        assert!(error.contains("shop/orders.isl"), "{error}");
        assert!(error.contains("/else/shop/orders.ibd"), "{error}");
        std::fs::remove_file(directory.path().join("shop/orders.isl")).unwrap();
        std::os::unix::fs::symlink("/else/shop2", directory.path().join("shop2")).unwrap();
        let error = check_links(directory.path()).unwrap_err().to_string();
        assert!(error.contains("/else/shop2"), "{error}");
    }

    #[test]
    fn what_is_left_out_is_found_by_whatever_way_it_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (data, link) = (directory.path().join("data"), directory.path().join("link"));
        std::fs::create_dir_all(data.join("logs")).unwrap();
        std::os::unix::fs::symlink(&data, &link).unwrap();
        for (path, root) in [(&data, &link), (&link, &data), (&data, &data)] {
            let found = relative(&path.join("./logs/../logs/bin.0*"), root);
            assert_eq!(found.as_deref(), Some("logs/bin.0*"));
        }
        assert_eq!(relative(Path::new("/var/bin.index"), &data), None);
    }
}
