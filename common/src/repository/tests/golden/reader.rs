//! A reader that shares nothing with this restores them as well.

use std::process::{Command, Output};

use super::{
    super::trees::assert_equal,
    tree::{everything, expected},
    *,
};

/// `false`, and a line that says so, where Python or its package `cryptography` is not here.
fn can_run() -> bool {
    let needs = "import cryptography, ctypes; ctypes.CDLL('libzstd.so.1')";
    let asked = Command::new("python3").args(["-c", needs]).output();
    let has_needs = asked.is_ok_and(|ended| ended.status.success());
    if !has_needs {
        eprintln!(
            "SKIPPED: the reader in Python needs python3, its package cryptography and libzstd (deploy/setup test installs them)"
        );
    }
    has_needs
}

fn read(kind: &str, backup: u32, target: &Path, options: &[&str]) -> Output {
    let mut command = Command::new("python3");
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SEAWALL_PASSPHRASE", PASSPHRASE)
        .arg(place().join("reader.py"))
        .arg(repository_at(kind))
        .args(["commerce/0", name(backup).as_str()])
        .arg(target)
        .args(options);
    command.output().unwrap()
}

fn restores(kind: &str, backup: u32, key: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("t");
    let writer = writer_key();
    let pin = ["--writer", writer.as_str()];
    let pin = if is_signed(kind, backup) {
        &pin[..]
    } else {
        &[]
    };
    let ended = read(kind, backup, &target, &[key, pin].concat());
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{kind} {backup} {key:?}: {said}");
    assert_equal(&everything(&target), &expected(backup));
}

#[test]
fn a_reader_written_from_the_format_alone_restores_the_golden_repository() {
    if !can_run() {
        return;
    }
    for backup in BACKUPS {
        restores("plain", backup, &[]);
        for identity in IDENTITIES {
            let file = identity_file(identity).display().to_string();
            restores("encrypted", backup, &["--identity", &file]);
        }
    }
    restores("encrypted", 3, &["--unlock", LOCKED]);
}

#[test]
fn that_reader_refuses_what_was_given_up_and_what_another_has_signed() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("t");
    let ended = read("plain", GIVEN_UP, &target, &[]);
    assert!(!ended.status.success());
    let other = "00".repeat(32);
    let ended = read("plain", 3, &target, &["--writer", &other]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("signed by somebody else"), "{said}");
    let ended = read("plain", 1, &target, &["--writer", &other]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("not signed"), "{said}");
    assert!(!target.exists());
}
