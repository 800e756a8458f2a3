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
    wiped.heed(&error);
    let refusal = wiped.refusal().borrow().clone().unwrap();
    assert!(refusal.message().contains("member 2"), "{refusal}");
    one.check_answer(2, Some(&two.sender())).await.unwrap();
}

#[tokio::test]
async fn a_wiped_member_that_is_called_learns_that_it_is_refused() {
    let Place(_one, one) = member(1);
    let Place(_two, two) = member(2);
    one.check_answer(2, Some(&two.sender())).await.unwrap();
    let Place(_wiped, wiped) = member(2);
    assert!(wiped.check_call(&one.request(2, vec![])).await.is_err());
    assert!(wiped.refusal().borrow().is_some());
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
