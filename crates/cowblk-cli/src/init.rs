//! `cowblk init`: makes a store.

use clap::Args;
use cowblk::{Options, Store};

use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::{sizes, status};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow init
  cowblk --store pool.cow init --size-limit 100G --journal 256M
  cowblk --store /dev/vg0/pool init --overwrite")]
pub(crate) struct Arguments {
    /// Bytes of a block: a power of two from 4K to 64K [default: 4K]
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse_nonzero)]
    block_size: Option<u64>,
    /// Bytes of the journal [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse_nonzero)]
    journal: Option<u64>,
    /// Replace whatever the path or device holds now
    #[arg(long)]
    overwrite: bool,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let path = session.path()?;
    let store = Store::create(path, options(session, arguments)?)?;
    let status = store.status();
    store.close()?;
    let text = format!("created the store {} ({})", path.display(), status::summary(&status));
    session.output.item(&status, &text)
}

fn options(session: &Session, arguments: &Arguments) -> Result<Options, Failure> {
    let mut options = session.options().overwrite(arguments.overwrite);
    if let Some(bytes) = arguments.block_size {
        let bytes = u32::try_from(bytes)
            .map_err(|_| Failure::new(Kind::Usage, "the block size must be a power of two from 4K to 64K"))?;
        options = options.block_size(bytes);
    }
    if let Some(bytes) = arguments.journal {
        options = options.journal_bytes(bytes);
    }
    Ok(options)
}
