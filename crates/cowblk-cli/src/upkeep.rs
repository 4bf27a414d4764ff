//! Upkeep: what a process that keeps a store open does with deleted content. Options of `cowblk nbd` and `cowblk serve`.

use clap::Args;
use cowblk::Options;

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct UpkeepArguments {
    /// Blocks of deleted content that the collector gives back in a second, at most [default: as many as it comes to
    /// beside the clients]
    #[arg(long, value_name = "BLOCKS", value_parser = clap::value_parser!(u64).range(1..))]
    collect_rate: Option<u64>,
    /// Give the space of blocks that become free back to the file system or device below the store
    #[arg(long)]
    punch_holes: bool,
}

impl UpkeepArguments {
    pub(crate) fn adapt(self, options: Options) -> Options {
        options.collect_rate(self.collect_rate).punch_holes(self.punch_holes)
    }
}
