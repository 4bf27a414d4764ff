//! Pace: how long the properties take, without a fuzzer: `cargo run --release --example pace TARGET [FOLDER]`.
//!
//! Runs every input of a folder (corpus/TARGET where none is given), and prints the microseconds that one takes.

use std::error::Error;
use std::time::Instant;
use std::{env, fs};

const ROUNDS: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let target = env::args().nth(1).ok_or("which target?")?;
    let folder = env::args().nth(2).unwrap_or(format!("{}/corpus/{target}", env!("CARGO_MANIFEST_DIR")));
    let (_, property) =
        cowblk_fuzz::TARGETS.iter().find(|(name, _)| *name == target).ok_or("no such target")?;
    let inputs = fs::read_dir(folder)?.map(|entry| fs::read(entry?.path())).collect::<Result<Vec<_>, _>>()?;
    property(&[]);
    let started = Instant::now();
    for _ in 0..ROUNDS {
        inputs.iter().for_each(|input| property(input));
    }
    let runs = ROUNDS * inputs.len() as u32;
    println!("{target}: {} inputs, {:?} each", inputs.len(), started.elapsed() / runs.max(1));
    Ok(())
}
