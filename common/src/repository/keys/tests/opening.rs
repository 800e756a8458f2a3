//! Key files: what opens them, and what does not.

use uuid::Uuid;

use super::{super::recipient::Recipient, *};

const REPOSITORY: Uuid = Uuid::from_u128(1);
const SESSION: Uuid = Uuid::from_u128(2);

fn wrapped_for(recipient: &str) -> (DataKey, Recipient, Vec<u8>) {
    let key = DataKey::generate();
    let recipient = Recipient::parse(recipient).unwrap();
    let wrapped = recipient.wrap(&key, REPOSITORY, SESSION).unwrap();
    (key, recipient, wrapped)
}

#[tokio::test]
async fn a_key_of_every_kind_opens_what_was_wrapped_for_it() {
    for kind in all_kinds().await {
        let (key, recipient, wrapped) = wrapped_for(&kind.recipient);
        let identities = Reader::new(&kind.open).identities().await.unwrap();
        assert!(identities.has(&recipient.fingerprint), "{}", kind.what);
        match identities.unwrap(&wrapped, &recipient.fingerprint, REPOSITORY, SESSION) {
            Unwrapped::Key(opened) => assert_eq!(opened.bytes(), key.bytes()),
            _ => panic!("{}", kind.what),
        }
    }
}

#[tokio::test]
async fn i8_a_wrapped_key_opens_only_in_its_own_repository_and_session() {
    for kind in all_kinds().await {
        let (_, recipient, wrapped) = wrapped_for(&kind.recipient);
        let identities = Reader::new(&kind.open).identities().await.unwrap();
        for (repository, session) in [(REPOSITORY, REPOSITORY), (SESSION, SESSION)] {
            let unwrapped =
                identities.unwrap(&wrapped, &recipient.fingerprint, repository, session);
            assert!(
                matches!(&unwrapped, Unwrapped::Damaged(why) if why.contains("another repository")),
                "{}",
                kind.what
            );
        }
    }
}

#[tokio::test]
async fn i8_a_key_file_that_is_damaged_anywhere_is_not_taken_for_somebody_elses() {
    for kind in all_kinds().await {
        let (_, recipient, wrapped) = wrapped_for(&kind.recipient);
        let identities = Reader::new(&kind.open).identities().await.unwrap();
        let is_damaged = |bytes: &[u8]| {
            let unwrapped = identities.unwrap(bytes, &recipient.fingerprint, REPOSITORY, SESSION);
            matches!(unwrapped, Unwrapped::Damaged(_))
        };
        // Every byte of those that are quick to open.
        let step = if kind.what == "rsa" { 16 } else { 1 };
        for at in (0..wrapped.len()).step_by(step) {
            let mut flipped = wrapped.clone();
            flipped[at] ^= 1;
            assert!(is_damaged(&flipped), "{}: bit of byte {at}", kind.what);
            assert!(is_damaged(&wrapped[..at]), "{}: cut at {at}", kind.what);
        }
        assert!(is_damaged(&[wrapped.as_slice(), b"x"].concat()), "longer");
    }
}

#[tokio::test]
async fn somebody_elses_key_file_is_no_damage_unless_it_bears_our_name() {
    let ours = all_kinds().await;
    for theirs in all_kinds().await {
        let (_, recipient, wrapped) = wrapped_for(&theirs.recipient);
        for kind in ours.iter().filter(|kind| kind.what != theirs.what) {
            let identities = Reader::new(&kind.open).identities().await.unwrap();
            let named =
                |fingerprint: &str| identities.unwrap(&wrapped, fingerprint, REPOSITORY, SESSION);
            assert!(matches!(named(&recipient.fingerprint), Unwrapped::NotOurs));
            let our_name = Recipient::parse(&kind.recipient).unwrap().fingerprint;
            assert!(matches!(named(&our_name), Unwrapped::Damaged(_)));
        }
    }
}

#[test]
fn a_private_key_given_as_a_recipient_is_not_repeated() {
    let identity = generate_identity();
    let secret = identity.file.lines().last().unwrap().to_owned();
    let error = Recipient::parse(&secret).unwrap_err();
    assert!(!error.to_string().contains(&secret), "{error}");
    assert_eq!(
        check_recipient(&format!(" {}\n", identity.recipient)).unwrap(),
        identity.recipient
    );
}

#[test]
fn the_comment_of_an_ssh_key_is_no_part_of_it() {
    let key = ssh("ed25519").recipient;
    let bare = check_recipient(&key).unwrap();
    assert!(!bare.contains("test only"), "{bare}");
    let fingerprint = |text: &str| Recipient::parse(text).unwrap().fingerprint;
    assert_eq!(fingerprint(&key), fingerprint(&bare));
}
