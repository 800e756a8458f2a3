use serde::Deserialize;

use super::*;
use crate::error::{Error, Result};

const SETTINGS: &[Setting] = &[
    Setting::new("alias", Kind::Text, "Who we are"),
    Setting::new("listen", Kind::Text, "Where we listen").default("127.0.0.1:1"),
    Setting::new("coordinators", Kind::List, "Whom we ask").default(""),
    Setting::new("wait", Kind::Text, "How long").default("1"),
    Setting::new("engine.restore", Kind::Bool, "Whether").default("false"),
    // In no struct: it is never set here.
    Setting::new("engine.inner.port", Kind::Integer, "A section in a section"),
    Setting::new("engine.password", Kind::Text, "Hush")
        .secret()
        .default(""),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    alias: String,
    listen: String,
    coordinators: Vec<String>,
    #[serde(deserialize_with = "number")]
    wait: u32,
    engine: Engine,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Engine {
    restore: bool,
    password: String,
}

fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| serde::de::Error::custom(format!("{text:?} is no number")))
}

fn run(file: &str, args: &[&str], environment: &[(&str, &str)]) -> Result<Loaded<Sample>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.toml");
    std::fs::write(&path, file).unwrap();
    let mut all = vec!["test", "--config", path.to_str().unwrap()];
    all.extend(args);
    let matches = with_settings(Command::new("test"), SETTINGS)
        .try_get_matches_from(all)
        .map_err(|e| Error::invalid(e.to_string()))?;
    load(SETTINGS, &matches, |name| {
        environment
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let file = "alias = 'file'\nlisten = 'file'\n[engine]\nrestore = true\npassword = 'pw'\n";
    let loaded = run(
        file,
        &["--alias", "flag"],
        &[
            ("SEAWALL_ALIAS", "env"),
            ("SEAWALL_LISTEN", "env"),
            ("SEAWALL_COORDINATORS", "a, b"),
        ],
    )
    .unwrap();
    let settings = loaded.settings;
    assert_eq!(
        (settings.alias.as_str(), settings.listen.as_str()),
        ("flag", "env")
    );
    assert_eq!(settings.coordinators, ["a", "b"]);
    assert_eq!(settings.wait, 1);
    assert!(settings.engine.restore);
    assert_eq!(settings.engine.password, "pw");
    assert!(!loaded.printed.contains("pw"), "{}", loaded.printed);
    assert!(
        loaded
            .printed
            .contains("alias = \"flag\"  # flag --alias\n")
    );
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_right_one() {
    let error = run("alias = 'a'\n[engine]\nrestroe = true\n", &[], &[]).unwrap_err();
    assert!(
        error.to_string().contains("unknown key \"engine.restroe\""),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("Did you mean \"engine.restore\"?"),
        "{error}"
    );
    assert!(run("zzz = 1\n", &[], &[]).is_err());
    assert!(run("engine = 1\n", &[], &[]).is_err());
}

#[test]
fn an_unknown_section_is_named_with_the_nearest_right_one() {
    for wrong in ["engin", "eng"] {
        let error = run(&format!("alias = 'a'\n[{wrong}]\nx = 1\n"), &[], &[]).unwrap_err();
        assert_eq!(
            error.hint_text(),
            Some("Did you mean \"engine\"?"),
            "{error}"
        );
    }
}

#[test]
fn a_value_that_does_not_fit_is_named_with_where_it_came_from() {
    let refusal = |file: &str, args: &[&str], environment: &[(&str, &str)]| {
        let text = run(file, args, environment).unwrap_err().to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    };
    let good = "alias = 'a'\n";
    assert_eq!(
        refusal(good, &["--wait", "soon"], &[]),
        "--wait: \"soon\" is no number"
    );
    assert_eq!(
        refusal(good, &[], &[("SEAWALL_WAIT", "later")]),
        "SEAWALL_WAIT: \"later\" is no number"
    );
    for (file, says) in [
        ("alias = 'a'\nwait = 'never'\n", "a.toml: wait: \"never\""),
        ("alias = 7\n", "a.toml: alias: invalid type"),
        (
            "alias = 'a'\ncoordinators = ['x', 1]\n",
            "a.toml: coordinators[1]: invalid type",
        ),
        (
            "alias = 'a'\n[engine]\nrestore = 'yes'\n",
            "a.toml: engine.restore: invalid type",
        ),
    ] {
        let text = refusal(file, &[], &[]);
        assert!(text.contains(says), "{text}");
    }
    let text = refusal("alias = 'a'\n[engine]\npassword = 1234\n", &[], &[]);
    assert!(text.contains("engine.password"), "{text}");
    assert!(!text.contains("1234"), "{text}");
}

#[test]
fn a_bare_flag_means_true_and_a_missing_setting_is_named() {
    assert!(
        run("alias='a'", &["--engine-restore"], &[])
            .unwrap()
            .settings
            .engine
            .restore
    );
    let error = run("listen = 'x'", &[], &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("Set alias in the file, --alias or SEAWALL_ALIAS."),
        "{error}"
    );
    assert!(run("alias='a'", &["--engine-restore=perhaps"], &[]).is_err());
}

#[test]
fn a_secret_is_never_a_flag() {
    assert!(run("alias='a'", &["--engine-password", "x"], &[]).is_err());
}

#[test]
fn a_mistaken_flag_is_told_in_one_line_with_what_would_be_right() {
    let told = |flag: &str| {
        let command = with_settings(Command::new("test"), SETTINGS);
        let error = command.try_get_matches_from(["test", flag]).unwrap_err();
        let text = mistake(&error, "test").to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    };
    let text = told("--listne");
    assert!(text.contains("'--listne'"), "{text}");
    assert!(text.contains("Did you mean --listen?"), "{text}");
    assert!(told("--frobnicate").contains("'--frobnicate'"));
}
