//! Identity files: locked or not, with the right passphrase or a wrong one, damaged.

use super::{
    super::recipient::{self, Recipient},
    *,
};
use crate::ErrorKind;

#[tokio::test]
async fn a_locked_identity_of_every_kind_opens_with_its_passphrase() {
    for kind in all_kinds().await {
        let fingerprint = Recipient::parse(&kind.recipient).unwrap().fingerprint;
        let reader = Reader::new(&kind.locked).knowing(PASSPHRASE);
        assert!(reader.identities().await.unwrap().has(&fingerprint));
        // Not looked for when it is not needed.
        let mut reader = Reader::new(&kind.open);
        reader.config.passphrase_file = Some("/nowhere".into());
        assert!(reader.identities().await.unwrap().has(&fingerprint));
    }
}

#[tokio::test]
async fn a_wrong_passphrase_is_told_apart_from_damage_in_one_line() {
    for kind in all_kinds().await {
        let error = Reader::new(&kind.locked)
            .knowing("battery staple")
            .identities()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{}: {error}", kind.what);
        assert!(
            error
                .message()
                .contains("the passphrase does not open identity file")
        );
        assert!(!error.to_string().contains('\n'));
    }
}

#[tokio::test]
async fn a_daemon_does_not_ask_and_names_the_setting_that_is_missing() {
    for kind in all_kinds().await {
        let error = Reader::new(&kind.locked).identities().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        let hint = error.hint_text().unwrap();
        assert!(hint.contains("repository.passphrase_file") && hint.contains("SEAWALL_PASSPHRASE"));
    }
}

#[tokio::test]
async fn i8_a_locked_identity_that_is_damaged_never_opens_and_never_says_anything_else() {
    for kind in all_kinds().await {
        let mut kinds = std::collections::BTreeSet::new();
        let mut tries: Vec<Vec<u8>> = Vec::new();
        for at in (0..kind.locked.len()).step_by(kind.locked.len() / 24 + 1) {
            tries.push(kind.locked[..at].to_vec());
            let mut other = kind.locked.clone();
            other[at] ^= 4;
            tries.push(other);
        }
        for content in tries {
            let reader = Reader::new(&content).knowing(PASSPHRASE);
            let error = match reader.identities().await {
                // A comment, or the very end of the armor: what opens must be the same key.
                Ok(identities) => {
                    let fingerprint = Recipient::parse(&kind.recipient).unwrap().fingerprint;
                    assert!(identities.has(&fingerprint), "{}", kind.what);
                    continue;
                }
                Err(error) => error,
            };
            assert!(!error.to_string().contains('\n'), "{error}");
            kinds.insert(error.kind().name());
        }
        // Damage in what the passphrase opens looks like a wrong one: the hint says so.
        assert!(kinds.contains("corrupt"), "{}: {kinds:?}", kind.what);
        for kind in kinds {
            assert!(["corrupt", "invalid", "refused"].contains(&kind), "{kind}");
        }
    }
}

fn opens(identities: &Identities, recipient: &str) -> bool {
    let recipient = Recipient::parse(recipient).unwrap();
    let id = uuid::Uuid::nil();
    let wrapped = recipient.wrap(&DataKey::generate(), id, id).unwrap();
    let unwrapped = identities.unwrap(&wrapped, &recipient.fingerprint, id, id);
    matches!(unwrapped, Unwrapped::Key(_))
}

/// Nothing in the file itself tells: neither a checksum nor, when it is locked, a seal.
#[tokio::test]
async fn i8_an_ssh_key_with_a_flipped_bit_is_not_used() {
    for kind in ["ed25519", "rsa"].map(ssh) {
        let mut damaged = 0;
        // The letters of the private half, in the file's second half.
        for at in (kind.open.len() / 2..kind.open.len() - 100).step_by(kind.open.len() / 20) {
            let mut content = kind.open.clone();
            if !content[at].is_ascii_alphanumeric() {
                continue;
            }
            content[at] = if content[at] == b'A' { b'B' } else { b'A' };
            match Reader::new(&content).identities().await {
                // In what an RSA key has twice: it opens what it has to.
                Ok(identities) => assert!(opens(&identities, &kind.recipient), "byte {at}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                    damaged += 1;
                }
            }
        }
        assert!(damaged > 2, "{damaged}");
    }
}

#[tokio::test]
async fn a_file_that_holds_no_usable_key_is_named() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/repository/keys/tests/data");
    let ecdsa = std::fs::read(data.join("ecdsa")).unwrap();
    let secret = generate_identity().file;
    let cut = &secret.as_bytes()[..secret.len() - 5];
    for (content, kind, says) in [
        (b"".as_slice(), ErrorKind::Invalid, "holds no private key"),
        (
            b"# only a comment\n",
            ErrorKind::Invalid,
            "holds no private key",
        ),
        (b"age1notasecret\n", ErrorKind::Corrupt, "in line 1"),
        (cut, ErrorKind::Corrupt, "in line 3"),
        (b"\xff\xfe", ErrorKind::Corrupt, "is no text"),
        (&ecdsa, ErrorKind::Invalid, "of a kind that cannot be used"),
        (
            &ssh("rsa").open[..700],
            ErrorKind::Corrupt,
            "valid SSH private key",
        ),
    ] {
        let error = Reader::new(content).identities().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(says), "{error}");
        assert!(error.message().contains("/identity"), "{error}");
        assert!(!error.to_string().contains("SECRET-KEY-1Q"), "{error}");
    }
}

#[tokio::test]
async fn an_identity_that_asks_for_hours_of_work_is_refused_at_once() {
    let mut locker = age::scrypt::Recipient::new("correct horse".to_owned().into());
    locker.set_work_factor(2);
    let file = recipient::encrypt(&locker, generate_identity().file.as_bytes()).unwrap();
    // As somebody would who has the store: the factor stands in clear letters.
    let at = file.windows(3).position(|w| w == b" 2\n").unwrap();
    let hostile = [&file[..at], b" 30\n", &file[at + 3..]].concat();
    let begun = std::time::Instant::now();
    let reader = Reader::new(&hostile).knowing(PASSPHRASE);
    let error = reader.identities().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.message().contains("2^30"), "{error}");
    assert!(begun.elapsed().as_secs() < 30);
}

#[tokio::test]
async fn an_identity_file_and_one_in_the_repository_are_not_both_taken() {
    let mut reader = Reader::new(generate_identity().file.as_bytes());
    reader.config.identity = Some("ops".into());
    let error = reader.keys().await.unwrap_err();
    assert!(error.message().contains("both set"), "{error}");
}
