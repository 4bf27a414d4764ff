//! Runs the property `nbd`: see properties/nbd.rs.
#![no_main]

#[path = "../properties/nbd.rs"]
mod nbd;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    nbd::run(data);
});
