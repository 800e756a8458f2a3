use super::*;

fn understand_args(args: &[&str]) -> Result<Request> {
    let args = std::iter::once("seawall-coordinator").chain(args.iter().copied());
    let matches = command()
        .try_get_matches_from(args)
        .map_err(|e| Error::invalid(e.to_string()))?;
    understand(&matches, |_| None)
}

#[test]
fn the_least_that_can_be_said_is_enough() {
    let args = ["--data-dir", "/d", "--repository", "file:///r"];
    let Request::Run(settings) = understand_args(&args).unwrap() else {
        panic!("not a run");
    };
    assert_eq!(settings.listen.port(), 7601);
    assert_eq!(settings.removal_grace, Duration::from_secs(24 * 3600));
    assert_eq!(settings.repository.url, "file:///r");
    assert!(settings.peers.is_empty());
}

#[test]
fn a_listener_that_others_reach_needs_tls_or_insecure() {
    let args = ["--data-dir", "/d", "--listen", "0.0.0.0:1"];
    let error = understand_args(&args).unwrap_err();
    assert!(error.to_string().contains("--insecure"), "{error}");
    assert!(error.to_string().contains("tls.cert_file"), "{error}");
    understand_args(&[&args[..], &["--insecure"]].concat()).unwrap();
    let certified = ["--tls-cert-file", "/c", "--tls-key-file", "/k"];
    understand_args(&[&args[..], &certified].concat()).unwrap();
    let authority = ["--tls-ca-file", "/ca"];
    understand_args(&[&args[..], &authority].concat()).unwrap_err();
}

#[test]
fn peers_that_make_no_sense_are_named() {
    let init =
        |peers| understand_args(&["init", "--data-dir", "/d", "--id", "1", "--peers", peers]);
    for bad in [
        "",
        "1",
        "1=a",
        "1=a:x",
        "0=a:1",
        "1=a:1,1=b:1",
        "1=a:1,2=a:1",
        "1=http://a:1",
    ] {
        assert!(init(bad).is_err(), "{bad:?} was taken");
    }
    let Request::Init { id, members, .. } = init("1=a:1, 2=[::1]:2").unwrap() else {
        panic!("not init");
    };
    assert_eq!((id, members.len(), members[&2].as_str()), (1, 2, "[::1]:2"));
}

#[test]
fn one_that_joins_names_where_the_group_is() {
    let join =
        |peers| understand_args(&["join", "--data-dir", "/d", "--id", "4", "--peers", peers]);
    for bad in ["", "a", "a:x", "http://a:1", "a:1,", "a@b:1", "a b:1"] {
        assert!(join(bad).is_err(), "{bad:?} was taken");
    }
    let Request::Join { id, addresses, .. } = join("a:1, 2=[::1]:2").unwrap() else {
        panic!("not join");
    };
    assert_eq!((id, addresses), (4, vec!["a:1".into(), "[::1]:2".into()]));
}

#[test]
fn a_lease_that_a_moment_would_end_is_refused() {
    let error = understand_args(&["--data-dir", "/d", "--agent-lease", "1s"]).unwrap_err();
    assert!(error.to_string().contains("agent_lease"), "{error}");
}

#[test]
fn a_limit_of_nothing_or_without_end_is_refused_by_name() {
    for bad in ["0", "2000000"] {
        let args = ["--data-dir", "/d", "--limits-watchers", bad];
        let error = understand_args(&args).unwrap_err();
        assert!(error.to_string().contains("limits.watchers"), "{error}");
    }
}

#[test]
fn a_duration_without_a_unit_is_refused_by_name() {
    let error = understand_args(&["--data-dir", "/d", "--removal-grace", "5"]).unwrap_err();
    assert!(error.to_string().contains("removal_grace"), "{error}");
}
