//! What `deploy/` holds is parsed by the programs that it is for, so it cannot rot.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use seawall_tests::harness::{binary::binary, ctl::run_command};

fn deploy() -> Result<PathBuf> {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    Ok(tests.parent().context("no project")?.join("deploy"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_configurations_are_taken_by_their_programs() -> Result<()> {
    for (program, file, key) in [
        ("seawall-coordinator", "coordinator.toml", "data_dir = "),
        ("seawall-agent", "agent.toml", "engine.data_dir = "),
    ] {
        let mut command = Command::new(binary(program)?);
        command
            .arg("--config")
            .arg(deploy()?.join(file))
            .arg("--print-config");
        let output = run_command(command, Duration::from_secs(20)).await?;
        let printed = output.clone().done()?;
        anyhow::ensure!(printed.contains(key), "no {key:?} in: {output}");
    }
    Ok(())
}
