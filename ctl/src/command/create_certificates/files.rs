//! Certificates and keys as files: `NAME.crt` for everybody, `NAME.key` for its owner alone.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use seawall_common::Error;

/// In PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

pub fn make_directory(directory: &Path) -> Result<(), Error> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|e| Error::io("make the directory", directory, &e))
}

pub fn path(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

fn pair(directory: &Path, stem: &str) -> (PathBuf, PathBuf) {
    (
        directory.join(format!("{stem}.crt")),
        directory.join(format!("{stem}.key")),
    )
}

/// None: neither is there. One without the other is an error.
pub fn read(directory: &Path, stem: &str) -> Result<Option<Pair>, Error> {
    let (cert_file, key_file) = pair(directory, stem);
    match (cert_file.exists(), key_file.exists()) {
        (false, false) => Ok(None),
        (true, true) => {
            let read = |file: &Path| {
                std::fs::read_to_string(file).map_err(|e| Error::io("read", file, &e))
            };
            Ok(Some(Pair {
                certificate: read(&cert_file)?,
                key: read(&key_file)?,
            }))
        }
        (has_certificate, _) => {
            let (there, missing) = match has_certificate {
                true => (cert_file, key_file),
                false => (key_file, cert_file),
            };
            Err(Error::refused(format!(
                "{} is there, but not {}",
                there.display(),
                missing.display()
            ))
            .hint("Put it there, or use another --directory, with an authority of its own."))
        }
    }
}

pub fn check_free(directory: &Path, stem: &str) -> Result<(), Error> {
    let (cert_file, key_file) = pair(directory, stem);
    for file in [cert_file, key_file] {
        if file.exists() {
            return Err(taken(&file));
        }
    }
    Ok(())
}

fn taken(file: &Path) -> Error {
    Error::conflict(format!("{} exists already", file.display()))
        .hint("Give --renew to make it anew.")
}

/// Never over anything; the key first, so that no certificate is without one.
pub fn put_new(directory: &Path, stem: &str, pair_: &Pair) -> Result<(), Error> {
    let (cert_file, key_file) = pair(directory, stem);
    write_new(&key_file, &pair_.key, 0o600)?;
    write_new(&cert_file, &pair_.certificate, 0o644)
}

/// In the place of what is there, each file at once; answers the two.
pub fn put(directory: &Path, stem: &str, new: &Pair) -> Result<(String, String), Error> {
    let (cert_file, key_file) = pair(directory, stem);
    for (file, text, mode) in [
        (&key_file, &new.key, 0o600),
        (&cert_file, &new.certificate, 0o644),
    ] {
        let beside = file.with_extension("new");
        // Left by somebody who was cut off.
        match std::fs::remove_file(&beside) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &beside, &e));
            }
            _ => {}
        }
        write_new(&beside, text, mode)?;
        std::fs::rename(&beside, file).map_err(|e| Error::io("put in place", file, &e))?;
    }
    Ok((
        cert_file.display().to_string(),
        key_file.display().to_string(),
    ))
}

fn write_new(file: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(file);
    let mut out = opened.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => taken(file),
        _ => Error::io("create", file, &e),
    })?;
    out.write_all(text.as_bytes())
        .and_then(|()| out.sync_all())
        .map_err(|e| Error::io("write", file, &e))
}
