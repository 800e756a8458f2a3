#![no_main]

use seawall_common::repository::fuzzing;

libfuzzer_sys::fuzz_target!(
    init: fuzzing::write_seeds_if_asked("manifest"),
    |bytes: &[u8]| fuzzing::manifest(bytes)
);
