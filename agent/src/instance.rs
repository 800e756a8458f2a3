//! The state directory: one for each agent, held by a lock while the agent lives.
//!
//! The instance id is made once and kept there. Together with the lock it is what makes two agents
//! under one alias tell apart: a copy of the configuration on another machine is another instance.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};
use seawall_common::{Error, Result, repository::WriterKey};
use uuid::Uuid;

use crate::{
    journal::{self, Journal},
    writer,
};

const INSTANCE: &str = "instance";
const LOCK: &str = "lock";

/// Proof that this process owns its state directory.
#[derive(Debug)]
pub struct Instance {
    pub id: Uuid,
    pub journal: Journal,
    pub writer_key: WriterKey,
    _lock: Flock<File>,
}

impl Instance {
    /// Takes the state directory, making it first where there is none.
    pub fn take(directory: &Path) -> Result<Self> {
        let failed = |e: &std::io::Error| Error::io("write the state directory", directory, e);
        std::fs::create_dir_all(directory).map_err(|e| failed(&e))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(LOCK))
            .map_err(|e| failed(&e))?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    nix::errno::Errno::EWOULDBLOCK => Error::refused(format!(
                        "state directory {} is in use by another process",
                        directory.display()
                    ))
                    .hint("Each agent needs a state_dir of its own."),
                    other => failed(&std::io::Error::from(other)),
                },
            )?;
        let path = directory.join(INSTANCE);
        let (id, journal) = if path.exists() {
            (read_id(&path)?, Journal::open(directory)?)
        } else {
            // The journal first: an instance id without a journal means that the journal is lost.
            let journal = if Journal::is_in(directory) {
                Journal::open(directory)?
            } else {
                Journal::create(directory)?
            };
            let id = Uuid::new_v4();
            journal::replace_file(&path, format!("{id}\n").as_bytes())?;
            (id, journal)
        };
        Ok(Self {
            id,
            journal,
            writer_key: writer::take_key(directory)?,
            _lock: lock,
        })
    }
}

fn read_id(path: &Path) -> Result<Uuid> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(64).read_to_string(&mut text))
        .map_err(|e| Error::io("read", path, &e))?;
    text.trim()
        .parse()
        .map_err(|_| Error::corrupt(format!("{} holds no instance id", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use seawall_common::ErrorKind;

    #[test]
    fn the_instance_id_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("made/at/first");
        let first = Instance::take(&state).unwrap().id;
        assert_eq!(Instance::take(&state).unwrap().id, first);
    }

    #[test]
    fn a_second_process_on_one_state_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Instance::take(directory.path()).unwrap();
        let error = Instance::take(directory.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.message().contains("in use"), "{error}");
    }

    #[test]
    fn a_state_directory_that_cannot_be_written_is_named_in_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = Instance::take(&file.join("state")).unwrap_err();
        assert!(error.message().contains("file/state"), "{error}");
        assert!(!error.to_string().contains('\n'));
    }

    #[test]
    fn a_journal_that_has_gone_is_not_taken_for_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        drop(Instance::take(directory.path()).unwrap());
        std::fs::remove_file(directory.path().join("journal.json")).unwrap();
        assert!(Instance::take(directory.path()).is_err());
    }
}
