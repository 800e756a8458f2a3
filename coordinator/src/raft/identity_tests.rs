use super::*;

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
    assert!(one.learn(&hello(2..=1000)).await.is_err());
    assert_eq!(one.hello().instances.len(), 1);
    assert!(one.learn(&hello(3..=4)).await.is_err());
    assert!(one.instance_of(4).is_none());
    one.learn(&hello(1..=3)).await.unwrap();
    assert!(one.instance_of(2).is_some());
}

#[tokio::test]
async fn what_one_member_knows_protects_the_others() {
    let Place(_one, one) = member(1);
    let Place(_two, two) = member(2);
    let Place(_three, three) = member(3);
    one.check_call(&three.request(1, vec![])).await.unwrap();
    two.learn(&one.hello()).await.unwrap();
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
    assert!(one.learn(&two.hello()).await.is_err());
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
