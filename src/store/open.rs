//! Open: making a store, opening it, closing it.
//!
//! Floor 5.

use super::engine::Engine;
use super::full::Room;
use super::head::Head;
use super::holes::back_tables;
use super::latencies::Times;
use super::maintenance::{Maintainer, Signal};
use super::notices::{NoticeBoard, Notices};
use super::options::Options;
use super::replay::zones_after;
use super::state::State;
use super::statistics::{Counters, Stats, Status};
use super::takeover::{Takeover, handover_path};
use super::templates::Templates;
use super::watermarks::Watermarks;
use super::write_behind::{WriteBehind, Writer};
use crate::catalog::{Catalog, PageStore};
use crate::commit::{
    Checkpointer, Journal, Recovered, RunTable, check_length, read_catalog, read_checkpoint, read_superblock,
    recover, write_superblock,
};
use crate::device::{Access, Device, FileDevice, Latched, Metered, owner_of};
use crate::error::{Error, ErrorKind, Result};
use crate::extent::NodeSource;
use crate::format::{CheckpointRecord, Geometry, HEADER_BYTES, JOURNAL_UNIT, Root, Superblock};
use crate::space::{Allocator, Gate, Group, Totals, ZoneTables};
use crate::units::{BlockRun, Epoch, Generation, Sequence, SnapshotId, index, wide};
use parking_lot::{Mutex, RwLock};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zerocopy::little_endian::U64;

/// About how many bytes a zone has unless told otherwise.
const ZONE_BYTES_DEFAULT: u64 = 64 << 20;

/// An open store. Clones are handles of the same store; dropping the last handle (those of its
/// servers, disks and snapshots included) closes it.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("pool.cow");
/// use cowblk::{Options, Store};
///
/// let store = Store::create(&path, Options::default().journal_bytes(1 << 20))?;
/// let web = store.create_server("web-server-01")?;
/// let disk = web.create_disk("vda", 1 << 30)?;
/// disk.write_at(b"before", 4096)?;
/// let snapshot = web.snapshot("pre-migration", "Before major migration")?;
/// disk.write_at(b"ruined", 4096)?;
/// web.restore(snapshot.id())?;
///
/// let mut text = [0; 6];
/// disk.read_at(&mut text, 4096)?;
/// assert_eq!(&text, b"before");
/// store.delete_snapshot(snapshot.id())?;
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

/// What all handles of a store share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    threads: Mutex<Option<(Maintainer, Writer)>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("status", &self.status()).finish()
    }
}

impl std::ops::Deref for Shared {
    type Target = Engine;
    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Store {
    /// Makes a store in a new file, or on a block device.
    ///
    /// # Errors
    /// `Exists` if a file is there or the device holds data, `Invalid` for impossible options, `Full`,
    /// `Busy`, `Io`.
    pub fn create(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref();
        let said =
            |error: Error| error.while_doing(format_args!("cannot make a store at {}", path.display()));
        geometry_of(&options).map_err(said)?;
        let device = FileDevice::create(path, options.overwrite)?;
        Self::create_on(Arc::new(as_asked(device, &options)), options).map_err(said)
    }

    /// Opens a store for reading and writing. Nobody else can have it open meanwhile.
    ///
    /// # Errors
    /// `NotFound`, `Busy`, `Unsupported` for a newer format, `Corrupt`, `ReadOnly`, `Io`; `Invalid` if
    /// it is not a store at all.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref();
        Self::open_file(path, FileDevice::open(path, Access::ReadWrite)?, options)
    }

    fn open_file(path: &Path, device: FileDevice, options: Options) -> Result<Self> {
        let said = |error: Error| error.while_doing(format_args!("cannot open {}", path.display()));
        let handover = options.handover.clone().or_else(|| Some(handover_path(path)));
        let left = Left { handover, owner: owner_of(path) };
        Self::open_with(Arc::new(as_asked(device, &options)), options, &left).map_err(said)
    }

    /// Where the handover file of the store at `store` is looked for, and where [`Options::handover`] best puts it: beside it.
    pub fn handover_path(store: impl AsRef<Path>) -> PathBuf {
        handover_path(store.as_ref())
    }

    /// Opens a store, or makes it where there is none, or an empty file.
    ///
    /// # Errors
    /// Those of [`open`](Store::open) and [`create`](Store::create).
    pub fn open_or_create(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref();
        loop {
            match FileDevice::open(path, Access::ReadWrite) {
                Ok(device) if device.len_bytes().is_ok_and(|len| len > 0) => {
                    return Self::open_file(path, device, options);
                }
                Ok(_) => {} // Empty: nobody's, or somebody is just about to make a store there.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            // Not even where the options say so is a store overwritten that somebody else made meanwhile.
            match Self::create(path, options.clone().overwrite(false)) {
                Err(error) if error.kind() == ErrorKind::Exists => {}
                made => return made,
            }
        }
    }

    /// Opens a store for reading only: nothing is written, not even after a crash. Several readers can
    /// have it open, but no writer.
    ///
    /// # Errors
    /// Those of [`open`](Store::open).
    pub fn open_read_only(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref();
        Self::open_file(path, FileDevice::open(path, Access::ReadOnly)?, options)
    }

    /// Makes a store on any device. What the device held is lost.
    ///
    /// # Errors
    /// `Invalid` for impossible options or a device that is too small, `Full`, `Io`.
    pub fn create_on(device: Arc<dyn Device>, options: Options) -> Result<Self> {
        let geometry = geometry_of(&options)?;
        let (device, meter) = Metered::meter(Latched::latch(device));
        let zones = prepare(&*device, &geometry, &options)?;
        let mut uuid = [0; 16];
        getrandom::fill(&mut uuid)
            .map_err(|cause| Error::new(ErrorKind::Io, format!("cannot draw a random store id: {cause}")))?;
        let superblock = Superblock { term: U64::new(1), ..Superblock::first(&geometry, uuid) };
        let groups = vec![crate::format::GroupEntry::default(); index(geometry.groups_for(zones))];
        let record = CheckpointRecord {
            generation: Generation(0),
            zones,
            epoch: Epoch(1),
            next_id: 1,
            used: 0,
            shared: 0,
            extra: 0,
            catalog_root: crate::format::Reference::HOLE,
            catalog_height: 1,
            catalog_pages: 0,
            groups,
        };
        let parts = Parts { device, meter, geometry, options, superblock, record, record_run: None };
        let nodes = parts.nodes();
        let recovered =
            Recovered { batches: Vec::new(), durable: 0, next: Sequence(1), offset: 0, stale: Vec::new() };
        let engine =
            parts.assemble(nodes, (Root { height: 1, ..Root::default() }, Vec::new()), &recovered, zones)?;
        let mut checkpointer = engine.maintenance.lock();
        engine.checkpoint_with(&mut checkpointer, false)?;
        drop(checkpointer);
        engine.device.sync().map_err(|cause| Error::io("sync the new store", cause))?;
        if let Some(path) = &engine.options.handover {
            engine.begin_handover(path, 1, None)?;
        }
        Self::start(engine)
    }

    /// Opens the store on any device; read-only if the device is.
    ///
    /// # Errors
    /// Those of [`open`](Store::open), but for those of the path.
    pub fn open_on(device: Arc<dyn Device>, options: Options) -> Result<Self> {
        let left = Left { handover: options.handover.clone(), owner: None };
        Self::open_with(device, options, &left)
    }

    fn open_with(device: Arc<dyn Device>, options: Options, left: &Left) -> Result<Self> {
        let (device, meter) = Metered::meter(Latched::latch(device));
        let (mut superblock, geometry) = read_superblock(&*device)?;
        let (record, run) = read_checkpoint(&*device, &geometry, &superblock)?;
        let recovered = recover(&*device, &geometry, &superblock)?;
        let takeover = match &left.handover {
            Some(path) if !device.is_read_only() => {
                Takeover::read(path, &superblock, &recovered, left.owner)?
            }
            _ => Takeover::default(),
        };
        let zones = zones_after(&recovered.batches, record.zones)?;
        let zones = zones_after(&takeover.batches, zones).map_err(Takeover::explain)?;
        let durable_zones = zones_after(&recovered.batches[..recovered.durable], record.zones)?;
        check_length(&*device, geometry.length_bytes(durable_zones))?;
        if !device.is_read_only() {
            if device.may_have_holes() {
                back_tables(&*device, &geometry, record.zones)?;
            }
            takeover.claim(&superblock)?;
            begin_term(&*device, &geometry, &mut superblock, &recovered, zones)?;
        }
        let term = superblock.term.get();
        let parts = Parts { device, meter, geometry, options, superblock, record, record_run: Some(run) };
        let nodes = parts.nodes();
        let catalog = read_catalog(&*parts.device, &geometry, &nodes, &parts.record)?;
        let engine = parts.assemble(nodes, catalog, &recovered, zones)?;
        engine.replay(&recovered)?;
        engine.replay_takeover(&takeover)?;
        engine.back_reserve()?;
        if !engine.is_read_only {
            engine.with_allocator(Allocator::verify_shares)?;
            engine.settle_takeover(&takeover)?;
            takeover.end();
            if let Some(path) = &engine.options.handover {
                engine.begin_handover(path, term, left.owner)?;
            }
        }
        Self::start(engine)
    }

    fn start(engine: Engine) -> Result<Self> {
        let engine = Arc::new(engine);
        let shared = Shared { engine, threads: Mutex::default() };
        if shared.engine.options.background && !shared.engine.is_read_only {
            shared.start_threads().map_err(|cause| Error::io("start the store's threads", cause))?;
        }
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Makes everything written so far durable, on all disks.
    ///
    /// # Errors
    /// `Io` if the medium fails: the store has halted then.
    pub fn flush(&self) -> Result<()> {
        self.shared.flush()
    }

    /// Runs a checkpoint now: settles all changes into the trees, and empties the journal.
    ///
    /// # Errors
    /// `Io` if the medium fails: the store has halted then.
    pub fn checkpoint(&self) -> Result<()> {
        self.shared.checkpoint()
    }

    /// Runs the collector until nothing deleted is left, and makes the space reusable.
    ///
    /// # Errors
    /// `Io` if the medium fails, `Corrupt` if a tree is damaged.
    pub fn collect(&self) -> Result<()> {
        self.shared.collect()
    }

    /// Gives the space of free blocks back: to the file system, by punching holes, or to a block device, by discarding. What the
    /// store needs to stay able to delete, settle and close stays; zones that writers need get their space back
    /// first. Returns how many bytes. With [`Options::punch_holes`] the store does most of that unasked.
    ///
    /// # Errors
    /// `Unsupported` where the medium cannot do it, `Io` if it fails: the store has halted then.
    pub fn trim(&self) -> Result<u64> {
        self.shared.trim()
    }

    /// What the store is made of now.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// What the store did since it was opened.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Deletes the snapshots whose [`expires_at`](crate::SnapshotMarks::expires_at) has come, but for protected ones.
    /// The background thread does so every few seconds; without one, somebody has to call this. Returns what was
    /// deleted; that is durable then.
    ///
    /// # Errors
    /// `Io` if the medium fails, `ReadOnly`.
    pub fn expire_snapshots(&self) -> Result<Vec<SnapshotId>> {
        self.shared.expire()
    }

    /// Listens to what happens to the store unasked: watermarks that it passes, snapshots that it deletes by itself,
    /// writes that find no space. If it is above a watermark now, that is the first notice.
    pub fn notices(&self) -> Notices {
        self.shared.listen()
    }

    /// Makes everything durable, and closes the store: all handles refuse changes from now on. The
    /// store can be opened again once the last handle is dropped.
    ///
    /// # Errors
    /// `Io` if the medium fails; what was flushed before is safe then, too.
    pub fn close(self) -> Result<()> {
        self.shared.shut_down()
    }
}

impl Shared {
    fn start_threads(&self) -> std::io::Result<()> {
        let maintainer = Maintainer::start(&self.engine)?;
        *self.threads.lock() = Some((maintainer, Writer::start(&self.engine)?));
        Ok(())
    }

    fn shut_down(&self) -> Result<()> {
        if let Some((mut maintainer, mut writer)) = self.threads.lock().take() {
            maintainer.stop();
            writer.stop();
        }
        let engine = &self.engine;
        if engine.is_read_only || engine.is_closed.load(Ordering::Acquire) {
            return Ok(());
        }
        engine.check_writable()?;
        let mut checkpointer = engine.maintenance.lock();
        {
            let _closed = engine.barrier.write();
            engine.is_closed.store(true, Ordering::Release);
        }
        engine.room.announce();
        engine.notices.end();
        engine.checkpoint_with(&mut checkpointer, true)?;
        engine.device.sync().map_err(|cause| engine.halt(Error::io("sync the store at closing", cause)))?;
        engine.journal.end_handover();
        Ok(())
    }
}

/// What an opening looks for.
struct Left {
    /// Where a process that was killed may have left what it had in memory.
    handover: Option<PathBuf>,
    /// Who owns the store, besides the one who opens it.
    owner: Option<u32>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody is left to be told. What was flushed is safe; what was not, nobody was promised.
        drop(self.shut_down());
    }
}

/// The geometry that the options ask for.
fn geometry_of(options: &Options) -> Result<Geometry> {
    let block_size = options.block_size.max(1);
    let zone_blocks = options.zone_blocks.unwrap_or_else(|| zone_blocks_default(block_size));
    let journal_blocks = options.journal_bytes.div_ceil(u64::from(block_size));
    let geometry = Geometry::new(options.block_size, zone_blocks, journal_blocks)
        .map_err(|wrong| Error::new(ErrorKind::Invalid, wrong))?;
    if geometry.length_bytes(1) > options.max_bytes { Err(too_small(&geometry)) } else { Ok(geometry) }
}

fn too_small(geometry: &Geometry) -> Error {
    let least = geometry.length_bytes(1);
    Error::new(
        ErrorKind::Invalid,
        format!(
            "a store with these options needs at least {least} bytes; make the journal or the zones smaller"
        ),
    )
}

/// About 64 MiB, and, where refcount pages are small beside that, whole pages: that wastes least.
fn zone_blocks_default(block_size: u32) -> u32 {
    let blocks = u32::try_from(ZONE_BYTES_DEFAULT / u64::from(block_size)).unwrap_or(u32::MAX);
    let span = block_size / 2 + 2;
    if blocks < span { blocks } else { blocks.div_ceil(span) * span }
}

/// The device, reading and writing the way the options say.
fn as_asked(device: FileDevice, options: &Options) -> FileDevice {
    let device = if options.direct_writes { device } else { device.buffered() };
    if options.mapped_reads { device.mapped() } else { device }
}

/// Makes room for a new store, and writes its journal full of zeros: writes into space that was never
/// written cost twice as much to sync. Returns how many zones there are.
fn prepare(device: &dyn Device, geometry: &Geometry, options: &Options) -> Result<u64> {
    let failed = |cause| Error::io("prepare the new store", cause);
    if device.is_read_only() {
        return Err(Error::new(ErrorKind::ReadOnly, "the device refuses writes"));
    }
    let least = geometry.length_bytes(1);
    let length = device.len_bytes().map_err(failed)?;
    if least > options.max_bytes || (length < least && !device.can_grow()) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "a store with these options needs at least {least} bytes; make the journal or the zones smaller"
            ),
        ));
    }
    let zones = if device.can_grow() { 1 } else { geometry.zones_in(length.min(options.max_bytes)) };
    device.grow(geometry.length_bytes(zones)).map_err(failed)?;
    let zeros = vec![0; 1 << 20];
    let end = HEADER_BYTES + geometry.journal_bytes();
    for at in (0..end).step_by(zeros.len()) {
        let count = index((end - at).min(wide(zeros.len())));
        device.write_at(&zeros[..count], at).map_err(failed)?;
    }
    device.sync().map_err(failed)?;
    Ok(zones)
}

/// Makes what recovery accepted durable, wipes what it did not, and marks the beginning of a new term. From now
/// on at most one sealed batch of each number is in the journal (J5), however often recovery runs over it.
fn begin_term(
    device: &dyn Device,
    geometry: &Geometry,
    superblock: &mut Superblock,
    recovered: &Recovered,
    zones: u64,
) -> Result<()> {
    let failed = |cause| Error::io("begin a new term", cause);
    device.grow(geometry.length_bytes(zones)).map_err(failed)?;
    for at in &recovered.stale {
        device.write_at(&[0; index(JOURNAL_UNIT)], HEADER_BYTES + at).map_err(failed)?;
    }
    device.sync().map_err(failed)?;
    superblock.writes = U64::new(superblock.writes.get() + 1);
    superblock.term = U64::new(superblock.term.get() + 1);
    superblock.recovered = U64::new(recovered.next.0 - 1);
    superblock.clean = U64::ZERO;
    write_superblock(device, superblock)
}

/// The most zones that the limit, or a medium of a fixed size, allows; `None` where nobody knows.
fn zones_max(device: &dyn Device, geometry: &Geometry, options: &Options) -> Result<Option<u64>> {
    if !device.has_fixed_length() {
        return Ok((options.max_bytes < u64::MAX).then(|| geometry.zones_in(options.max_bytes)));
    }
    let length = device.len_bytes().map_err(|cause| Error::io("read the store's length", cause))?;
    Ok(Some(geometry.zones_in(length.min(options.max_bytes))))
}

/// What an engine is put together from.
struct Parts {
    device: Arc<dyn Device>,
    meter: Arc<crate::device::Meter>,
    geometry: Geometry,
    options: Options,
    superblock: Superblock,
    record: CheckpointRecord,
    record_run: Option<BlockRun>,
}

impl Parts {
    fn nodes(&self) -> NodeSource {
        NodeSource::new(self.device.clone(), self.geometry, self.options.cache_bytes)
    }

    fn assemble(
        self,
        nodes: NodeSource,
        (catalog_root, pages): (Root, Vec<Vec<crate::format::CatalogRecord>>),
        recovered: &Recovered,
        zones: u64,
    ) -> Result<Engine> {
        let Self { device, meter, geometry, options, superblock, record, record_run } = self;
        let page_store = PageStore::load(geometry.block_bytes(), &pages);
        let catalog =
            Catalog::load(pages.into_iter().flatten().collect(), (record.epoch, record.next_id), &geometry)?;
        let head = |disk: &crate::format::DiskRecord| {
            let owned_after = catalog.epoch_of(disk.parent);
            (disk.id, Head::new(disk, owned_after, geometry.block_size(), geometry.fanout_bits()))
        };
        let heads = catalog.disks.values().map(head).collect();
        let groups = record.groups.iter().copied().map(Group::new).collect();
        let mut allocator = Allocator::new(geometry, device.clone(), record.zones, groups);
        if zones > record.zones {
            allocator.grow(zones);
        }
        if !device.is_read_only() && device.may_have_holes() {
            allocator.doubt_all();
        }
        let journal = Journal::new(
            device.clone(),
            geometry,
            (superblock.uuid, superblock.term.get()),
            recovered.next,
            (superblock.journal_offset.get(), recovered.offset, recovered.batches.is_empty()),
        );
        let totals = Totals { used: record.used, shared: record.shared, extra: record.extra };
        let tables = ZoneTables::new(geometry, device.clone(), &record.groups, totals);
        let uuid = superblock.uuid;
        let templates = Templates::new(options.dedup_memory_bytes);
        let watermarks = Watermarks::new(&options.watermarks, zones_max(&*device, &geometry, &options)?);
        let checkpointer = Checkpointer {
            geometry,
            device: device.clone(),
            superblock,
            generation: record.generation,
            tables,
            pages: page_store,
            catalog_root,
            record_run,
        };
        let state = State {
            catalog,
            heads,
            unsettled: std::collections::HashMap::new(),
            fanout_bits: geometry.fanout_bits(),
        };
        let engine = Engine {
            is_read_only: device.is_read_only(),
            device,
            meter,
            geometry,
            options,
            uuid,
            barrier: RwLock::new(()),
            state: RwLock::new(state),
            free_hint: AtomicU64::new(allocator.free()),
            allocator: Mutex::new(allocator),
            waiting_for_space: AtomicU64::new(0),
            nodes,
            journal,
            runs: RunTable::default(),
            gate: Gate::default(),
            templates,
            dropped: Mutex::new(Vec::new()),
            touched: Mutex::new(Vec::new()),
            dirty_nodes: AtomicU64::new(0),
            dirty_bytes: AtomicU64::new(0),
            dirty_records: AtomicU64::new(0),
            frozen_records: AtomicU64::new(0),
            has_let_go: AtomicBool::new(true),
            maintenance: Mutex::new(checkpointer),
            last_checkpoint: Mutex::default(),
            census: Mutex::new(()),
            growth: Mutex::default(),
            shared_blocks: AtomicU64::new(record.shared),
            saved_blocks: AtomicU64::new(record.extra),
            wanted_sizes: Mutex::new(std::collections::BTreeSet::new()),
            asked_disks: Mutex::new(std::collections::BTreeSet::new()),
            halted: Mutex::new(None),
            is_halted: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            signal: Signal::default(),
            write_behind: WriteBehind::default(),
            room: Room::default(),
            watermarks,
            notices: NoticeBoard::default(),
            counters: Counters::default(),
            times: Times::default(),
        };
        // How full the store is from the beginning.
        engine.with_allocator(|_| ());
        Ok(engine)
    }
}
