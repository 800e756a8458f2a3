//! What the measurements came to, as a table to be pasted into a note.

use std::{collections::BTreeSet, process::Command};

use anyhow::Result;
use seawall_tests::harness::binary::system_program;

use super::contender::{Contender, TASKS};

/// MB/s of the files' bytes in each task, with the ratio to the first contender that has it.
pub fn print(store: &str, logical_bytes: u64, contenders: &[&Contender]) {
    let rounds = contenders.first().map_or(0, |c| c.rounds());
    println!(
        "\n{store}: {} MiB of files; medians of {rounds} rounds; MB/s of the files' bytes, and Seawall's multiple of it\n",
        logical_bytes >> 20
    );
    let header: Vec<&str> = TASKS.iter().map(|(_, name)| *name).collect();
    println!("| | {} |", header.join(" | "));
    println!("|---{}|", "|---".repeat(TASKS.len()));
    let rate = |contender: &Contender, task| {
        contender
            .median(task)
            .map(|seconds| logical_bytes as f64 / 1e6 / seconds)
    };
    for contender in contenders {
        let cells = TASKS.map(|(task, _)| {
            let Some(own) = rate(contender, task) else {
                return "-".to_owned();
            };
            let times = contenders
                .first()
                .and_then(|seawall| rate(seawall, task))
                .map_or_else(String::new, |seawall| format!(" ({:.2})", seawall / own));
            format!("{own:.0}{times}")
        });
        println!("| {} | {} |", contender.name, cells.join(" | "));
    }
    for contender in contenders {
        let stored = TASKS.iter().filter_map(|(task, name)| {
            let mib = contender.bytes(*task)? as f64 / f64::from(1 << 20);
            Some(format!("{name} {mib:.1}"))
        });
        let stored: Vec<String> = stored.collect();
        if !stored.is_empty() {
            println!(
                "MiB stored or fetched by {}: {}",
                contender.name,
                stored.join(", ")
            );
        }
    }
    if let Some(first) = contenders.first() {
        print_stages(first);
    }
}

/// Where the first contender's time goes: seconds of all its threads and requests together.
fn print_stages(contender: &Contender) {
    let names: BTreeSet<String> = TASKS
        .iter()
        .flat_map(|(task, _)| contender.stages(*task).into_keys())
        .collect();
    let header: Vec<&str> = TASKS.iter().map(|(_, name)| *name).collect();
    println!("\nSeconds of a round, all threads and requests of the agent together:\n");
    println!("| stage | {} |", header.join(" | "));
    println!("|---{}|", "|---".repeat(TASKS.len()));
    for name in names {
        let cells = TASKS.map(|(task, _)| {
            let seconds = contender.stages(task).get(&name).copied();
            seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}"))
        });
        println!("| {name} | {} |", cells.join(" | "));
    }
    let cells = TASKS.map(|(task, _)| format!("{:.2}", contender.mean(task)));
    println!("| *by the clock* | {} |", cells.join(" | "));
}

pub fn versions() -> Result<String> {
    let mut lines = Vec::new();
    for (program, argument) in [
        ("mariadbd", "--version"),
        ("mariabackup", "--version"),
        ("tar", "--version"),
        ("zstd", "--version"),
        ("age", "--version"),
        ("restic", "version"),
        ("rclone", "version"),
    ] {
        let output = Command::new(system_program(program)?)
            .arg(argument)
            .output()?;
        let all = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&all).into_owned();
        let first = text.lines().next().unwrap_or_default().trim().to_owned();
        lines.push(if first.contains(program) {
            first
        } else {
            format!("{program} {first}")
        });
    }
    Ok(lines.join("; "))
}
