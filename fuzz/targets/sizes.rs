//! Runs the property `sizes`: see properties/sizes.rs.
#![no_main]

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cowblk_fuzz::sizes::run(data));
