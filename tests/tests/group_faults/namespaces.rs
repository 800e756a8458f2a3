//! A network of its own for a group: a namespace for each member and a hub that joins them, in which
//! the clients are. Links are cut with packet filters, each direction by itself.
//!
//! Only root can make it, and not on every machine: [`Namespaces::make`] answers nothing then, and
//! says so aloud.

use std::{io::Write as _, process::Command};

use anyhow::{Context as _, Result, ensure};

pub struct Namespaces {
    prefix: String,
    members: Vec<u64>,
}

fn run(program: &str, words: &str) -> Result<()> {
    let output = Command::new(program)
        .args(words.split_whitespace())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {words}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

pub fn address(member: u64) -> String {
    format!("10.77.0.{member}")
}

impl Namespaces {
    pub fn make(members: &[u64]) -> Result<Option<Self>> {
        let made = Self {
            prefix: format!("sw{}", std::process::id()),
            members: members.to_vec(),
        };
        match made.build() {
            Ok(()) => Ok(Some(made)),
            Err(why) => {
                eprintln!("SKIPPED: no network namespaces can be made here: {why:#}");
                // Shown also where the output of tests that pass is not.
                let _ = writeln!(std::io::stderr().lock(), "SKIPPED: this test shows nothing");
                Ok(None)
            }
        }
    }

    fn build(&self) -> Result<()> {
        let hub = self.hub();
        run("ip", &format!("netns add {hub}"))?;
        run("ip", &format!("-n {hub} link set lo up"))?;
        run("ip", &format!("-n {hub} link add bridge type bridge"))?;
        run(
            "ip",
            &format!("-n {hub} addr add 10.77.0.100/24 dev bridge"),
        )?;
        run("ip", &format!("-n {hub} link set bridge up"))?;
        for member in &self.members {
            let (name, address) = (self.name(*member), address(*member));
            run("ip", &format!("netns add {name}"))?;
            run("ip", &format!("-n {name} link set lo up"))?;
            run(
                "ip",
                &format!("-n {hub} link add port{member} type veth peer name eth0 netns {name}"),
            )?;
            run(
                "ip",
                &format!("-n {hub} link set port{member} master bridge up"),
            )?;
            run("ip", &format!("-n {name} addr add {address}/24 dev eth0"))?;
            run("ip", &format!("-n {name} link set eth0 up"))?;
            self.filter(*member, "-F INPUT")?;
        }
        Ok(())
    }

    pub fn name(&self, member: u64) -> String {
        format!("{}-{member}", self.prefix)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    /// This thread is in the hub from now on: what it opens can reach all members.
    pub fn enter_hub(&self) -> Result<()> {
        let hub = std::fs::File::open(format!("/run/netns/{}", self.hub()))?;
        Ok(nix::sched::setns(
            hub,
            nix::sched::CloneFlags::CLONE_NEWNET,
        )?)
    }

    fn filter(&self, member: u64, rule: &str) -> Result<()> {
        run(
            "ip",
            &format!("netns exec {} iptables -w {rule}", self.name(member)),
        )
    }

    /// What `from` sends does not come to `to`.
    pub fn cut(&self, from: u64, to: u64) -> Result<()> {
        self.filter(to, &format!("-A INPUT -s {} -j DROP", address(from)))
    }

    pub fn cut_both(&self, one: u64, other: u64) -> Result<()> {
        self.cut(one, other)?;
        self.cut(other, one)
    }

    pub fn heal(&self) -> Result<()> {
        self.members
            .iter()
            .try_for_each(|member| self.filter(*member, "-F INPUT"))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let members = self.members.iter().map(|member| self.name(*member));
        for name in members.chain([self.hub()]) {
            if std::path::Path::new("/run/netns").join(&name).exists()
                && let Err(error) = run("ip", &format!("netns del {name}"))
            {
                eprintln!("{error:#}");
            }
        }
    }
}
