//! Runs the property `operations`: see properties/operations.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cowblk_fuzz::operations::run(data));
