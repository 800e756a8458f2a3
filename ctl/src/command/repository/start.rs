//! What a person does next with restored directories. Only words: an agent does the same by itself
//! when it is given the backup.

use std::path::Path;

use seawall_common::{error::one_line, repository::Manifest};

/// Which setting of the server names the directory of a root. A root may stand for several.
const SETTINGS: [(&str, &str); 5] = [
    ("data", "datadir"),
    ("tablespace", "innodb_data_home_dir"),
    ("redo", "innodb_log_group_home_dir"),
    ("undo", "innodb_undo_directory"),
    ("aria", "aria_log_dir_path"),
];

/// One step a line.
pub fn steps<'a>(
    manifest: &Manifest,
    roots: impl Iterator<Item = (&'a str, &'a Path)>,
) -> Vec<String> {
    match manifest.header.engine.as_str() {
        "mariadb" => of_mariadb(manifest, roots),
        engine => vec![format!(
            "start {engine} on these directories, as it was configured where they were copied"
        )],
    }
}

fn of_mariadb<'a>(
    manifest: &Manifest,
    roots: impl Iterator<Item = (&'a str, &'a Path)>,
) -> Vec<String> {
    let version = manifest.detail("version").unwrap_or("of the same series");
    let settings: Vec<String> = roots
        .flat_map(|(root, path)| {
            root.split('-').map(move |name| {
                let setting = SETTINGS.iter().find(|(known, _)| *known == name);
                let setting = setting.map_or(name, |(_, setting)| setting);
                format!("{setting}={}", path.display())
            })
        })
        .collect();
    let mut steps = vec![
        format!(
            "configure MariaDB {} with {}; the directories belong to its user",
            one_line(version),
            settings.join(", ")
        ),
        "start it with --read-only --skip-slave-start: what it replicated from was another server's affair".to_owned(),
    ];
    let position = &manifest.header.position;
    steps.push(match position.is_empty() {
        true => "RESET SLAVE ALL".to_owned(),
        // The copy of a primary has no gtid_slave_pos and no binary log: it would count from 1 again.
        false => format!(
            "RESET SLAVE ALL; RESET MASTER; SET GLOBAL gtid_slave_pos = '{position}': its history goes on from there"
        ),
    });
    steps.push(
        "CHANGE MASTER TO the shard's primary with MASTER_USE_GTID = slave_pos and START SLAVE; or, if it is to be the \
         primary, make sure that no other is and SET GLOBAL read_only = 0"
            .to_owned(),
    );
    steps
}
