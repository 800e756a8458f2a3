//! Starts that work, and starts that are refused with one clear line.

use nix::sys::signal::Signal;

use super::harness::{Group, eventually, run};

#[tokio::test]
async fn i1_a_group_of_one_makes_what_it_needs_and_keeps_it_over_stop_and_kill() {
    let mut group = Group::start(1).await;
    let first = group.members[0].fetch(10).await.unwrap();
    let status = group.members[0].status().await.unwrap();
    assert!(!status.group_id.is_empty());
    assert_eq!((status.leader, status.members.len()), (1, 1));

    let mut last = first + 9;
    for round in 0..4 {
        if round % 2 == 0 {
            assert_eq!(group.members[0].terminate(), 0);
        } else {
            group.members[0].kill();
        }
        group.members[0].start(&[]);
        group.leader().await;
        let next = group.members[0].fetch(1).await.unwrap();
        assert!(next > last, "{next} after {last}");
        last = next;
        let again = group.members[0].status().await.unwrap();
        assert_eq!(again.group_id, status.group_id);
    }
}

#[tokio::test]
async fn its_http_side_says_how_it_is() {
    let group = Group::start(1).await;
    let member = &group.members[0];
    member.fetch(3).await.unwrap();
    for (path, expected) in [
        ("/healthz", "200 OK"),
        ("/readyz", "coordinator 1 leads"),
        ("/metrics", "seawall_coordinator_timestamps_given_total 3"),
        ("/nothing", "404 Not Found"),
    ] {
        let answer = member.http(path).await.unwrap();
        assert!(answer.contains(expected), "{path}: {answer}");
    }
}

async fn wait_for_refusal(group: &Group, what: &str, expected: impl Fn(&str) -> bool) {
    eventually(what, || async {
        let status = group.members[0].status().await?;
        expected(&status.repository_refusal).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_second_group_does_not_own_the_repository_until_it_takes_it_over() {
    let is_refused = |text: &str| text.contains("belongs to coordinator group");
    let first = Group::start(1).await;
    wait_for_refusal(&first, "the first group owns it", str::is_empty).await;
    let mut second = Group::plan(1);
    second.members[0].repository = first.members[0].repository.clone();
    second.members[0].start(&[]);
    wait_for_refusal(&second, "the second group is refused", is_refused).await;

    second.members[0].terminate();
    second.members[0].start(&["--take-over-repository"]);
    wait_for_refusal(&second, "the second group owns it", str::is_empty).await;
    wait_for_refusal(&first, "the first finds itself refused", is_refused).await;
}

#[tokio::test]
async fn a_hangup_is_survived_and_a_member_that_waits_for_its_group_ends_cleanly() {
    let group = Group::start(1).await;
    group.members[0].signal(Signal::SIGHUP);
    group.members[0].fetch(1).await.unwrap();

    let mut lonely = Group::plan(3);
    lonely.members[0].init(&lonely.peers());
    lonely.members[0].start(&[]);
    eventually("it is alive", || async {
        lonely.members[0].http("/healthz").await.ok()
    })
    .await;
    let ready = lonely.members[0].http("/readyz").await.unwrap();
    assert!(ready.contains("503"), "{ready}");
    assert_eq!(lonely.members[0].terminate(), 0);
}

#[test]
fn a_start_that_cannot_work_is_refused_with_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let data = path("data");
    let repository = format!("file://{}", path("repository"));
    std::fs::write(path("file"), "").unwrap();
    std::fs::write(path("bad.toml"), "data_dri = '/x'\n").unwrap();
    let initialised = path("initialised");
    let init = [
        "init",
        "--data-dir",
        &initialised,
        "--id",
        "1",
        "--peers",
        "1=a:1,2=b:1",
    ];
    assert!(run(&init).status.success());

    let in_file = path("file/data");
    let bad_config = path("bad.toml");
    let file_repository = format!("file://{}", path("file"));
    for (args, code, says) in [
        (
            vec!["--data-dir", &in_file, "--repository", &repository],
            1,
            "data directory",
        ),
        (vec!["--repository", &repository], 1, "Set data_dir"),
        (vec!["--data-dir", &data], 1, "no repository is configured"),
        (
            vec!["--data-dir", &data, "--repository", "ftp://x/y"],
            1,
            "unknown repository scheme",
        ),
        (
            vec!["--data-dir", &data, "--repository", &file_repository],
            1,
            "repository",
        ),
        (
            vec!["--config", &bad_config],
            1,
            "Did you mean \"data_dir\"?",
        ),
        (
            vec!["--data-dir", &data, "--listen", "0.0.0.0:1"],
            1,
            "--insecure",
        ),
        (
            vec![
                "--data-dir",
                &data,
                "--repository",
                &repository,
                "--peers",
                "1=a:1,2=b:1",
            ],
            1,
            "init",
        ),
        (
            vec![
                "--data-dir",
                &data,
                "--log-format",
                "xml",
                "--repository",
                &repository,
            ],
            1,
            "log format",
        ),
        (init.to_vec(), 1, "belongs to a member already"),
        (
            vec!["init", "--data-dir", &data, "--id", "3", "--peers", "1=a:1"],
            1,
            "not among the peers",
        ),
        (
            vec!["init", "--data-dir", &data, "--id", "x", "--peers", "1=a:1"],
            2,
            "invalid value",
        ),
        (vec!["--no-such-flag"], 2, "unexpected argument"),
    ] {
        let output = run(&args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?}: {text}");
        if code == 1 {
            assert_eq!(text.trim_end().lines().count(), 1, "{args:?}: {text}");
        }
    }
    let printed = run(&["--data-dir", &data, "--print-config"]);
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("# flag --data-dir"), "{printed}");
}
