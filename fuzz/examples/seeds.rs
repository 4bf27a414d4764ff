//! Seeds: writes a corpus to begin with: `cargo run --example seeds` in fuzz/ fills corpus/<target>/.

use std::path::Path;
use std::{fs, io};

use cowblk_fuzz::{TARGETS, seeds};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, _) in TARGETS {
        let folder = corpus.join(name);
        fs::create_dir_all(&folder)?;
        for (nth, input) in seeds::seeds(name).iter().enumerate() {
            fs::write(folder.join(format!("seed-{nth}")), input)?;
        }
    }
    Ok(())
}
