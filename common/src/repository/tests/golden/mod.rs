//! The small repositories in `tests/golden/format-2`: every later version restores them, byte by
//! byte. And so does a reader that was written from `FORMAT.md` alone, and shares nothing with this.

mod make;
mod reader;
mod restored;
mod tree;

use std::fs;

use super::*;

/// Of every file there, by its path and bytes: a golden repository is never made anew.
const FROZEN: &str = "0c1d64dfda6ce02905f249d23e1bf6b74daaff8ffcb193a6be3f0cb086a2b0bd";
const PASSPHRASE: &str = "long ago and far away";
/// Of the identity that lies in the repository, locked.
const LOCKED: &str = "golden";
const KINDS: [&str; 2] = ["encrypted", "plain"];
/// Files with private keys, one of each kind that a recipient may have.
const IDENTITIES: [&str; 3] = ["x25519", "ssh-ed25519", "ssh-rsa"];
/// The second was given up; the third has taken over from it, and refers to the first.
const BACKUPS: [u32; 2] = [1, 3];
const GIVEN_UP: u32 = 2;

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn repository_at(kind: &str) -> PathBuf {
    place().join("format-2").join(kind)
}

fn identity_file(kind: &str) -> PathBuf {
    place().join("format-2/identities").join(kind)
}

/// Whether the manifest of a backup is signed: one of them is not.
fn is_signed(kind: &str, backup: u32) -> bool {
    (kind, backup) != ("plain", 1)
}

fn writer_key() -> String {
    let text = fs::read_to_string(place().join("format-2/writer")).unwrap();
    text.trim().to_owned()
}

/// Every file of the golden repositories, hashed with its path.
fn hash() -> String {
    let root = place().join("format-2");
    let mut files = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        hasher.update(path.as_bytes());
        hasher.update(blake3::hash(&fs::read(&file).unwrap()).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Without keys and without pins.
fn config(kind: &str) -> RepositoryConfig {
    let path = repository_at(kind).canonicalize().unwrap();
    RepositoryConfig::at(format!("file://{}", path.display()))
}
