//! `cowblk demo`: a snapshot, a disaster and a restore, in a store that is gone afterwards.
//!
//! `script` tells the story, `files` are the file system in it, `cache` is what an operating system
//! would put between that file system and its disk, `ledger` writes down what each step cost.

mod cache;
mod files;
mod ledger;
mod script;

use std::path::Path;

use clap::Args;

use crate::failure::Failure;
use crate::output::{Output, print};
use crate::sizes::human;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk demo
  cowblk demo --keep

The store is made in a new folder below TMPDIR (or /tmp) and takes a few hundred megabytes for a few seconds. The exit code is not 0 if a single file does not compare as it should.")]
pub(crate) struct Arguments {
    /// Leave the store where it is and say where that is
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(output: Output, arguments: &Arguments) -> Result<(), Failure> {
    if !output.is_json() {
        print(&introduction())?;
    }
    let folder = tempfile::Builder::new().prefix("cowblk-demo-").tempdir();
    let mut folder =
        folder.map_err(|error| Failure::io("make a folder in", &std::env::temp_dir(), &error))?;
    folder.disable_cleanup(arguments.keep);
    let path = folder.path().join("demo.cow");
    let story = script::run(&path, arguments.keep)?;
    output.item(&story, &closing(&story))?;
    clean_up(folder, arguments.keep, &path, output)
}

fn clean_up(folder: tempfile::TempDir, keep: bool, store: &Path, output: Output) -> Result<(), Failure> {
    if keep {
        if output.is_json() { Ok(()) } else { print(&format!("The store is kept: {}", store.display())) }
    } else {
        let path = folder.path().to_owned();
        folder.close().map_err(|error| Failure::io("remove", &path, &error))
    }
}

fn introduction() -> String {
    format!(
        "This makes a store in a temporary folder, puts a FAT file system with {} files on a {} disk in it,\n\
         takes a snapshot, ruins files, and gets them back. After every step that matters, every file is read\n\
         and compared by its BLAKE3.\n",
        files::FILE_COUNT,
        human(script::DISK_BYTES)
    )
}

fn closing(story: &script::Story) -> String {
    format!(
        "{}\n\
         {} file comparisons, no difference. The restore to the older snapshot left the newer one whole.\n\
         The check at the end walked {} blocks and found no defect.\n\
         Blocks are {}; one that is no longer needed counts as used until the collector's checkpoint. Device\n\
         writes are everything the store wrote: data, journal and metadata.",
        ledger::table(&story.steps),
        story.comparisons,
        story.blocks_checked,
        human(u64::from(story.block_size))
    )
}
