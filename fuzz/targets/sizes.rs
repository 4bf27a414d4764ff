//! Runs the property `sizes`: see properties/sizes.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cowblk_fuzz::sizes::run(data));
