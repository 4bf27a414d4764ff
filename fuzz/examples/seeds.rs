//! Seeds: writes a corpus to begin with: `cargo run --example seeds` in fuzz/ fills corpus/<target>/.
//!
//! Each input is random bytes, from the same generator each time: every input means something to these targets.

use std::path::Path;
use std::{fs, io};

use cowblk_fuzz::TARGETS;

const INPUTS: u64 = 200;
const SIZES: [&str; 8] = ["512", "4K", "20GiB", "1T", "16383P", "1.5G", "99999999999999999999", "0"];

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, _) in TARGETS {
        let folder = corpus.join(name);
        fs::create_dir_all(&folder)?;
        for seed in 0..INPUTS {
            fs::write(folder.join(format!("seed-{seed}")), input(name, seed))?;
        }
    }
    Ok(())
}

fn input(target: &str, seed: u64) -> Vec<u8> {
    if target == "sizes" {
        return SIZES[(seed % SIZES.len() as u64) as usize].into();
    }
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..8 + seed * 3).map(|_| byte()).collect()
}
