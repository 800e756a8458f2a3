#![no_main]

use seawall_common::repository::fuzzing;

libfuzzer_sys::fuzz_target!(
    init: fuzzing::write_seeds_if_asked("list"),
    |bytes: &[u8]| fuzzing::list(bytes)
);
