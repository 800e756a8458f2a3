use super::{
    super::{Seat, StoredMembership, refusals::INSTANCE_BYTES_MAX},
    *,
};

fn members() -> Members {
    (1..=3).map(|id| (id, format!("127.0.0.1:{id}"))).collect()
}

struct Place(tempfile::TempDir, Identity);

fn member(id: u64) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::create(directory.path(), id, members()).unwrap();
    Place(directory, identity)
}

#[tokio::test]
async fn a_second_instance_under_a_known_number_is_refused_even_after_a_restart() {
    let Place(directory, one) = member(1);
    let Place(_two, two) = member(2);
    one.check_call(&two.request(1, vec![])).await.unwrap();
    one.check_call(&two.request(1, vec![])).await.unwrap();

    let one = Identity::open(directory.path()).unwrap().unwrap();
    let Place(_wiped, wiped) = member(2);
    let error = one.check_call(&wiped.request(1, vec![])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(one.check_answer(2, Some(&wiped.sender())).await.is_err());
    wiped.check_answer(1, Some(&one.sender())).await.unwrap();
    wiped.heed(1, &one.sender().instance_id, &error);
    let refusal = wiped.refusal().borrow().clone().unwrap();
    assert!(refusal.message().contains("member 2"), "{refusal}");
    one.check_answer(2, Some(&two.sender())).await.unwrap();
}

#[tokio::test]
async fn a_wiped_member_ends_when_one_that_it_knows_refuses_it_and_not_when_it_is_called() {
    let Place(_one, one) = member(1);
    let Place(_two, two) = member(2);
    one.check_answer(2, Some(&two.sender())).await.unwrap();
    one.learn_group("a").await.unwrap();
    let Place(_wiped, wiped) = member(2);
    let refused = one.check_call(&wiped.request(1, vec![])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    let ones = one.sender().instance_id;
    wiped.heed(1, &ones, &refused);
    assert!(wiped.refusal().borrow().is_none(), "it is not known yet");

    // The call lets it know the caller; the answer must not make the caller end.
    let called = wiped.check_call(&one.request(2, vec![])).await.unwrap_err();
    one.heed(2, &wiped.sender().instance_id, &called);
    one.heed(2, &two.sender().instance_id, &called);
    assert!(one.refusal().borrow().is_none());
    assert!(wiped.refusal().borrow().is_none());
    wiped.heed(1, "another", &refused);
    assert!(wiped.refusal().borrow().is_none());
    wiped.heed(1, &ones, &refused);
    assert!(wiped.refusal().borrow().is_some());
}

#[tokio::test]
async fn calls_of_strangers_neither_end_a_member_nor_are_they_noted() {
    let Place(directory, one) = member(1);
    let call = |member_id, group_id: &str, instance_id: &str| RaftRequest {
        sender: Some(RaftSender {
            group_id: group_id.to_owned(),
            member_id,
            instance_id: instance_id.to_owned(),
        }),
        target_member_id: 1,
        target_instance_id: "wrong".to_owned(),
        ..RaftRequest::default()
    };
    let long = "x".repeat(INSTANCE_BYTES_MAX + 1);
    for stranger in [call(4, "", "i"), call(1, "", "i"), call(2, "", &long)] {
        assert!(one.check_call(&stranger).await.is_err());
    }
    one.learn_group("a").await.unwrap();
    assert!(one.check_call(&call(2, "", "i")).await.is_err());
    assert!(one.check_call(&call(4, "a", "i")).await.is_err());
    assert!(one.refusal().borrow().is_none());
    let one = Identity::open(directory.path()).unwrap().unwrap();
    assert_eq!(one.hello().instances.len(), 1);

    // One that comes late is let in when it has answered; one under a number of the group may call.
    let Place(_two, two) = member(2);
    assert!(one.check_call(&two.request(1, vec![])).await.is_err());
    one.check_answer(2, Some(&two.sender())).await.unwrap();
    one.check_call(&two.request(1, vec![])).await.unwrap();
    assert!(one.check_call(&call(3, "a", "i")).await.is_err());
    assert!(one.refusal().borrow().is_none());
}

#[tokio::test]
async fn a_group_of_one_takes_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let alone = [(1, "127.0.0.1:1".to_owned())].into();
    let one = Identity::create(directory.path(), 1, alone).unwrap();
    let Place(_two, two) = member(2);
    assert!(one.check_call(&two.request(1, vec![])).await.is_err());
    assert!(one.instance_of(2).is_none());
}

#[tokio::test]
async fn a_hello_names_members_only() {
    let Place(_one, one) = member(1);
    let hello = |ids: std::ops::RangeInclusive<u64>| Hello {
        members: members(),
        instances: ids.map(|id| (id, format!("instance {id}"))).collect(),
    };
    assert!(one.learn(&hello(2..=1000), false).await.is_err());
    assert_eq!(one.hello().instances.len(), 1);
    assert!(one.learn(&hello(3..=4), false).await.is_err());
    assert!(one.instance_of(4).is_none());
    one.learn(&hello(1..=3), false).await.unwrap();
    assert!(one.instance_of(2).is_some());
}

#[tokio::test]
async fn what_one_member_knows_protects_the_others() {
    let Place(_one, one) = member(1);
    let Place(_two, two) = member(2);
    let Place(_three, three) = member(3);
    one.check_call(&three.request(1, vec![])).await.unwrap();
    two.learn(&one.hello(), false).await.unwrap();
    let Place(_wiped, wiped) = member(3);
    assert!(two.check_call(&wiped.request(2, vec![])).await.is_err());
}

#[tokio::test]
async fn a_stranger_is_refused_and_does_not_end_a_member() {
    let Place(_one, one) = member(1);
    let Place(_two, two) = member(2);
    one.learn_group("a").await.unwrap();
    two.learn_group("b").await.unwrap();
    let error = one.check_call(&two.request(1, vec![])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(one.refusal().borrow().is_none());
    assert!(one.check_call(&RaftRequest::default()).await.is_err());
    let Place(_three, three) = member(3);
    one.check_answer(3, Some(&three.sender())).await.unwrap();
    assert!(one.check_call(&three.request(2, vec![])).await.is_err());
    one.check_call(&three.request(1, vec![])).await.unwrap();
}

#[tokio::test]
async fn members_that_were_made_with_other_peers_do_not_form_a_group() {
    let Place(_one, one) = member(1);
    let directory = tempfile::tempdir().unwrap();
    let mut others = members();
    others.remove(&3);
    let two = Identity::create(directory.path(), 2, others).unwrap();
    assert!(one.learn(&two.hello(), false).await.is_err());
}

#[test]
fn a_directory_is_made_a_members_only_once_and_by_one_of_the_peers() {
    let Place(directory, identity) = member(1);
    assert!(Identity::create(directory.path(), 1, members()).is_err());
    let again = Identity::open(directory.path()).unwrap().unwrap();
    assert_eq!(again.sender(), identity.sender());
    let empty = tempfile::tempdir().unwrap();
    assert!(Identity::create(empty.path(), 7, members()).is_err());
    assert!(Identity::open(empty.path()).unwrap().is_none());
}

fn seat(address: &str, instance: &str) -> Seat {
    Seat {
        addr: address.to_owned(),
        instance: instance.to_owned(),
    }
}

/// As the log has it: members with their instances (empty: made by init), and who was removed.
fn roster(seats: &[(u64, &str)], retired: &[u64]) -> Roster {
    let seats = seats.iter().map(|(id, instance)| {
        let address = format!("127.0.0.1:{id}");
        (*id, seat(&address, instance))
    });
    let seats: BTreeMap<u64, Seat> = seats.collect();
    let membership = openraft::Membership::from(seats);
    let membership = StoredMembership::new(None, membership);
    Roster::new(&membership, retired.iter().copied().collect())
}

async fn newcomer(id: u64, group_id: &str) -> (tempfile::TempDir, Identity) {
    let directory = tempfile::tempdir().unwrap();
    let addresses = vec!["127.0.0.1:1".to_owned()];
    let identity = Identity::create_to_join(directory.path(), id, addresses).unwrap();
    assert_eq!(identity.sender().group_id, "");
    identity.learn_group(group_id).await.unwrap();
    (directory, identity)
}

#[tokio::test]
async fn the_log_says_which_instance_a_later_member_is() {
    let Place(_one, one) = member(1);
    one.learn_group("a").await.unwrap();
    let (_four, four) = newcomer(4, "a").await;
    assert!(one.check_call(&four.request(1, vec![])).await.is_err());
    let instance = four.sender().instance_id;
    one.set_roster(roster(&[(1, ""), (4, &instance)], &[]));
    one.check_call(&four.request(1, vec![])).await.unwrap();
    one.check_answer(4, Some(&four.sender())).await.unwrap();
    assert_eq!(one.hello().instances[&4], instance);

    let (_wiped, wiped) = newcomer(4, "a").await;
    let refused = one.check_call(&wiped.request(1, vec![])).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    assert!(one.check_answer(4, Some(&wiped.sender())).await.is_err());
    // Those of init are no members any more when the log says so.
    let Place(_two, two) = member(2);
    two.learn_group("a").await.unwrap();
    assert!(one.check_call(&two.request(1, vec![])).await.is_err());
}

#[tokio::test]
async fn a_member_that_was_removed_is_told_so_and_ends() {
    let Place(_one, one) = member(1);
    let Place(_two, two) = member(2);
    two.check_answer(1, Some(&one.sender())).await.unwrap();
    one.learn_group("a").await.unwrap();
    one.set_roster(roster(&[(1, ""), (3, "")], &[2]));
    let refused = one.check_call(&two.request(1, vec![])).await.unwrap_err();
    assert!(refused.message().contains("was removed"), "{refused}");
    two.heed(1, &one.sender().instance_id, &refused);
    let ended = two.refusal().borrow().clone().unwrap();
    assert!(ended.message().contains("was removed"), "{ended}");
    // A hello of one that does not know it yet names it: that is no harm.
    let mut hello = one.hello();
    hello.instances.insert(2, two.sender().instance_id);
    one.learn(&hello, true).await.unwrap();
    assert!(!one.hello().instances.contains_key(&2));
}

#[tokio::test]
async fn one_that_was_away_lets_in_who_knows_its_instance_and_the_group() {
    let Place(_two, two) = member(2);
    two.learn_group("a").await.unwrap();
    let (_five, five) = newcomer(5, "a").await;
    assert!(two.check_call(&five.request(2, vec![])).await.is_err());
    five.check_answer(2, Some(&two.sender())).await.unwrap();
    assert!(
        five.instance_of(2).is_none(),
        "an answer alone is not noted"
    );
    let mut hello = two.hello();
    hello.members = Members::new();
    five.learn(&hello, true).await.unwrap();
    two.check_call(&five.request(2, vec![])).await.unwrap();

    let (_stranger, stranger) = newcomer(5, "b").await;
    stranger.learn(&hello, true).await.unwrap();
    assert!(two.check_call(&stranger.request(2, vec![])).await.is_err());
}

#[tokio::test]
async fn one_that_joins_answers_only_the_group_that_it_was_told_to_join() {
    let Place(_one, one) = member(1);
    let directory = tempfile::tempdir().unwrap();
    let addresses = vec!["127.0.0.1:1".to_owned()];
    let four = Identity::create_to_join(directory.path(), 4, addresses).unwrap();
    one.learn_group("a").await.unwrap();
    let call = |from: &Identity| from.request(4, vec![]);
    assert!(
        four.check_call(&call(&one)).await.is_err(),
        "no group known"
    );
    four.learn_group("b").await.unwrap();
    assert!(four.check_call(&call(&one)).await.is_err(), "another group");

    let (directory, four) = newcomer(4, "a").await;
    four.check_call(&call(&one)).await.unwrap();
    four.learn(&one.hello(), true).await.unwrap();
    let again = Identity::open(directory.path()).unwrap().unwrap();
    assert_eq!(again.instance_of(1), Some(one.sender().instance_id));
    let Place(_wiped, wiped) = member(1);
    wiped.learn_group("a").await.unwrap();
    assert!(again.check_call(&call(&wiped)).await.is_err());
}
