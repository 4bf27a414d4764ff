//! Runs the property `format_journal`: see properties/format_journal.rs.
#![no_main]

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cowblk_fuzz::format_journal::run(data));
