//! Runs of the simulation, each a process of its own: chance and time are the process's there.
//! `make sim` has more of them.

use std::process::{Command, Output};

const RUNS: u64 = 4;
const SECONDS: u64 = 45;
/// A planted defect is found within so many runs.
const SEARCHED: u64 = 12;

fn sim(seed: u64, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["--seed", &seed.to_string()])
        .args(["--seconds", &SECONDS.to_string()])
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn i1_i4_i5_what_clients_are_answered_is_right_whatever_goes_wrong() {
    let mut violations = Vec::new();
    for seed in 1..=RUNS {
        let output = sim(seed, &[]);
        print!("{}", said(&output));
        if !output.status.success() {
            violations.push(said(&output));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let (one, again) = (sim(4, &[]), sim(4, &[]));
    assert!(said(&one).contains("fingerprint"), "{}", said(&one));
    assert_eq!(said(&one), said(&again));
}

/// Searches the first runs for one in which the planted defect is seen.
fn is_found(bug: &str, invariant: &str) {
    for seed in 1..=SEARCHED {
        let output = sim(seed, &["--bug", bug]);
        if !output.status.success() {
            let said = said(&output);
            println!("{bug} is found by seed {seed}: {said}");
            assert!(said.contains(invariant), "{said}");
            return;
        }
    }
    panic!("{bug} was not found in {SEARCHED} runs");
}

#[test]
fn i5_an_old_token_that_is_accepted_is_found() {
    is_found("old-token", "I5");
}

#[test]
fn a_command_that_is_applied_twice_is_found() {
    is_found("applied-twice", "");
}
