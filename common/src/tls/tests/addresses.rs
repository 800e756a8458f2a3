use super::*;

#[test]
fn an_address_needs_a_port_and_may_leave_out_the_scheme() {
    for (text, url) in [
        ("http://127.0.0.1:7601", "http://127.0.0.1:7601"),
        ("https://c1.example:7601/", "https://c1.example:7601"),
        ("localhost:7601", "http://localhost:7601"),
        ("https://[::1]:7601", "https://[::1]:7601"),
    ] {
        assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), url);
    }
    for bad in [
        "",
        "localhost",
        "http://:7601",
        "ftp://a:1",
        "http://a:99999",
        "http://a b:1",
        "http://a/b:1",
        "http://me@a:1",
    ] {
        assert!(bad.parse::<ServerUrl>().is_err(), "{bad:?} was taken");
    }
}

#[test]
fn a_role_and_a_name_survive_the_way_through_text() {
    for role in Role::ALL {
        let identity = Identity::new(role, "zone1-101").unwrap();
        let uri = identity.uri();
        let text = uri.strip_prefix("seawall:").unwrap();
        assert_eq!(text.parse::<Identity>().unwrap(), identity);
    }
    for bad in [
        "",
        "operator",
        "operator/",
        "king/a",
        "operator/a b",
        "Operator/a",
        "operator/a/b",
    ] {
        assert!(bad.parse::<Identity>().is_err(), "{bad:?} was taken");
    }
}
