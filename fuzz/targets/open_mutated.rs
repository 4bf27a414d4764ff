//! Runs the property `open_mutated`: see properties/open_mutated.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cowblk_fuzz::open_mutated::run(data));
