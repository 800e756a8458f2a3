//! Agents that talk through followers, and whoever watches what serves, while leaders come and go.

use std::time::Duration;

use seawall_common::{
    coordinators::{Coordinators, Session},
    serving::{ServingWatch, Tablets},
    tls::{Dialer, Tls},
};
use seawall_proto::v1::{
    BeginSession, Heartbeat, HeartbeatAnswer, RegisterRequest, ServingTablet, ShardRef,
    TabletStatus, TabletType, agents_client::AgentsClient,
};
use tokio::time::{sleep, timeout};
use tonic::{Status, transport::Channel};

use super::harness::{Group, Member, PATIENCE, eventually};

const BEAT: Duration = Duration::from_millis(300);

async fn register(channel: Channel, alias: &str) -> Result<(), Status> {
    let request = RegisterRequest {
        alias: alias.to_owned(),
        shard: Some(ShardRef {
            keyspace: "commerce".into(),
            shard: "0".into(),
        }),
        instance: format!("instance of {alias}"),
        agent_address: format!("http://{alias}:7611"),
        engine: "mariadb".into(),
        ..RegisterRequest::default()
    };
    AgentsClient::new(channel).register(request).await.map(drop)
}

async fn begin(channel: Channel, alias: &str) -> Result<Session, Status> {
    let begin = BeginSession {
        alias: alias.to_owned(),
        instance: format!("instance of {alias}"),
    };
    Ok(Session::begin(channel, begin).await?.into_inner())
}

fn beat() -> Heartbeat {
    Heartbeat {
        status: Some(TabletStatus {
            database_running: true,
            serving: true,
            caught_up: true,
            ..TabletStatus::default()
        }),
        holds: Vec::new(),
    }
}

/// Says each moment that it serves, to this member alone; begins anew when a session breaks off.
async fn be_heard(channel: Channel, alias: String) {
    loop {
        if let Ok(mut session) = begin(channel.clone(), &alias).await {
            while session.heartbeat(beat()).await.is_ok() {
                sleep(BEAT).await;
            }
        }
        sleep(BEAT).await;
    }
}

fn coordinators(members: &[&Member]) -> Coordinators {
    let addresses: Vec<String> = members.iter().map(|m| m.address.clone()).collect();
    Coordinators::new(&addresses, &Dialer::new(Tls::off().unwrap())).unwrap()
}

async fn until_served(watch: &mut ServingWatch<'_>, aliases: &[String]) -> Tablets {
    let served = async {
        loop {
            let tablets = watch.changed().await.unwrap();
            let mut types = tablets.values().map(ServingTablet::r#type);
            // When the first one has caught up, the log has it.
            let is_settled = types.all(|of| of == TabletType::Replica);
            if tablets.keys().eq(aliases) && is_settled {
                return tablets.clone();
            }
        }
    };
    timeout(PATIENCE, served).await.unwrap()
}

#[tokio::test]
async fn sessions_and_watches_through_followers_go_on_under_the_next_leader() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let (stays, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let aliases = ["zone1-101".to_owned(), "zone1-102".to_owned()];
    let mut talking = Vec::new();
    for alias in &aliases {
        let channel = group.members[stays].channel();
        register(channel.clone(), alias).await.unwrap();
        talking.push(tokio::spawn(be_heard(channel, alias.clone())));
    }
    let members = coordinators(&[&group.members[other], &group.members[stays]]);
    let mut watch = ServingWatch::new(&members, "commerce", "0");
    let before = until_served(&mut watch, &aliases).await;

    // Heartbeats that say nothing new are not in the log.
    let applied = |status: Option<_>| {
        let status: seawall_proto::v1::ClusterStatusResponse = status.unwrap();
        status.last_applied
    };
    let first = applied(group.members[leader].status().await);
    sleep(10 * BEAT).await;
    let grown = applied(group.members[leader].status().await) - first;
    // The group notes something by itself now and then; there were twenty heartbeats.
    assert!(grown <= 2, "{grown} entries");

    group.members[leader].kill();
    let next = group.leader().await;
    assert_ne!(next, leader);
    let now = ServingWatch::new(&members, "commerce", "0")
        .changed()
        .await
        .unwrap()
        .clone();
    assert_eq!(now, before);
    // And the watch that was there all the time goes on: it hears of one that falls silent.
    talking[1].abort();
    let left = until_served(&mut watch, &aliases[..1]).await;
    assert_eq!(left[&aliases[0]], before[&aliases[0]]);

    // A goodbye counts at once, and the alias is free for another instance.
    talking[0].abort();
    let channel = group.members[stays].channel();
    let mut session = eventually("a session", || async {
        begin(channel.clone(), &aliases[0]).await.ok()
    })
    .await;
    let answer: HeartbeatAnswer = session.heartbeat(beat()).await.unwrap();
    assert!(answer.view.is_some());
    session.leave().await.unwrap();
    let gone = timeout(Duration::from_secs(2), watch.changed()).await;
    assert!(gone.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn a_leader_that_stands_still_is_left_by_sessions_and_watches_through_followers() {
    let group = Group::start(3).await;
    let leader = group.leader().await;
    let stays = group.other_than(leader);
    let alias = "zone1-101".to_owned();
    let channel = group.members[stays].channel();
    register(channel.clone(), &alias).await.unwrap();
    tokio::spawn(be_heard(channel, alias.clone()));
    let members = coordinators(&[&group.members[stays]]);
    let mut watch = ServingWatch::new(&members, "", "");
    until_served(&mut watch, std::slice::from_ref(&alias)).await;

    let stopped = std::time::Instant::now();
    group.members[leader].signal(nix::sys::signal::Signal::SIGSTOP);
    // The next one knows of the tablet, which talks with it: not only when connections time out.
    eventually("another leader hears the agent", || async {
        let tablets = seawall_common::tablets::all("", "", async |request| {
            use seawall_proto::v1::topology_client::TopologyClient;
            let mut topology = TopologyClient::new(group.members[stays].channel());
            let listed = topology.list_tablets(request).await;
            listed.map(tonic::Response::into_inner)
        });
        // One that was passed on to the old leader waits for it.
        let tablets = timeout(Duration::from_secs(1), tablets).await.ok()?.ok()?;
        let status = group.members[stays].status().await?;
        let is_other = status.leader != group.members[leader].id;
        (is_other && tablets.first()?.serving).then_some(())
    })
    .await;
    let waited = stopped.elapsed();
    group.members[leader].signal(nix::sys::signal::Signal::SIGCONT);
    assert!(waited < Duration::from_secs(9), "{waited:?}");
}
