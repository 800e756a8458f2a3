//! All members are lost: a new group from the repository.

use seawall_common::{Error, tablets};
use seawall_proto::v1::{
    AcquireHoldRequest, BackupCoordinatorRequest, FastForwardRequest, InitTabletRequest,
    ListHoldsRequest, LockScope, ShardRef, locks_client::LocksClient,
    members_client::MembersClient, timestamps_client::TimestampsClient,
    topology_client::TopologyClient,
};

use super::harness::{Group, Member, eventually, run};

async fn back_up(member: &Member) -> String {
    eventually("the group's backup is taken", || async {
        let request = BackupCoordinatorRequest { keep: 2 };
        let taken = MembersClient::new(member.channel()).backup(request).await;
        // Refused as long as the repository is not claimed yet.
        Some(taken.ok()?.into_inner().backup.unwrap().name)
    })
    .await
}

async fn init_tablet(member: &Member, alias: &str) {
    let request = InitTabletRequest {
        alias: alias.to_owned(),
        shard: Some(ShardRef {
            keyspace: "commerce".into(),
            shard: "0".into(),
        }),
        ..Default::default()
    };
    TopologyClient::new(member.channel())
        .init_tablet(request)
        .await
        .unwrap();
}

async fn known_tablets(member: &Member) -> Vec<String> {
    let page = async |request| {
        let mut topology = TopologyClient::new(member.channel());
        let listed = topology.list_tablets(request).await;
        Ok::<_, Error>(listed.unwrap().into_inner())
    };
    let tablets = tablets::all("", "", page).await.unwrap();
    tablets.into_iter().map(|tablet| tablet.alias).collect()
}

async fn holds(member: &Member) -> usize {
    let listed = LocksClient::new(member.channel())
        .list(ListHoldsRequest {})
        .await;
    listed.unwrap().into_inner().holds.len()
}

async fn acquire(member: &Member) {
    let request = AcquireHoldRequest {
        id: "6f1c1c1e-0000-7000-8000-000000000001".into(),
        scope: Some(LockScope::default()),
        owner: "ann".into(),
        reason: "a copy".into(),
        ..AcquireHoldRequest::default()
    };
    LocksClient::new(member.channel())
        .acquire(request)
        .await
        .unwrap();
}

async fn fast_forward(member: &Member, timestamp: u64) -> Result<u64, tonic::Status> {
    let mut client = TimestampsClient::new(member.channel());
    let answer = client
        .fast_forward(FastForwardRequest { timestamp })
        .await?;
    Ok(answer.into_inner().bound)
}

/// `seawall-coordinator restore` for `member`, from its repository.
fn restore(member: &Member, more: &[&str]) -> std::process::Output {
    let data_dir = member.data_dir.to_str().unwrap();
    let mut args = vec![
        "restore",
        "--data-dir",
        data_dir,
        "--repository",
        &member.repository,
        "--listen",
        &member.address,
    ];
    args.extend(more);
    run(&args)
}

async fn until_refused(member: &Member) {
    eventually("it finds itself refused", || async {
        let refusal = member.status().await?.repository_refusal;
        let is_refused = refusal.contains("belongs to coordinator group");
        is_refused.then_some(())
    })
    .await;
}

#[tokio::test]
async fn i1_a_group_that_is_restored_gives_timestamps_above_all_that_were_given() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    init_tablet(&group.members[leader], "zone1-101").await;
    acquire(&group.members[leader]).await;
    let first = back_up(&group.members[leader]).await;
    // After the backup: what only the repository can tell the new group.
    init_tablet(&group.members[leader], "zone1-102").await;
    let before = group.members[leader].fetch(1).await.unwrap();
    let forwarded = fast_forward(&group.members[leader], before + 7_000_000_000)
        .await
        .unwrap();
    let last = group.members[leader].fetch(1000).await.unwrap() + 999;
    assert!(last > forwarded);
    let old_group = group.members[leader].status().await.unwrap().group_id;
    for member in &mut group.members {
        member.kill();
    }

    let new = group.plan_another(9);
    let output = restore(&group.members[new], &["--id", "9"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains(&format!("backup {first} of group {old_group}")),
        "{text}"
    );
    assert!(text.contains("holds dropped: 1"), "{text}");
    let again = restore(&group.members[new], &[]);
    assert!(!again.status.success());
    let text = String::from_utf8(again.stderr).unwrap();
    assert!(text.contains("is not empty"), "{text}");

    group.members[new].start(&[]);
    let next = eventually("the new group gives timestamps", || async {
        group.members[new].fetch(1).await.ok()
    })
    .await;
    assert!(next > last, "{next} after {last}");
    let status = group.members[new].status().await.unwrap();
    assert_ne!(status.group_id, old_group);
    assert_eq!((status.leader, status.members.len()), (9, 1));
    assert_eq!(known_tablets(&group.members[new]).await, ["zone1-101"]);
    assert_eq!(holds(&group.members[new]).await, 0);

    // The old group comes back all the same: it is refused, and soon gives nothing any more; until
    // then, what the new one has not given.
    for at in 0..3 {
        group.members[at].start(&[]);
    }
    until_refused(&group.members[0]).await;
    let refused = eventually("the old group gives nothing", || async {
        match group.members[0].fetch(1).await {
            Ok(old) => {
                assert!(old < next, "{old} is not below {next}");
                None
            }
            Err(refused) => refused.message().contains("belongs to").then_some(refused),
        }
    });
    refused.await;
    let beyond = next + 50_000_000_000;
    let refused = fast_forward(&group.members[0], beyond).await.unwrap_err();
    assert!(refused.message().contains("belongs to"), "{refused}");
    for member in &mut group.members[..3] {
        member.kill();
    }

    // It is a group like any other: it survives a restart, grows, and can be backed up.
    group.members[new].terminate();
    group.members[new].start(&[]);
    let again = eventually("it gives them after a restart", || async {
        group.members[new].fetch(1).await.ok()
    });
    assert!(again.await > next);
    let second = back_up(&group.members[new]).await;
    assert!(second > first);
    let third = back_up(&group.members[new]).await;
    assert_ne!(third, second);
    let kept = group.repository_directory().join("coordinator/backups");
    let kept: Vec<_> = std::fs::read_dir(kept).unwrap().collect();
    assert_eq!(kept.len(), 2, "{kept:?}");

    // The old group takes its repository back.
    let last = group.members[new].fetch(1000).await.unwrap() + 999;
    group.members[new].kill();
    for member in &mut group.members[..3] {
        member.start(&["--take-over-repository"]);
    }
    let next = eventually("the old group gives timestamps again", || async {
        group.members[0].fetch(1).await.ok()
    });
    let next = next.await;
    assert!(next > last, "{next} after {last}");
}

#[tokio::test]
async fn a_restore_that_cannot_be_right_is_refused() {
    let mut group = Group::start(1).await;
    let new = group.plan_another(2);
    let says = |output: std::process::Output, expected: &str| {
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected), "{expected}: {text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(last.contains(expected), "{text}");
    };
    says(restore(&group.members[new], &[]), "no coordinator backup");
    let name = back_up(&group.members[0]).await;
    let malformed = restore(&group.members[new], &["--backup", "../x"]);
    says(malformed, "malformed name");
    let unknown = ["--backup", "2000-01-01.000000.00000000"];
    says(
        restore(&group.members[new], &unknown),
        "has no coordinator backup",
    );
    // A repository of an older version: nobody knows how far timestamps have come.
    let repository = group.repository_directory();
    let bounds = repository.join("coordinator/bounds");
    let hidden = repository.with_extension("bounds");
    // A timestamp is given only when its bound is noted.
    group.members[0].fetch(1).await.unwrap();
    std::fs::rename(&bounds, &hidden).unwrap();
    says(restore(&group.members[new], &[]), "--above");
    std::fs::rename(&hidden, &bounds).unwrap();

    let state = repository
        .join("coordinator/backups")
        .join(&name)
        .join("state");
    let mut bytes = std::fs::read(&state).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&state).unwrap();
    std::fs::write(&state, bytes).unwrap();
    let damaged = restore(&group.members[new], &["--backup", &name]);
    says(damaged, "its seal does not fit");
    says(
        restore(&group.members[new], &[]),
        "no coordinator backup that can be read",
    );
    assert!(!group.members[new].data_dir.join("identity.json").exists());
    let owners: Vec<_> = std::fs::read_dir(repository.join("owners"))
        .unwrap()
        .collect();
    assert_eq!(
        owners.len(),
        1,
        "what was refused has taken over: {owners:?}"
    );
}
