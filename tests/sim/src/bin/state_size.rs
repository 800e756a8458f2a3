//! How large a coordinator's state is with so many shards and backups of each, and what it costs to
//! make a snapshot of it: `state-size 1000 365`. `make bench` runs it.

use std::time::Instant;

use anyhow::{Context as _, Result};
use seawall_coordinator::sizes::Fleet;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let mut next = || arguments.next().context("usage: state-size SHARDS BACKUPS");
    let (shards, backups) = (next()??, next()??);
    let before = resident_bytes()?;
    let fleet = Fleet::new(shards, backups)?;
    let state = resident_bytes()?.saturating_sub(before);

    let began = Instant::now();
    let copy = fleet.clone();
    let copied = began.elapsed();
    drop(copy);
    let began = Instant::now();
    let snapshot = fleet.snapshot()?;
    let written = began.elapsed();
    let began = Instant::now();
    let read = Fleet::of_snapshot(&snapshot)?;
    let taken = began.elapsed();
    drop(read);

    println!(
        "| {shards} shards, {backups} backups of each | |\n|---|---:|\n\
         | state in memory | {} MiB |\n| snapshot | {} MiB |\n\
         | state copied for a snapshot, nothing is applied meanwhile | {} ms |\n\
         | snapshot written to memory | {} ms |\n| snapshot read | {} ms |",
        state >> 20,
        snapshot.len() >> 20,
        copied.as_millis(),
        written.as_millis(),
        taken.as_millis()
    );
    Ok(())
}

fn resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.context("no VmRSS in /proc/self/status")? << 10)
}
