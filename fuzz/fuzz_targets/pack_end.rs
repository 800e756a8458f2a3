#![no_main]

use seawall_common::repository::fuzzing;

libfuzzer_sys::fuzz_target!(
    init: fuzzing::write_seeds_if_asked("pack_end"),
    |bytes: &[u8]| fuzzing::pack_end(bytes)
);
