//! What a process has used so far, as the kernel counts it.

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result};

/// The kernel's unit of a process's time in `/proc/PID/stat`: 1/100 s on Linux, whatever the machine.
const TICKS_PER_SECOND: u64 = 100;

#[derive(Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    pub memory_mib: u64,
    pub peak_mib: u64,
}

impl Usage {
    pub fn of(process: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The program's name, which may have anything in it, stands in brackets.
        let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || -> Result<u64> { Ok(fields.next().context("no times")?.parse()?) };
        let (user, system) = (ticks()?, ticks()?);
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let mib = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.split_whitespace().next());
            Ok(kib
                .context("no memory in /proc/PID/status")?
                .parse::<u64>()?
                >> 10)
        };
        Ok(Self {
            cpu: Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND),
            memory_mib: mib("VmRSS:")?,
            peak_mib: mib("VmHWM:")?,
        })
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MiB (at most {}), {:.1} s of processor",
            self.memory_mib,
            self.peak_mib,
            self.cpu.as_secs_f64()
        )
    }
}
