//! Runs of the simulation, each a process of its own: chance and time are the process's there.
//! `make sim` has more of them.

use std::process::{Command, Output};

const RUNS: u64 = 4;
const SECONDS: u64 = 45;
/// A planted defect is found within so many runs.
const SEARCHED: u64 = 8;
/// How the program ends when an invariant is broken.
const VIOLATED: i32 = 1;

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
fn i1_i2_i4_i5_what_clients_are_answered_is_right_whatever_goes_wrong() {
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

/// Searches some runs for one in which the planted defect is seen as a violation of the invariant.
fn is_found(bug: &str, seeds: impl IntoIterator<Item = u64>, invariant: &str) {
    let mut seen = Vec::new();
    for seed in seeds {
        let output = sim(seed, &["--bug", bug]);
        let said = said(&output);
        if output.status.code() == Some(VIOLATED) && said.contains(invariant) {
            println!("{bug} is found: {said}");
            return;
        }
        seen.push(said);
    }
    panic!("{bug} was not found:\n{}", seen.join("\n"));
}

#[test]
fn i1_a_proof_from_before_the_timestamp_was_taken_is_found() {
    is_found("proof-first", 2..=SEARCHED, "I1");
}

#[test]
fn a_log_that_is_not_synced_is_found() {
    is_found("no-fsync", 1..=SEARCHED, "VIOLATION");
}

#[test]
fn i5_an_old_token_that_is_accepted_is_found() {
    is_found("old-token", 1..=SEARCHED, "I5");
}

#[test]
fn i1_a_bound_that_is_forgotten_at_a_restart_is_found() {
    is_found("forgotten-bound", 1..=SEARCHED, "I1");
}

#[test]
fn a_command_that_is_applied_twice_is_found() {
    // It breaks whatever it meets, so other checkers see it first in most runs; this is of the one
    // that compares members.
    is_found("applied-twice", 9..9 + SEARCHED, "and differ");
}
