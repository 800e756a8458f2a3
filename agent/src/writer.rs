//! The key with which this agent signs what it writes: made once, kept in the state directory for its
//! owner alone, published through the coordinator.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use seawall_common::{Error, Result, repository::WriterKey};
use zeroize::Zeroizing;

const NAME: &str = "writer.key";
const BYTES_MAX: u64 = 4 << 10;

/// The key in a state directory, made first where there is none. Only for who holds its lock.
pub fn take_key(directory: &Path) -> Result<WriterKey> {
    let path = directory.join(NAME);
    match File::open(&path) {
        Ok(file) => read(file, &path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = WriterKey::generate()?;
            write(directory, &path, key.encode().as_bytes())
                .map_err(|e| Error::io("write", &path, &e))?;
            Ok(key)
        }
        Err(e) => Err(Error::io("read", &path, &e)),
    }
}

fn read(file: File, path: &Path) -> Result<WriterKey> {
    let mut text = Zeroizing::new(String::new());
    file.take(BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|e| Error::io("read", path, &e))?;
    WriterKey::decode(&text).map_err(|e| {
        e.context(format_args!("writer key {} is damaged", path.display()))
            .hint("Move it away for a new key to be made, and add that one wherever repository.trusted_writers is set.")
    })
}

/// Never readable by others, not for a moment; after a crash there in full, or not at all.
fn write(directory: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use seawall_common::ErrorKind;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_writers_key_is_made_once_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        // What a crash may have left.
        std::fs::write(directory.path().join("writer.new"), b"half").unwrap();
        let key = take_key(directory.path()).unwrap().public();
        assert_eq!(take_key(directory.path()).unwrap().public(), key);
        let mode = std::fs::metadata(directory.path().join(NAME)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(take_key(other.path()).unwrap().public(), key);
    }

    #[test]
    fn a_damaged_writers_key_is_not_replaced_in_silence() {
        let directory = tempfile::tempdir().unwrap();
        take_key(directory.path()).unwrap();
        let path = directory.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        for damaged in ["", "seawall writer key\n", &text[..text.len() - 3]] {
            std::fs::write(&path, damaged).unwrap();
            let error = take_key(directory.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.message().contains("writer.key"), "{error}");
        }
    }
}
