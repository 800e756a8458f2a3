use super::*;

fn parsed(line: &str) -> Result<Cli, Stop> {
    parse(line.split_whitespace().map(OsString::from))
}

/// The line that a mistaken command line ends with.
fn mistake_in(line: &str) -> String {
    match parsed(line) {
        Err(Stop::Usage(failure)) => {
            assert_eq!(failure.exit as u8, 2);
            let text = failure.line();
            assert!(!text.contains('\n'), "more than one line: {text:?}");
            text
        }
        other => panic!("{line:?} was not refused: {other:?}"),
    }
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_vitess_spelling_and_kebab_case() {
    for (one, other) in [
        ("ListBackups commerce/0", "list-backups commerce/0"),
        ("BackupShard commerce/-80", "backup-shard commerce/-80"),
        ("InitShardPrimary c/0 z-1", "InitShardMaster c/0 z-1"),
        (
            "PlannedReparentShard c/0 --new-primary z-1",
            "planned-reparent-shard c/0 --new-master z-1",
        ),
        (
            "GetBackup c/0 2026-11-21.031500.z-1",
            "get-backup c/0 2026-11-21.031500.z-1",
        ),
    ] {
        let (one, other) = (
            parsed(&format!("seawallctl {one}")).unwrap(),
            parsed(&format!("seawallctl {other}")).unwrap(),
        );
        assert_eq!(format!("{:?}", one.command), format!("{:?}", other.command));
    }
}

#[test]
fn options_may_have_one_dash_and_underscores_as_in_vitess() {
    let plain = parsed("seawallctl Backup --concurrency=2 --allow-primary zone1-101").unwrap();
    let vitess = parsed("seawallctl Backup -concurrency=2 -allow_primary zone1-101").unwrap();
    assert_eq!(
        format!("{:?}", plain.command),
        format!("{:?}", vitess.command)
    );
    let short = parsed("seawallctl ListTablets -ojson").unwrap();
    assert_eq!(short.global.output, Output::Json);
}

#[test]
fn a_shard_that_begins_with_a_dash_is_a_shard() {
    parsed("seawallctl InitTablet --keyspace commerce --shard -80 zone1-101").unwrap();
}

#[test]
fn names_that_could_leave_their_place_are_wrong_usage() {
    for line in [
        "ListBackups ../0",
        "ListBackups commerce/..",
        "BackupShard commerce/../x",
        "BackupKeyspace ..",
        "ListTablets ../../etc",
        "Backup ../zone1-101",
        "GetBackup commerce/0 ../manifest",
        "backup-lock --status --scope ../x",
        "WatchOperation ../1",
    ] {
        let text = mistake_in(&format!("seawallctl {line}"));
        assert!(text.starts_with("seawallctl: "), "{text}");
    }
    assert_eq!(
        mistake_in("seawallctl Backup zone1"),
        "seawallctl: malformed tablet alias \"zone1\": no '-' in it. An alias is written \
         cell-uid: zone1-101."
    );
}

#[test]
fn mistakes_are_told_in_one_line_with_what_would_be_right() {
    let text = mistake_in("seawallctl ListBackup commerce/0");
    assert!(
        text.contains("unrecognized subcommand 'ListBackup'"),
        "{text}"
    );
    assert!(text.contains("ListBackups"), "{text}");
    let text = mistake_in("seawallctl Backup");
    assert!(text.contains("Usage: seawallctl Backup"), "{text}");
    let text = mistake_in("seawallctl Backup --concurrency 0 zone1-101");
    assert!(text.contains("0"), "{text}");
    let text = mistake_in("seawallctl ChangeTabletType zone1-101 primary");
    assert!(text.contains("replica"), "{text}");
    mistake_in("seawallctl backup-lock --break");
    mistake_in("seawallctl backup-lock");
    mistake_in("seawallctl timestamp fast-forward");
    mistake_in("seawallctl --coordinator ftp://a:1 ListTablets");
    let bare = mistake_in("seawallctl backup-lock --break --reason fire");
    assert!(bare.contains("--id") && bare.contains("--scope"), "{bare}");
    mistake_in("seawallctl backup-lock --release --id nosuch");
    let text = mistake_in("seawallctl Backup --mode hot zone1-101");
    assert!(text.contains("cold"), "{text}");
    parsed("seawallctl Backup --mode cold zone1-101").unwrap();
}

#[test]
fn a_value_that_makes_no_sense_is_told_with_its_option() {
    for (line, option) in [
        ("--timeout 0s ListTablets", "--timeout"),
        ("backup-lock --acquire --for 0s", "--for"),
        ("Backup --deadline 0s zone1-101", "--deadline"),
        ("Backup --deadline=soon zone1-101", "--deadline"),
    ] {
        let text = mistake_in(&format!("seawallctl {line}"));
        assert!(text.contains(&format!("{option}: ")), "{text}");
    }
}

#[test]
fn several_coordinators_may_be_named() {
    let cli = parsed("seawallctl --coordinator http://a:1,b:2 ListTablets").unwrap();
    let members = cli.global.members(|_| Some("http://c:3".into())).unwrap();
    let urls: Vec<String> = members.iter().map(ToString::to_string).collect();
    assert_eq!(urls, ["http://a:1", "http://b:2"]);
}

#[test]
fn the_variable_names_coordinators_unless_it_is_empty_or_a_flag_does() {
    let cli = parsed("seawallctl ListTablets").unwrap();
    let members = |value: &str| cli.global.members(|_| Some(value.to_owned()));
    assert_eq!(members("a:1,b:2").unwrap().len(), 2);
    for unset in ["", " "] {
        let urls = members(unset).unwrap();
        assert_eq!(urls[0].to_string(), COORDINATOR_DEFAULT);
    }
    let text = members("nonsense").unwrap_err().to_string();
    assert!(text.starts_with("SEAWALL_COORDINATOR: "), "{text}");
}

/// Words as a shell makes them: quotes hold together, what is behind a pipe is another program's.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The command lines in a document: those behind a prompt, and those in the text that are whole.
fn command_lines(text: &str) -> Vec<String> {
    let prompts = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("$ "));
    let in_text = text.split('`').skip(1).step_by(2);
    let in_text = in_text.filter(|code| !code.contains(['\n', '<', '|', '[']));
    prompts
        .chain(in_text)
        .filter(|line| line.starts_with("seawallctl ") && !line.starts_with("seawallctl -"))
        .filter(|line| !line.contains("..."))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_line_in_the_documents_is_one_that_is_understood() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut count = 0;
    let mut wrong = Vec::new();
    for document in std::fs::read_dir(docs).unwrap() {
        let document = document.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&document) else {
            continue;
        };
        for line in command_lines(&text) {
            count += 1;
            let parsed = parse(words(&line).into_iter().map(OsString::from));
            if let Err(Stop::Usage(failure)) = parsed {
                wrong.push(format!(
                    "{}: {line}: {}",
                    document.display(),
                    failure.line()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 40, "only {count} command lines were found");
}
