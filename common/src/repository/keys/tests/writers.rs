//! Writers' keys and the pins of readers.

use super::*;

#[test]
fn a_writers_key_comes_back_from_its_file_and_damage_to_it_shows() {
    let key = WriterKey::generate().unwrap();
    let text = key.encode();
    assert_eq!(WriterKey::decode(&text).unwrap().public(), key.public());
    assert!(
        !format!("{key:?}").contains(&text[26..90]),
        "the secret shows"
    );
    for at in 0..text.len() - 1 {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= 1;
        let damaged = String::from_utf8(bytes).unwrap();
        assert!(WriterKey::decode(&damaged).is_err(), "byte {at}");
        assert!(WriterKey::decode(&text[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_signature_verifies_for_its_message_and_its_key_only() {
    let key = WriterKey::generate().unwrap();
    let signature = key.sign(b"message");
    assert!(key.public().verifies(b"message", &signature));
    assert!(!key.public().verifies(b"Message", &signature));
    let other = WriterKey::generate().unwrap().public();
    assert!(!other.verifies(b"message", &signature));
}

#[test]
fn with_pins_only_pinned_writers_are_believed() {
    let (ours, theirs) = (
        WriterKey::generate().unwrap().public().to_string(),
        WriterKey::generate().unwrap().public().to_string(),
    );
    let none = TrustedWriters::parse(&[]).unwrap();
    assert!(none.check("").is_ok() && none.check(&theirs).is_ok());
    let pins = TrustedWriters::parse(std::slice::from_ref(&ours)).unwrap();
    assert!(pins.check(&ours).is_ok());
    assert!(pins.check("").unwrap_err().contains("not signed"));
    let why = pins.check(&theirs).unwrap_err();
    assert!(why.contains("is forged") && why.contains(&theirs));
    for text in ["", "12", &"g".repeat(64), &"é".repeat(32)] {
        let error = TrustedWriters::parse(&[text.to_owned()]).unwrap_err();
        assert!(
            error.message().contains("repository.trusted_writers"),
            "{error}"
        );
    }
}
