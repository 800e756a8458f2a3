//! What comes in over gRPC and is no sensible request: bytes that are no message, missing and
//! oversized fields, values that no enumeration has, numbers beyond all bounds. It is refused with
//! the code that says whose mistake it is, and nothing is applied.

use anyhow::{Result, ensure};
use futures::{StreamExt as _, stream};
use prost::{
    Message,
    bytes::{Buf, BufMut as _, Bytes},
};
use seawall_common::access::{Lasts, METHODS, Record};
use seawall_proto::v1;
use seawall_tests::harness::{Cluster, ClusterPlan};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

/// Sends and takes messages as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn call(channel: &Channel, method: &str, message: Vec<u8>) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel.clone());
    let ready = client.ready().await;
    ready.map_err(|e| Status::unavailable(e.to_string()))?;
    let path = format!("/seawall.v1.{method}").parse();
    let path = path.map_err(|_| Status::internal("no path"))?;
    let request = Request::new(Bytes::from(message));
    Ok(client.unary(request, path, Raw).await?.into_inner())
}

/// Everything that a caller can see, as it comes over the wire.
async fn everything(channel: &Channel) -> Result<Vec<Bytes>> {
    let all = v1::ListOperationsRequest { all: true };
    let history = v1::GetHistoryRequest {
        shard: Some(shard()),
    };
    let mut seen = Vec::new();
    for (method, message) in [
        ("Topology/ListTablets", Vec::new()),
        ("Locks/List", Vec::new()),
        ("Operations/List", all.encode_to_vec()),
        ("Retention/GetRetention", Vec::new()),
        ("Topology/GetHistory", history.encode_to_vec()),
    ] {
        seen.push(call(channel, method, message).await?);
    }
    Ok(seen)
}

fn shard() -> v1::ShardRef {
    v1::ShardRef {
        keyspace: "commerce".to_owned(),
        shard: "0".to_owned(),
    }
}

async fn with_one_tablet(name: &str) -> Result<(Cluster, Channel)> {
    let cluster = ClusterPlan::new(name).start().await?;
    cluster.init_tablet("zone1-101").await?;
    let channel = cluster.channel().await?;
    Ok((cluster, channel))
}

/// Codes that say that the request is at fault, or that what it names is not there.
const CALLERS_FAULT: [Code; 3] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::FailedPrecondition,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_message_and_messages_without_a_field_change_nothing() -> Result<()> {
    let (cluster, channel) = with_one_tablet("border-bytes").await?;
    let before = everything(&channel).await?;
    let is_coordinators = |name: &str| !name.starts_with("Agent/") && !name.starts_with("Raft/");
    let mut tried = 0;
    for method in METHODS.iter().filter(|method| is_coordinators(method.name)) {
        if method.lasts != Lasts::ACall {
            continue;
        }
        // A field that never ends, a length beyond the end, a group that nobody has opened.
        for junk in [
            vec![0xff; 16],
            vec![0x0a, 0xff, 0xff, 0x03, b'x'],
            vec![0x0c],
        ] {
            let refusal = call(&channel, method.name, junk).await;
            let takes_anything = method.name == "Retention/ResumeRetention";
            match refusal {
                Err(refusal) => {
                    let code = refusal.code();
                    ensure!(code == Code::InvalidArgument, "{}: {refusal}", method.name);
                }
                Ok(_) => ensure!(takes_anything, "{} took junk", method.name),
            }
            tried += 1;
        }
        let needs_nothing = [
            "Members/Backup",
            "Retention/ResumeRetention",
            "Timestamps/FastForward",
        ];
        if matches!(method.record, Record::Changes(_)) && !needs_nothing.contains(&method.name) {
            let refusal = call(&channel, method.name, Vec::new()).await;
            let code = refusal.as_ref().err().map(Status::code);
            let is_right = code.is_some_and(|code| CALLERS_FAULT.contains(&code));
            ensure!(is_right, "{} without a field: {refusal:?}", method.name);
        }
    }
    ensure!(tried > 60, "only {tried} tries");
    ensure!(everything(&channel).await? == before);
    cluster.finish().await
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field with a number, as far as it may go, and further than its type holds.
fn number(field: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(field << 3)), varint(value)].concat()
}

fn text(field: u32, value: &str) -> Vec<u8> {
    let length = varint(value.len() as u64);
    [varint(u64::from(field << 3 | 2)), length, value.into()].concat()
}

/// A field that holds a message.
fn inner(field: u32, message: &[u8]) -> Vec<u8> {
    let length = varint(message.len() as u64);
    [varint(u64::from(field << 3 | 2)), length, message.to_vec()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_beyond_all_bounds_are_refused_and_change_nothing() -> Result<()> {
    let (cluster, channel) = with_one_tablet("border-values").await?;
    let before = everything(&channel).await?;
    let minus_one = u64::MAX;
    let id = text(1, "01939a3c-6c5e-7d4e-8f00-000000000001");
    let commerce = [text(1, "commerce"), text(2, "0")].concat();
    let long = "x".repeat(1_000_000);
    let backup = |fields: &[u8]| {
        let spec = inner(1, &[text(1, "zone1-101"), fields.to_vec()].concat());
        [id.clone(), inner(2, &spec)].concat()
    };
    let invalid = Code::InvalidArgument;
    for (what, method, message, code) in [
        (
            "a count of -1",
            "Timestamps/Fetch",
            number(1, minus_one),
            invalid,
        ),
        (
            "a count beyond a range",
            "Timestamps/Fetch",
            number(1, 1_000_001),
            invalid,
        ),
        (
            "the highest timestamp",
            "Timestamps/FastForward",
            number(1, u64::MAX),
            invalid,
        ),
        (
            "a type that there is not",
            "Topology/ChangeTabletType",
            [text(1, "zone1-101"), number(2, 99)].concat(),
            invalid,
        ),
        (
            "a negative type",
            "Topology/InitTablet",
            [
                text(1, "zone1-102"),
                inner(2, &commerce),
                number(3, minus_one),
            ]
            .concat(),
            invalid,
        ),
        (
            "a type instead of a text",
            "Topology/RemoveTablet",
            number(1, 1),
            invalid,
        ),
        (
            "an alias of a megabyte",
            "Topology/RemoveTablet",
            text(1, &long),
            invalid,
        ),
        (
            "a keyspace of a megabyte",
            "Topology/InitTablet",
            [
                text(1, "zone1-102"),
                inner(2, &[text(1, &long), text(2, "0")].concat()),
            ]
            .concat(),
            invalid,
        ),
        (
            "a name that is no UTF-8",
            "Topology/RemoveTablet",
            inner(1, &[0xc3, 0x28]),
            invalid,
        ),
        (
            "a reason of a megabyte",
            "Locks/Acquire",
            [id.clone(), text(3, "me"), text(4, &long)].concat(),
            invalid,
        ),
        (
            "a hold for ever",
            "Locks/Acquire",
            [
                id.clone(),
                text(3, "me"),
                text(4, "why"),
                number(5, u64::MAX),
            ]
            .concat(),
            invalid,
        ),
        (
            "an operation of no kind",
            "Operations/Start",
            [id.clone(), inner(2, &[])].concat(),
            invalid,
        ),
        (
            "an operation of a kind to come",
            "Operations/Start",
            [id.clone(), inner(2, &inner(999, &[]))].concat(),
            invalid,
        ),
        (
            "a concurrency of -1",
            "Operations/Start",
            backup(&number(2, minus_one)),
            invalid,
        ),
        (
            "an operation without end",
            "Operations/Start",
            [backup(&[]), number(3, u64::MAX)].concat(),
            invalid,
        ),
        (
            "the id of another world",
            "Operations/Cancel",
            text(1, "../../etc/passwd"),
            invalid,
        ),
        (
            "a backup that there is not, for ever",
            "Catalogue/PinBackup",
            [
                inner(1, &commerce),
                text(2, "2026-11-26.000000.zone1-101"),
                number(3, u64::MAX),
            ]
            .concat(),
            invalid,
        ),
        (
            "a backup that there is not",
            "Catalogue/UnpinBackup",
            [inner(1, &commerce), text(2, "2026-11-26.000000.zone1-101")].concat(),
            Code::NotFound,
        ),
        (
            "more than one message may hold",
            "Topology/RemoveTablet",
            text(1, &"x".repeat(5_000_000)),
            Code::ResourceExhausted,
        ),
        (
            "the same in a call that reads",
            "Topology/ListTablets",
            text(1, &"x".repeat(5_000_000)),
            Code::ResourceExhausted,
        ),
        (
            "a call that there is not",
            "Topology/Explode",
            Vec::new(),
            Code::Unimplemented,
        ),
    ] {
        let Err(refusal) = call(&channel, method, message).await else {
            anyhow::bail!("{what} ({method}) was taken");
        };
        ensure!(refusal.code() == code, "{what} ({method}): {refusal:?}");
        let said = refusal.message();
        ensure!(said.len() < 2100, "{what}: {} characters", said.len());
        ensure!(!said.contains('\n'), "{what}: {said}");
    }
    ensure!(everything(&channel).await? == before);
    let fetched = call(&channel, "Timestamps/Fetch", number(1, 1)).await?;
    let fetched = v1::FetchTimestampResponse::decode(fetched)?;
    ensure!(fetched.first < 1_000_000, "{fetched:?}");
    cluster.finish().await
}

/// Sends these messages in a stream that stays open; the first answer, or why there is none.
async fn talk(channel: &Channel, method: &str, messages: Vec<Vec<u8>>) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel.clone());
    let ready = client.ready().await;
    ready.map_err(|e| Status::unavailable(e.to_string()))?;
    let path = format!("/seawall.v1.{method}").parse();
    let path = path.map_err(|_| Status::internal("no path"))?;
    let messages = stream::iter(messages.into_iter().map(Bytes::from)).chain(stream::pending());
    let answers = client.streaming(Request::new(messages), path, Raw).await?;
    let first = answers.into_inner().message().await?;
    first.ok_or_else(|| Status::ok("the stream ended"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_or_a_watch_that_makes_no_sense_is_refused_and_nothing_is_heard() -> Result<()> {
    let (cluster, channel) = with_one_tablet("border-streams").await?;
    let register = v1::RegisterRequest {
        alias: "zone1-101".to_owned(),
        shard: Some(shard()),
        instance: "one".to_owned(),
        agent_address: "http://127.0.0.1:1".to_owned(),
        engine: "mariadb".to_owned(),
        ..v1::RegisterRequest::default()
    };
    call(&channel, "Agents/Register", register.encode_to_vec()).await?;
    let begins =
        |alias: &str, instance: &str| inner(1, &[text(1, alias), text(2, instance)].concat());
    let good = || begins("zone1-101", "one");
    let beats = |status: &[u8]| inner(2, &inner(1, status));
    let invalid = Code::InvalidArgument;
    for (what, messages, code) in [
        ("bytes that are no message", vec![vec![0xff; 16]], invalid),
        ("no field", vec![Vec::new()], invalid),
        ("a message of a kind to come", vec![inner(99, &[])], invalid),
        ("a heartbeat first", vec![beats(&[])], invalid),
        ("no alias", vec![begins("", "one")], invalid),
        (
            "an alias of 60 KiB",
            vec![begins(&"x".repeat(60_000), "one")],
            invalid,
        ),
        (
            "another instance",
            vec![begins("zone1-101", "two")],
            Code::AlreadyExists,
        ),
        (
            "no such tablet",
            vec![begins("zone1-999", "one")],
            Code::NotFound,
        ),
        ("two beginnings", vec![good(), good()], invalid),
        (
            "a heartbeat of nothing",
            vec![good(), inner(2, &[])],
            invalid,
        ),
        (
            "junk behind the beginning",
            vec![good(), vec![0x0a, 0xff]],
            invalid,
        ),
        (
            "65 holds",
            vec![
                good(),
                inner(2, &[inner(1, &[]), inner(2, &[]).repeat(65)].concat()),
            ],
            invalid,
        ),
        (
            "more than a message may hold",
            vec![good(), beats(&text(7, &"x".repeat(70_000)))],
            Code::ResourceExhausted,
        ),
    ] {
        let said = talk(&channel, "Agents/Session", messages).await;
        let Err(refusal) = said else {
            anyhow::bail!("{what} was answered");
        };
        ensure!(refusal.code() == code, "{what}: {refusal:?}");
        ensure!(refusal.message().len() < 2100, "{what}: {refusal:?}");
    }
    let page = |token: &str, size: u64| [number(3, size), text(4, token)].concat();
    for message in [
        page("zone1", 0),
        page("../..", 5),
        page(&"x".repeat(9000), 1),
    ] {
        let refusal = call(&channel, "Topology/ListTablets", message).await;
        ensure!(refusal.is_err_and(|status| status.code() == invalid));
    }
    // However many are asked for.
    call(
        &channel,
        "Topology/ListTablets",
        page("", u64::from(u32::MAX)),
    )
    .await?;
    // Before a watch goes on, it is checked.
    let refusal = call(&channel, "Topology/WatchServing", text(2, "0")).await;
    ensure!(
        refusal.is_err_and(|status| status.code() == invalid),
        "a shard of no keyspace"
    );

    let listed = call(&channel, "Topology/ListTablets", Vec::new()).await?;
    let listed = v1::ListTabletsResponse::decode(listed)?;
    ensure!(listed.tablets.len() == 1);
    ensure!(!listed.tablets[0].serving, "{listed:?}");
    cluster.finish().await
}
