//! Where passphrases come from.

use std::{
    fs::Permissions,
    io::Write as _,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    super::passphrase::{VARIABLE, configured_with},
    *,
};

async fn configured(
    config: &RepositoryConfig,
    variable: Option<&str>,
) -> Result<Option<Passphrase>> {
    let environment = |name: &str| {
        assert_eq!(name, VARIABLE);
        variable.map(str::to_owned)
    };
    configured_with(config, environment, &NobodyToAsk).await
}

#[tokio::test]
async fn the_first_line_of_a_file_is_the_passphrase() {
    let reader = Reader::new(b"");
    let mut config = RepositoryConfig::default();
    for content in [
        "correct horse",
        "correct horse\n",
        "correct horse\r\nmore\n",
    ] {
        std::fs::write(reader.path("p"), content).unwrap();
        config.passphrase_file = Some(reader.path("p"));
        let read = configured(&config, None).await.unwrap().unwrap();
        assert!(read.is_same(&passphrase("correct horse")), "{content:?}");
    }
    // What is named is taken before the environment.
    let read = configured(&config, Some("other")).await.unwrap().unwrap();
    assert!(read.is_same(&passphrase("correct horse")));
    for (content, says) in [
        ("", "is empty"),
        ("\nx", "is empty"),
        (&*"x".repeat(5000), "more than"),
    ] {
        std::fs::write(reader.path("p"), content).unwrap();
        let error = configured(&config, None).await.unwrap_err();
        assert!(error.message().contains(says), "{error}");
        assert!(error.message().contains("passphrase file"), "{error}");
    }
    config.passphrase_file = Some(reader.path("nowhere"));
    let error = configured(&config, None).await.unwrap_err();
    assert!(
        error.message().contains("cannot read passphrase file"),
        "{error}"
    );
}

#[tokio::test]
async fn the_environment_is_the_last_place_that_is_looked_at() {
    let config = RepositoryConfig::default();
    assert!(configured(&config, None).await.unwrap().is_none());
    let read = configured(&config, Some("x y ")).await.unwrap().unwrap();
    assert!(read.is_same(&passphrase("x y ")));
    assert!(configured(&config, Some("")).await.is_err());
}

#[tokio::test]
async fn a_descriptor_that_can_be_read_once_serves_for_ever() {
    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(b"correct horse\n").unwrap();
    drop(write);
    let config = RepositoryConfig {
        passphrase_fd: Some(u32::try_from(read.as_raw_fd()).unwrap()),
        ..RepositoryConfig::default()
    };
    for _ in 0..2 {
        let read = configured(&config, None).await.unwrap().unwrap();
        assert!(read.is_same(&passphrase("correct horse")));
    }
    let config = RepositoryConfig {
        passphrase_fd: Some(999),
        ..RepositoryConfig::default()
    };
    let error = configured(&config, None).await.unwrap_err();
    assert!(error.message().contains("descriptor 999"), "{error}");
}

#[tokio::test]
async fn a_passphrase_never_shows() {
    assert_eq!(
        format!("{:?}", passphrase("correct horse")),
        "Passphrase(..)"
    );
}

struct Person {
    asked: AtomicUsize,
    warned: Mutex<Vec<String>>,
    answer: &'static str,
}

#[async_trait::async_trait]
impl Prompt for Person {
    async fn ask(&self, what: &str) -> Result<Passphrase> {
        assert!(what.contains("identity file"), "{what}");
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(passphrase(self.answer))
    }

    fn warn(&self, what: &str) {
        self.warned.lock().unwrap().push(what.to_owned());
    }
}

/// By then it has been copied by whoever wanted it, and backups must be read all the same.
#[tokio::test]
async fn secrets_that_others_can_read_are_taken_and_told_of() {
    let kind = all_kinds().await.swap_remove(0);
    let reader = Reader::new(&kind.locked).knowing(PASSPHRASE);
    let files = [
        reader.config.identity_file.clone().unwrap(),
        reader.config.passphrase_file.clone().unwrap(),
    ];
    for (mode, told) in [(0o600, 0), (0o644, 2)] {
        for file in &files {
            std::fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
        }
        let person = Person {
            asked: AtomicUsize::new(0),
            warned: Mutex::default(),
            answer: "",
        };
        Keys::read(&reader.config, &person).await.unwrap();
        let warned = person.warned.into_inner().unwrap();
        assert_eq!(warned.len(), told, "{mode:o}: {warned:?}");
        for (warning, file) in warned.iter().zip(&files) {
            assert!(warning.contains(file.to_str().unwrap()), "{warning}");
        }
    }
}

#[tokio::test]
async fn a_person_is_asked_once_and_only_when_nothing_else_says_it() {
    for kind in all_kinds().await {
        let person = Person {
            asked: AtomicUsize::new(0),
            warned: Mutex::default(),
            answer: PASSPHRASE,
        };
        let reader = Reader::new(&kind.locked);
        Keys::read(&reader.config, &person).await.unwrap();
        assert_eq!(person.asked.load(Ordering::Relaxed), 1);
        let reader = reader.knowing(PASSPHRASE);
        Keys::read(&reader.config, &person).await.unwrap();
        let reader = Reader::new(&kind.open);
        Keys::read(&reader.config, &person).await.unwrap();
        assert_eq!(person.asked.load(Ordering::Relaxed), 1);
    }
}
