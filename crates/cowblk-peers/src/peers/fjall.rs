//! fjall: a log-structured merge tree as a block map.

use super::{Outcome, Peer};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use std::path::Path;

/// A keyspace from block to bytes.
pub(crate) struct Fjall {
    database: Database,
    blocks: Keyspace,
}

impl Fjall {
    pub(crate) const NAME: &str = "fjall";

    pub(crate) fn new(dir: &Path, _: u64) -> Outcome<Self> {
        let database = Database::builder(dir.join("peer.fjall"))
            .cache_size(1 << 30)
            .manual_journal_persist(true)
            .open()?;
        let options = || {
            KeyspaceCreateOptions::default()
                .with_kv_separation(Some(KvSeparationOptions::default()))
                .expect_point_read_hits(true)
                .manual_journal_persist(true)
        };
        let blocks = database.keyspace("blocks", options)?;
        Ok(Self { database, blocks })
    }
}

impl Peer for Fjall {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn setting(&self) -> String {
        "fjall 3.1, a cache of 1 GiB, values apart from keys, no compression, the journal kept in memory between syncs; a sync is `PersistMode::SyncData`"
            .into()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Outcome {
        for (block, part) in (offset / 4096..).zip(buf.chunks_mut(4096)) {
            let value = self.blocks.get(block.to_be_bytes())?.ok_or("fjall: a block is missing")?;
            part.copy_from_slice(&value);
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Outcome {
        for (block, part) in (offset / 4096..).zip(buf.chunks(4096)) {
            self.blocks.insert(block.to_be_bytes(), part)?;
        }
        Ok(())
    }

    fn sync(&self) -> Outcome {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }
}
