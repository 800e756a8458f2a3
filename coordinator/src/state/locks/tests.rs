use super::*;

fn acquire(locks: &mut Locks, id: &str, scope: Scope, now: u64) -> Result<Hold> {
    let answer = locks.apply(&Command::Acquire {
        id: id.into(),
        side: Side::Backup,
        scope,
        owner: "ana".into(),
        reason: "copying by hand".into(),
        now_unix_ms: now,
        duration_ms: 100,
        lease_ms: None,
    })?;
    match answer {
        Response::Hold(hold) => Ok(*hold),
        other => panic!("{other:?}"),
    }
}

fn claim(side: Side, scope: Scope) -> Claim {
    Claim {
        side,
        scope,
        reason: "test".into(),
        now_unix_ms: 0,
    }
}

fn of_shard(text: &str) -> Scope {
    Scope::Shard(text.parse().unwrap())
}

#[test]
fn i5_the_two_sides_never_stand_in_overlapping_scopes() {
    for (held, asked, overlap) in [
        (Scope::Cluster, of_shard("a/0"), true),
        (Scope::Keyspace("a".into()), of_shard("a/0"), true),
        (of_shard("a/0"), Scope::Keyspace("a".into()), true),
        (Scope::Keyspace("b".into()), of_shard("a/0"), false),
        (of_shard("a/0"), of_shard("a/0"), true),
        (of_shard("a/1"), of_shard("a/0"), false),
    ] {
        for (one, other) in [(Side::Backup, Side::Delete), (Side::Delete, Side::Backup)] {
            let mut locks = Locks::default();
            locks
                .claim(OperationId::generate(), &claim(one, held.clone()))
                .unwrap();
            let answer = locks.claim(OperationId::generate(), &claim(other, asked.clone()));
            assert_eq!(answer.is_err(), overlap, "{held:?} {asked:?}");
            let sharer = locks.claim(OperationId::generate(), &claim(one, held.clone()));
            sharer.expect("any number of holders share a side");
        }
    }
}

#[test]
fn a_second_hold_by_hand_in_one_scope_is_refused_and_shown_the_first() {
    let mut locks = Locks::default();
    let first = acquire(&mut locks, "one", Scope::Cluster, 0).unwrap();
    assert_eq!(
        acquire(&mut locks, "one", Scope::Cluster, 5).unwrap(),
        first,
        "a repeated call finds its hold"
    );
    let refused = acquire(&mut locks, "two", Scope::Cluster, 5).unwrap_err();
    assert_eq!(
        refused.message(),
        "the backup lock of the cluster is held by ana (copying by hand), hold one"
    );
    acquire(&mut locks, "three", of_shard("a/0"), 5).unwrap();
}

#[test]
fn every_grant_has_a_greater_token_and_an_id_is_used_once() {
    let mut locks = Locks::default();
    let first = acquire(&mut locks, "one", Scope::Cluster, 0).unwrap();
    let which = Which {
        id: String::new(),
        scope: Scope::Cluster,
    };
    locks.apply(&Command::Release { which }).unwrap();
    assert!(!locks.is_valid("one", first.token));
    // As a call that was repeated, and was long on its way, would.
    let late = acquire(&mut locks, "one", Scope::Cluster, 0).unwrap_err();
    assert!(late.message().contains("has ended"), "{late}");
    let second = acquire(&mut locks, "two", Scope::Cluster, 0).unwrap();
    assert!(second.token > first.token);
    assert!(
        !locks.is_valid("two", first.token),
        "the old token is stale"
    );
}

#[test]
fn i5_programs_share_a_side_in_one_scope_and_keep_the_other_out() {
    let mut locks = Locks::default();
    let mut acquire = |id: &str, side| {
        locks.apply(&Command::Acquire {
            id: id.into(),
            side,
            scope: of_shard("a/0"),
            owner: "sweeper".into(),
            reason: "batch 7".into(),
            now_unix_ms: 0,
            duration_ms: 0,
            lease_ms: Some(5_000),
        })
    };
    acquire("one", Side::Delete).unwrap();
    acquire("two", Side::Delete).unwrap();
    acquire("two", Side::Delete).unwrap();
    acquire("two", Side::Backup).unwrap_err();
    acquire("three", Side::Backup).unwrap_err();
    let ids = vec!["one".to_owned(), "two".to_owned()];
    locks.apply(&Command::Expire { ids }).unwrap();
    assert_eq!(locks.holds().count(), 0);
}

#[test]
fn a_hold_by_hand_runs_out_and_an_operations_does_not() {
    let mut locks = Locks::default();
    acquire(&mut locks, "one", Scope::Cluster, 1_000).unwrap();
    let operation = OperationId::generate();
    locks
        .claim(operation, &claim(Side::Backup, Scope::Cluster))
        .unwrap();
    let ids = vec!["one".to_owned(), operation.to_string(), "gone".to_owned()];
    locks.apply(&Command::Expire { ids }).unwrap();
    let left: Vec<_> = locks.holds().map(|hold| hold.operation).collect();
    assert_eq!(left, [Some(operation)]);
}

#[test]
fn a_broken_hold_is_gone_and_remembered_with_its_reason() {
    let mut locks = Locks::default();
    let operation = OperationId::generate();
    let hold = locks
        .claim(operation, &claim(Side::Backup, of_shard("a/0")))
        .unwrap();
    let release = Command::Release {
        which: Which {
            id: hold.id.clone(),
            scope: Scope::Cluster,
        },
    };
    let refused = locks.apply(&release).unwrap_err();
    assert!(refused.message().contains("belongs to operation"));
    for _ in 0..2 {
        let answer = locks.apply(&Command::Break {
            which: Which {
                id: String::new(),
                scope: Scope::Keyspace("a".into()),
            },
            reason: "it hangs".into(),
            operator: "ana".into(),
            now_unix_ms: 7,
        });
        if answer.is_err() {
            break;
        }
    }
    assert!(!locks.is_valid(&hold.id, hold.token));
    let broken: Vec<_> = locks.broken().map(|b| b.reason.as_str()).collect();
    assert_eq!(broken, ["it hangs"]);
}
