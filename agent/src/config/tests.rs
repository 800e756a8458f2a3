use super::*;
use seawall_common::config::{load, with_settings};

const LEAST: &str = r#"
alias = "zone1-101"
keyspace = "commerce"
shard = "0"
coordinators = ["http://127.0.0.1:7601"]
state_dir = "/var/lib/seawall/zone1-101"
[repository]
url = "file:///backups"
[engine]
kind = "files"
"#;

fn read(file: &str, args: &[&str]) -> Result<Settings> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.toml");
    std::fs::write(&path, file).unwrap();
    let settings = settings();
    let mut all = vec!["seawall-agent", "--config", path.to_str().unwrap()];
    all.extend(args);
    let matches = with_settings(clap::Command::new("seawall-agent"), &settings)
        .try_get_matches_from(all)
        .map_err(|e| Error::invalid(e.to_string()))?;
    let loaded = load::<Settings>(&settings, &matches, |_| None)?;
    loaded.settings.check()?;
    Ok(loaded.settings)
}

fn refusal(file: &str, args: &[&str]) -> String {
    let text = read(file, args).unwrap_err().to_string();
    assert!(!text.contains('\n'), "more than a line: {text}");
    text
}

#[test]
fn the_least_that_a_file_holds_is_enough() {
    let settings = read(LEAST, &[]).unwrap();
    assert_eq!(settings.shard().unwrap().to_string(), "commerce/0");
    assert_eq!(settings.agent_address(), "http://127.0.0.1:7611");
    assert_eq!(settings.restore_concurrency, 4);
    assert_eq!(settings.operation_silence, Duration::from_secs(120));
    assert!(!settings.restore_from_backup && !settings.initialize);
    assert_eq!(settings.transfer_limit, None);
    let limited = read(LEAST, &["--transfer-limit=50MB"]).unwrap();
    assert_eq!(limited.transfer_limit, Some(50_000_000));
}

#[test]
fn wrong_input_is_named_in_one_line() {
    for (wrong, args, says) in [
        (
            LEAST.replace("zone1-101\"\nkey", "zone1\"\nkey"),
            vec![],
            "alias",
        ),
        (
            LEAST.replace("\"commerce\"", "\"../x\""),
            vec![],
            "keyspace",
        ),
        (
            LEAST.replace("shard = \"0\"", "shard = \"../0\""),
            vec![],
            "shard",
        ),
        (
            LEAST.replace("keyspace =", "keyspaec ="),
            vec![],
            "Did you mean \"keyspace\"?",
        ),
        (
            LEAST.into(),
            vec!["--drain-time=soon"],
            "--drain-time: \"soon\"",
        ),
        (
            LEAST.into(),
            vec!["--transfer-limit=fast"],
            "--transfer-limit: malformed rate \"fast\"",
        ),
        (LEAST.into(), vec!["--coordinators="], "coordinator"),
        (
            LEAST.into(),
            vec!["--coordinators=host:7601"],
            "http://host:port",
        ),
        (
            LEAST.into(),
            vec!["--restore-concurrency=0"],
            "restore_concurrency",
        ),
        (
            LEAST.into(),
            vec!["--listen=nowhere"],
            "--listen: \"nowhere\"",
        ),
    ] {
        let text = refusal(&wrong, &args);
        assert!(text.contains(says), "{says:?} is not in: {text}");
    }
}

#[test]
fn a_listener_beyond_loopback_needs_insecure() {
    for flag in ["--listen=0.0.0.0:7611", "--http-listen=10.0.0.1:7612"] {
        assert!(refusal(LEAST, &[flag]).contains("--insecure"));
        read(LEAST, &[flag, "--insecure"]).unwrap();
    }
}

#[test]
fn restoring_from_an_encrypted_repository_needs_an_identity() {
    let encrypted = ["--restore-from-backup", "--repository-recipients=age1abc"];
    assert!(refusal(LEAST, &encrypted).contains("identity"));
    read(LEAST, &encrypted[1..]).unwrap();
    let with_identity = [&encrypted[..], &["--repository-identity-file=/key"]].concat();
    read(LEAST, &with_identity).unwrap();
}
