//! Ports that no two tests share.
//!
//! A port is ours while we hold the lock on a file named after it: so tests in other processes
//! keep away from it, and it comes free when this process ends, however it ends. They lie below
//! the range from which the kernel takes ports for outgoing connections.

use std::{
    fs::{File, OpenOptions},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use rand::RngExt as _;

const RANGE: std::ops::Range<u16> = 20_000..32_000;
const TRIES_MAX: usize = 500;

/// One port, ours until dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: Flock<File>,
}

impl Port {
    pub fn reserve() -> Result<Self> {
        let directory = lock_directory()?;
        for _ in 0..TRIES_MAX {
            let number = rand::rng().random_range(RANGE);
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(directory.join(number.to_string()))
                .context("cannot open the lock file of a port")?;
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
            }
        }
        bail!("found no free port in {RANGE:?}")
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:<port>`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

fn lock_directory() -> Result<PathBuf> {
    let user = nix::unistd::getuid();
    let directory = std::env::temp_dir().join(format!("seawall-ports-{user}"));
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve().unwrap()).collect();
        let numbers: BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
    }
}
