//! Runs the property `open_mutated`: see properties/open_mutated.rs.
#![no_main]

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cowblk_fuzz::open_mutated::run(data));
