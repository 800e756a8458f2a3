//! etcd, three members on loopback, with its own settings as they come.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use seawall_tests::harness::{
    binary::unpacked_program,
    ports::Port,
    process::Process,
    scratch::Scratch,
    wait::{PATIENCE, wait_for, wait_until},
};
use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use super::{
    channels,
    load::Caller,
    recovery::{Contender, Probe},
};

const VALUE_BYTES: usize = 128;

/// What is used of `etcdserverpb`, as its documentation numbers it.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
    #[prost(uint64, tag = "7")]
    raft_applied_index: u64,
}

pub struct Etcd {
    members: Vec<Member>,
    pub version: String,
    scratch: Scratch,
}

struct Member {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    client: Port,
    _peer: Port,
    directory: PathBuf,
    process: Option<Process>,
}

impl Etcd {
    /// `None`, said aloud: it is not installed.
    pub async fn start() -> Result<Option<Self>> {
        let Some(program) = unpacked_program("etcd-server", "etcd")? else {
            return Ok(None);
        };
        let version = Command::new(&program).arg("--version").output()?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let version = version.lines().next().unwrap_or_default().to_owned();
        let scratch = Scratch::create("bench-etcd")?;
        let mut members = Vec::new();
        let mut ports = Vec::new();
        for _ in 0..3 {
            ports.push((Port::reserve()?, Port::reserve()?));
        }
        let all: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(n, (_, peer))| format!("n{n}={}", peer.url()))
            .collect();
        let all = all.join(",");
        for (n, (client, peer)) in ports.into_iter().enumerate() {
            let directory = scratch.path().join(format!("n{n}"));
            std::fs::create_dir_all(&directory)?;
            members.push(Member::plan(n, &program, directory, (client, peer), &all));
        }
        for member in &mut members {
            member.start()?;
        }
        let etcd = Self {
            members,
            version,
            scratch,
        };
        etcd.wait_whole().await?;
        Ok(Some(etcd))
    }

    async fn status(&self, member: usize) -> Result<StatusResponse> {
        let url = self.members[member].client.url();
        let channel = channels(&url, 1)?.pop().context("no channel")?;
        ask(
            channel,
            "/etcdserverpb.Maintenance/Status",
            StatusRequest {},
        )
        .await
    }

    /// Until all follow one leader, and have applied what it has.
    async fn wait_whole(&self) -> Result<()> {
        wait_until("etcd's members follow one leader", PATIENCE, || async {
            let mut seen = Vec::new();
            for member in 0..self.members.len() {
                let Ok(status) = self.status(member).await else {
                    return Ok(false);
                };
                seen.push((status.leader, status.raft_applied_index));
            }
            Ok(seen.iter().all(|one| *one == seen[0] && one.0 != 0))
        })
        .await
    }

    pub async fn commands(&mut self, callers: usize) -> Result<Vec<Putter>> {
        let leader = self.leader().await?;
        let channels = channels(&self.members[leader].client.url(), callers)?;
        let of = |(number, channel)| Putter {
            channel,
            key: format!("bench/{number}"),
        };
        Ok(channels.into_iter().enumerate().map(of).collect())
    }

    pub fn end(mut self) {
        for member in &mut self.members {
            member.process = None;
        }
        self.scratch.discard();
    }
}

impl Member {
    fn plan(
        number: usize,
        program: &Path,
        directory: PathBuf,
        (client, peer): (Port, Port),
        all: &str,
    ) -> Self {
        let name = format!("n{number}");
        let data = directory.join("data").display().to_string();
        let (client_url, peer_url) = (client.url(), peer.url());
        let arguments = [
            ("--name", name.as_str()),
            ("--data-dir", &data),
            ("--listen-client-urls", &client_url),
            ("--advertise-client-urls", &client_url),
            ("--listen-peer-urls", &peer_url),
            ("--initial-advertise-peer-urls", &peer_url),
            ("--initial-cluster", all),
            ("--initial-cluster-state", "new"),
            ("--initial-cluster-token", "bench"),
        ];
        let arguments = arguments.into_iter();
        let arguments = arguments.flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()]);
        Self {
            program: program.to_owned(),
            arguments: arguments.collect(),
            name,
            client,
            _peer: peer,
            directory,
            process: None,
        }
    }

    fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        let log = self.directory.join("etcd.log");
        self.process = Some(Process::start(&self.name, &mut command, &log)?);
        Ok(())
    }
}

async fn ask<Q, A>(channel: Channel, path: &'static str, question: Q) -> Result<A>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let path = PathAndQuery::from_static(path);
    let codec = ProstCodec::<Q, A>::default();
    let answer = grpc.unary(Request::new(question), path, codec).await?;
    Ok(answer.into_inner())
}

/// Puts one key, again and again.
#[derive(Clone)]
pub struct Putter {
    channel: Channel,
    key: String,
}

impl Putter {
    async fn put(&self) -> Result<()> {
        let request = PutRequest {
            key: self.key.clone().into_bytes(),
            value: vec![b'v'; VALUE_BYTES],
        };
        let path = "/etcdserverpb.KV/Put";
        let answer: PutResponse = ask(self.channel.clone(), path, request).await?;
        ensure!(answer.header.is_some(), "etcd's answer has no header");
        Ok(())
    }
}

impl Caller for Putter {
    async fn call(&mut self) -> Result<()> {
        self.put().await
    }
}

impl Probe for Putter {
    async fn ask(&self) -> Result<()> {
        self.put().await
    }
}

impl Contender for Etcd {
    type Probe = Putter;

    async fn leader(&mut self) -> Result<usize> {
        wait_for("etcd has a leader", PATIENCE, || async {
            for member in 0..self.members.len() {
                let Ok(status) = self.status(member).await else {
                    continue;
                };
                let own = status.header.map(|header| header.member_id);
                if own == Some(status.leader) {
                    return Ok(Some(member));
                }
            }
            Ok(None)
        })
        .await
    }

    async fn probes(&self, without: usize) -> Result<Vec<Putter>> {
        let others = self.members.iter().enumerate();
        let others = others.filter(|(index, _)| *index != without);
        others
            .map(|(_, member)| {
                let url = member.client.url();
                let channel = channels(&url, 1)?.pop().context("no channel")?;
                let key = "probe".to_owned();
                Ok(Putter { channel, key })
            })
            .collect()
    }

    fn kill(&mut self, member: usize) -> Result<()> {
        let process = self.members[member].process.take();
        process.context("that member does not run")?.kill()
    }

    async fn bring_back(&mut self, member: usize) -> Result<()> {
        self.members[member].start()?;
        self.wait_whole().await
    }
}
