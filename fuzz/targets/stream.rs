//! Runs the property `stream`: see properties/stream.rs.
#![no_main]

#[path = "../properties/stream.rs"]
mod stream;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    stream::run(data);
});
