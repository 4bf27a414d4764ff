//! redb: a B-tree as a block map.

use super::{Outcome, Peer, Snapshots};
use redb::{
    Builder, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use std::path::Path;
use std::sync::Mutex;

const BLOCKS: TableDefinition<u64, &[u8]> = TableDefinition::new("blocks");

/// A table from block to bytes.
pub(crate) struct Redb {
    database: Database,
    /// What was written since the last sync, or a view of what is there if nothing was.
    session: Mutex<Session>,
    savepoint: Option<u64>,
}

enum Session {
    None,
    Writing(Box<WriteTransaction>),
    Reading(ReadOnlyTable<u64, &'static [u8]>),
}

impl Redb {
    pub(crate) const NAME: &str = "redb";

    pub(crate) fn new(dir: &Path, _: u64) -> Outcome<Self> {
        let database = Builder::new().set_cache_size(1 << 30).create(dir.join("peer.redb"))?;
        Ok(Self { database, session: Mutex::new(Session::None), savepoint: None })
    }

    fn session(&self) -> Outcome<std::sync::MutexGuard<'_, Session>> {
        self.session.lock().map_err(|_| "a thread panicked with redb's session".into())
    }
}

fn copy(table: &impl ReadableTable<u64, &'static [u8]>, buf: &mut [u8], offset: u64) -> Outcome {
    for (block, part) in (offset / 4096..).zip(buf.chunks_mut(4096)) {
        let value = table.get(block)?.ok_or("redb: a block is missing")?;
        part.copy_from_slice(value.value());
    }
    Ok(())
}

impl Peer for Redb {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn setting(&self) -> String {
        "redb 4.5, a cache of 1 GiB, a table from block to 4 KiB; one write transaction from sync to sync, committed as `Durability::Immediate`; a \
         snapshot is a persistent savepoint"
            .into()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Outcome {
        let mut session = self.session()?;
        if let Session::None = *session {
            *session = Session::Reading(self.database.begin_read()?.open_table(BLOCKS)?);
        }
        match &*session {
            Session::Writing(transaction) => copy(&transaction.open_table(BLOCKS)?, buf, offset),
            Session::Reading(table) => copy(table, buf, offset),
            Session::None => Err("redb: no session".into()),
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Outcome {
        let mut session = self.session()?;
        if !matches!(*session, Session::Writing(_)) {
            *session = Session::Writing(Box::new(self.database.begin_write()?));
        }
        if let Session::Writing(transaction) = &*session {
            let mut table = transaction.open_table(BLOCKS)?;
            for (block, part) in (offset / 4096..).zip(buf.chunks(4096)) {
                table.insert(block, part)?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Outcome {
        if let Session::Writing(transaction) = std::mem::replace(&mut *self.session()?, Session::None) {
            transaction.commit()?;
        }
        Ok(())
    }

    fn snapshots(&mut self) -> Option<&mut dyn Snapshots> {
        Some(self)
    }
}

impl Snapshots for Redb {
    fn take(&mut self) -> Outcome {
        self.sync()?;
        let transaction = self.database.begin_write()?;
        self.savepoint = Some(transaction.persistent_savepoint()?);
        Ok(transaction.commit()?)
    }

    fn forget(&mut self) -> Outcome {
        self.sync()?;
        if let Some(savepoint) = self.savepoint.take() {
            let transaction = self.database.begin_write()?;
            transaction.delete_persistent_savepoint(savepoint)?;
            transaction.commit()?;
        }
        Ok(())
    }
}
