//! Runs the property `catalog_pages`: see properties/catalog_pages.rs.
#![no_main]

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cowblk_fuzz::catalog_pages::run(data));
