use std::os::unix::fs::PermissionsExt as _;

use clap::Parser as _;
use seawall_common::tls::{Certificate, Tls, TlsConfig, pem};

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    command: CreateCertificates,
}

fn command(directory: &tempfile::TempDir, args: &[&str]) -> CreateCertificates {
    let directory = directory.path().join("certs").display().to_string();
    let fixed = ["test", "--directory", &directory];
    let line = fixed.iter().chain(args).copied();
    Line::try_parse_from(line).unwrap().command
}

fn made(directory: &tempfile::TempDir, args: &[&str]) -> Result<json::Certificates, Error> {
    let command = command(directory, args);
    command.make(&command.wanted()?)
}

fn read(file: &str) -> Certificate {
    let pem = std::fs::read(file).unwrap();
    Certificate::read(&pem::certificates(&pem).unwrap()[0]).unwrap()
}

#[test]
fn each_gets_a_certificate_that_says_who_it_is_and_a_key_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let all = [
        "--member=1=c1.example,10.0.0.1",
        "--agent=zone1-101=db1.example,::1",
        "--operator=alice",
        "--viewer=grafana",
        "--valid-for=30d",
    ];
    let first = made(&directory, &all).unwrap();
    assert!(first.ca_is_new);
    let who = [
        "coordinator/1",
        "agent/zone1-101",
        "operator/alice",
        "viewer/grafana",
    ];
    assert_eq!(first.certificates.len(), who.len());
    for (one, who) in first.certificates.iter().zip(who) {
        let certificate = read(&one.cert_file);
        assert_eq!(certificate.identity.unwrap().to_string(), who);
        let left_s = certificate.expires_unix_s - i64::try_from(now_unix_ms() / 1000).unwrap();
        assert!((29 * 86400..=30 * 86400).contains(&left_s), "{left_s}");
        let mode = std::fs::metadata(&one.key_file)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        // The programs take it.
        let tls = TlsConfig {
            cert_file: Some((&one.cert_file).into()),
            key_file: Some((&one.key_file).into()),
            ca_file: Some((&first.ca_file).into()),
            http_client_auth: false,
        };
        Tls::load(tls).unwrap();
    }
    let ca_key = directory.path().join("certs/ca.key");
    let mode = std::fs::metadata(ca_key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn nothing_is_overwritten_unless_it_is_to_be_renewed_and_the_authority_never_is() {
    let directory = tempfile::tempdir().unwrap();
    let first = made(&directory, &["--operator=alice"]).unwrap();
    let text = |file: &str| std::fs::read_to_string(file).unwrap();
    let (ca, alice) = (text(&first.ca_file), text(&first.certificates[0].cert_file));

    let refusal = made(&directory, &["--viewer=bob", "--operator=alice"]).unwrap_err();
    assert!(
        refusal.message().contains("operator-alice.crt"),
        "{refusal}"
    );
    assert!(!directory.path().join("certs/viewer-bob.crt").exists());
    assert_eq!(text(&first.certificates[0].cert_file), alice);

    let more = made(&directory, &["--viewer=bob"]).unwrap();
    assert!(!more.ca_is_new);
    let renewed = made(&directory, &["--operator=alice", "--renew"]).unwrap();
    assert_ne!(text(&renewed.certificates[0].cert_file), alice);
    assert_eq!(text(&renewed.ca_file), ca);

    std::fs::remove_file(directory.path().join("certs/ca.key")).unwrap();
    let refusal = made(&directory, &["--viewer=eve"]).unwrap_err();
    assert!(refusal.message().contains("ca.key"), "{refusal}");
    assert_eq!(text(&first.ca_file), ca);
}

#[test]
fn another_authoritys_key_and_what_would_outlive_the_authority_are_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    made(&one, &["--operator=alice"]).unwrap();
    made(&other, &["--operator=alice"]).unwrap();
    let refusal = made(&one, &["--viewer=bob", "--valid-for=20y"]).unwrap_err();
    assert!(refusal.message().contains("outlive"), "{refusal}");
    let key = |of: &tempfile::TempDir| of.path().join("certs/ca.key");
    std::fs::copy(key(&other), key(&one)).unwrap();
    let refusal = made(&one, &["--viewer=bob"]).unwrap_err();
    assert!(
        refusal.message().contains("not the key of ca.crt"),
        "{refusal}"
    );
}

#[test]
fn names_that_mean_nothing_are_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    for args in [
        &[][..],
        &["--member=zero=c1.example"],
        &["--member=0=c1.example"],
        &["--agent=zone1=db1.example"],
        &["--operator=a b"],
        &["--viewer="],
        &["--operator=alice", "--operator=alice"],
    ] {
        assert!(command(&directory, args).wanted().is_err(), "{args:?}");
    }
    let nobody = command(&directory, &[]).wanted().err().unwrap();
    assert!(
        nobody.hint_text().unwrap().contains("--operator"),
        "{nobody}"
    );
    for bad in [
        "--member=1",
        "--member=1=",
        "--agent=zone1-101=a,,b",
        "--member=1=c1:7601",
    ] {
        assert!(
            Line::try_parse_from(["test", "--directory", "d", bad]).is_err(),
            "{bad}"
        );
    }
    assert!(!directory.path().join("certs").exists());
}
