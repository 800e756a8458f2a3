//! What lies in a data directory, told from its files alone.
//!
//! When in doubt it is somebody's data: what is not known by name is never touched.

use std::{fs, io, path::Path};

use seawall_common::{Error, Result};

use crate::engine::DataState;

/// Stands in a data directory from before it is initialised until that is done.
pub(super) const INITIALIZING: &str = "seawall-initializing";

const SYSTEM_SCHEMAS: [&str; 3] = ["mysql", "performance_schema", "sys"];
const IGNORED: [&str; 2] = ["lost+found", ".snapshot"];
const SYSTEM_NAMES: [&str; 7] = [
    "aria_log_control",
    "ib_buffer_pool",
    "multi-master.info",
    "mysql_upgrade_info",
    "mariadb_upgrade_info",
    "tc.log",
    "ibtmp1",
];
const SYSTEM_BEGINNINGS: [&str; 6] = [
    "aria_log.",
    "ib_logfile",
    "ibdata",
    "undo",
    "ddl_recovery",
    "debian-",
];
/// Binary and relay logs, their indexes, process numbers, sockets, error logs.
const SYSTEM_ENDINGS: [&str; 8] = [
    ".index", ".state", ".info", ".pid", ".sock", ".err", ".log", ".cnf",
];

pub(super) fn state(data_dir: &Path) -> Result<DataState> {
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(DataState::Empty),
        Err(e) => return Err(Error::io("read", data_dir, &e)),
    };
    let mut state = DataState::Empty;
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", data_dir, &e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == INITIALIZING {
            return Ok(DataState::Empty);
        }
        if IGNORED.contains(&name.as_str()) {
            continue;
        }
        state = DataState::SystemOnly;
        let kind = entry
            .file_type()
            .map_err(|e| Error::io("read", data_dir, &e))?;
        let known = if kind.is_dir() {
            SYSTEM_SCHEMAS.contains(&name.as_str()) || is_empty_schema(&entry.path())?
        } else {
            is_system_file(&name)
        };
        if !known {
            return Ok(DataState::UserData);
        }
    }
    // Tablespaces without the schema that describes them are the remains of somebody's database.
    if state == DataState::SystemOnly && !data_dir.join("mysql").is_dir() {
        return Ok(DataState::UserData);
    }
    Ok(state)
}

fn is_system_file(name: &str) -> bool {
    let numbered = name
        .rsplit_once('.')
        .is_some_and(|(_, number)| number.len() >= 6 && number.bytes().all(|b| b.is_ascii_digit()));
    numbered
        || SYSTEM_NAMES.contains(&name)
        || SYSTEM_BEGINNINGS
            .iter()
            .any(|begin| name.starts_with(begin))
        || SYSTEM_ENDINGS.iter().any(|end| name.ends_with(end))
}

/// A schema that somebody made and put nothing into, as the server's own `test`.
fn is_empty_schema(path: &Path) -> Result<bool> {
    let entries = fs::read_dir(path).map_err(|e| Error::io("read", path, &e))?;
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", path, &e))?;
        if entry.file_name() != "db.opt" {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[&str]) -> DataState {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        state(directory.path()).unwrap()
    }

    #[test]
    fn only_known_files_make_a_directory_one_without_user_data() {
        assert_eq!(
            state(Path::new("/no/such/directory")).unwrap(),
            DataState::Empty
        );
        assert_eq!(with(&[]), DataState::Empty);
        assert_eq!(with(&["lost+found/a"]), DataState::Empty);
        let fresh = [
            "mysql/user.frm",
            "sys/a.frm",
            "ibdata1",
            "bin.000001",
            "vm.pid",
        ];
        assert_eq!(with(&fresh), DataState::SystemOnly);
        assert_eq!(
            with(&[&fresh[..], &["test/db.opt"]].concat()),
            DataState::SystemOnly
        );
        assert_eq!(
            with(&[&fresh[..], &["test/t.frm"]].concat()),
            DataState::UserData
        );
        assert_eq!(
            with(&[&fresh[..], &["notes.txt"]].concat()),
            DataState::UserData
        );
        assert_eq!(with(&["ibdata1"]), DataState::UserData);
        assert_eq!(with(&["shop/orders.ibd"]), DataState::UserData);
    }

    #[test]
    fn an_initialisation_that_was_cut_off_left_nothing_of_value() {
        assert_eq!(
            with(&["mysql/user.frm", "ibdata1", INITIALIZING]),
            DataState::Empty
        );
    }
}
