//! Runs the property `format_tables`: see properties/format_tables.rs.
#![no_main]

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cowblk_fuzz::format_tables::run(data));
