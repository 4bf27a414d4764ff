//! Takeover: an opening goes on from where a process that was killed had come to.
//!
//! Floor 5. What that process had in memory alone is in its handover file (`commit/handover.rs`). It is applied behind the
//! last batch of the journal, by the functions that replay the journal, and a checkpoint makes it durable before
//! anybody writes. Until then the file stays, and says who is at it: whoever is killed meanwhile loses nothing either.
//!
//! The numbers of the batches that were taken over are not given again: a file that somebody brings back later
//! finds that the store is past them.

use super::engine::Engine;
use super::statistics::Counters;
use crate::commit::{Accepted, Handed, Handover, Recovered, no_boot_id, read_handover};
use crate::defect::Defect;
use crate::device::{SideFile, boot_id};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    Batch, BatchBuilder, BatchHeader, BatchIdentity, HANDOVER_HEADER_BYTES, HandoverHeader, Record, Standing,
    Superblock,
};
use crate::units::{BlockNo, BlockRun, Sequence, index, wide};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the handover file of a store lies unless told otherwise: beside it.
pub(super) fn handover_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".handover");
    PathBuf::from(name)
}

/// What a process that was killed has left.
#[derive(Default)]
pub(super) struct Takeover {
    /// The batches behind the journal's last one.
    pub(super) batches: Vec<Accepted>,
    /// The blocks that they name, with their places.
    data: Vec<Vec<(BlockNo, Vec<u8>)>>,
    /// The file, as long as it says something that is not in the store.
    claim: Option<(SideFile, HandoverHeader)>,
    /// The file, if it says nothing any more.
    stale: Option<SideFile>,
}

impl Takeover {
    /// Reads the file at `path`, if there is one, that the last opening of the store left.
    ///
    /// # Errors
    /// `Invalid` where it is somebody else's, or no handover file; `Busy`; `Corrupt` where it makes no sense; `Io`.
    pub(super) fn read(
        path: &Path,
        superblock: &Superblock,
        recovered: &Recovered,
        owner: Option<u32>,
    ) -> Result<Self> {
        let Some(file) = SideFile::open(path, owner)? else { return Ok(Self::default()) };
        let Some(header) = header_of(&file)? else { return Ok(Self::left_behind(file)) };
        let is_ours =
            header.is_of_store(superblock.uuid) && boot_id().is_some_and(|boot| header.is_of_boot(boot));
        if !is_ours {
            return Ok(Self::default());
        }
        // Who was taking it over has written nothing yet, or it is not the end of this history.
        let is_untouched = recovered.next.0 == superblock.recovered.get() + 1;
        match header.standing(superblock.term.get(), superblock.writes.get()) {
            Standing::Left => {}
            Standing::Claimed if is_untouched => {}
            Standing::Claimed | Standing::Over => return Ok(Self::left_behind(file)),
            Standing::Unrelated => return Ok(Self::default()),
        }
        let handed = read_handover(&file, header.nonce(), recovered.next, superblock.block_size.get())
            .map_err(Self::explain)?;
        let mut takeover = Self { claim: Some((file, header)), ..Self::default() };
        for Handed { sequence, records, data } in handed {
            let accepted = accept(sequence, records, superblock).filter(|accepted| is_whole(accepted, &data));
            let makes_no_sense = || {
                let place = format!("batch {sequence} of the handover file makes no sense");
                Self::explain(Error::corrupt(Defect::JournalRecord, place))
            };
            takeover.batches.push(accepted.ok_or_else(makes_no_sense)?);
            takeover.data.push(data);
        }
        Ok(takeover)
    }

    fn left_behind(file: SideFile) -> Self {
        Self { stale: Some(file), ..Self::default() }
    }

    /// Says that an opening begins to take over from a store that stands as `superblock` says: the file counts until it is through.
    pub(super) fn claim(&self, superblock: &Superblock) -> Result<()> {
        let Some((file, header)) = &self.claim else { return Ok(()) };
        let claimed = header.claimed(superblock.term.get(), superblock.writes.get() + 1);
        file.write_at(&claimed.seal(), 0).map_err(|cause| Error::io("claim the handover file", cause))
    }

    /// The failure to apply it, with what to do.
    pub(super) fn explain(error: Error) -> Error {
        error.while_doing(
            "cannot take over what a killed process left in its handover file (move the file away to open the store without it)",
        )
    }

    /// Lets go of the file: everything is in the store.
    pub(super) fn end(self) {
        let claimed = self.claim.map(|(file, _)| file);
        claimed.into_iter().chain(self.stale).for_each(SideFile::remove);
    }

    /// Bytes of blocks that are taken over.
    fn data_bytes(&self) -> u64 {
        self.data.iter().flatten().map(|(_, bytes)| wide(bytes.len())).sum()
    }
}

/// The batch as the process would have written it; `None` where that makes no sense.
fn accept(sequence: Sequence, records: Vec<u8>, superblock: &Superblock) -> Option<Accepted> {
    let identity =
        BatchIdentity { sequence, term: superblock.term.get(), durable: Sequence(0), uuid: superblock.uuid };
    let block_size = superblock.block_size.get();
    let bytes = BatchBuilder::of_records(records).seal(&identity, &[], block_size);
    let header = BatchHeader::read(&bytes, superblock.uuid)?;
    let batch = Batch::open(bytes, header, block_size)?;
    let records = batch.records()?;
    let is_possible = records.iter().all(|record| !matches!(record, Record::Inline { .. }));
    is_possible.then_some(Accepted { batch, records })
}

/// Whether the bytes of all blocks are there that the records map. Which they are, each entry has proven already.
fn is_whole(accepted: &Accepted, data: &[(BlockNo, Vec<u8>)]) -> bool {
    let block_bytes = accepted.batch.block_bytes();
    let pieces = data.iter().map(|(first, bytes)| (first.0, wide(bytes.len() / block_bytes)));
    let held = Places::of(pieces);
    mapped(accepted).all(|(first, count)| (first..first + count).all(|block| held.hold(block, 1)))
}

/// The blocks that a batch maps: the first one of each row, and how many they are.
fn mapped(accepted: &Accepted) -> impl Iterator<Item = (u64, u64)> {
    accepted.records.iter().filter_map(|record| match record {
        Record::Map(map) => Some((map.physical.0, wide(map.crcs.len()))),
        _ => None,
    })
}

/// Rows of blocks that do not overlap: the end of each by its first one.
struct Places(BTreeMap<u64, u64>);

impl Places {
    fn of(rows: impl Iterator<Item = (u64, u64)>) -> Self {
        Self(rows.map(|(first, count)| (first, first.saturating_add(count))).collect())
    }

    /// Whether one of them has all these blocks.
    fn hold(&self, first: u64, count: u64) -> bool {
        self.0.range(..=first).next_back().is_some_and(|(_, end)| first.saturating_add(count) <= *end)
    }
}

impl Engine {
    /// Applies what was taken over to the state that the journal left, in memory.
    pub(super) fn replay_takeover(&self, takeover: &Takeover) -> Result<()> {
        takeover
            .batches
            .iter()
            .try_for_each(|accepted| self.replay_batch(accepted))
            .map_err(Takeover::explain)
    }

    /// Makes it durable.
    pub(super) fn settle_takeover(&self, takeover: &Takeover) -> Result<()> {
        let Some(last) = takeover.batches.last() else { return Ok(()) };
        let runs = takeover.batches.iter().flat_map(mapped);
        let runs = runs.map(|(first, count)| BlockRun { first: BlockNo(first), count });
        self.with_allocator(|allocator| allocator.verify_free(runs)).map_err(Takeover::explain)?;
        for (accepted, data) in takeover.batches.iter().zip(&takeover.data) {
            let places = Places::of(mapped(accepted));
            for (first, bytes) in data {
                self.put_in_place(&places, *first, bytes)?;
            }
        }
        Counters::add(&self.counters.taken_over_bytes, takeover.data_bytes());
        self.journal.stand_back(Sequence(last.batch.header.sequence.get() + 1));
        self.checkpoint()?;
        self.journal.go_on();
        Ok(())
    }

    /// Writes blocks to their places, if a record of their batch maps them.
    fn put_in_place(&self, places: &Places, first: BlockNo, bytes: &[u8]) -> Result<()> {
        if !places.hold(first.0, wide(bytes.len() / self.geometry.block_bytes())) {
            return Ok(());
        }
        self.device
            .write_at(bytes, self.geometry.offset_bytes(first))
            .map_err(|cause| Error::io(format!("write block {first} of the handover file"), cause))
    }

    /// Begins to write down for the next process what this one has in memory.
    pub(super) fn begin_handover(&self, path: &Path, term: u64, owner: Option<u32>) -> Result<()> {
        let boot = boot_id().ok_or_else(no_boot_id)?;
        let file = match SideFile::open(path, owner)? {
            Some(file) => {
                let found = header_of(&file)?; // or it is none, and stays
                if found.is_some_and(|found| !found.is_of_store(self.uuid) && found.is_of_boot(boot)) {
                    return Err(another_stores(path));
                }
                file
            }
            None => SideFile::create(path)?,
        };
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)
            .map_err(|cause| Error::new(ErrorKind::Io, format!("cannot draw a random number: {cause}")))?;
        let header = HandoverHeader::new(self.uuid, boot, nonce, term);
        self.journal.hand_over(Handover::begin(file, header)?);
        Ok(())
    }
}

fn another_stores(path: &Path) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!(
            "{} is the handover file of another store, which may need it: open that store first, name another file, or remove this one if that store is gone",
            path.display()
        ),
    )
}

/// The file's header; `None` where it was being begun.
fn header_of(file: &SideFile) -> Result<Option<HandoverHeader>> {
    let failed = |cause| Error::io(format!("read the handover file {}", file.path().display()), cause);
    let length = file.len_bytes().map_err(failed)?.min(HANDOVER_HEADER_BYTES);
    let mut bytes = vec![0; index(length)];
    file.read_at(&mut bytes, 0).map_err(failed)?;
    if bytes.is_empty() || HandoverHeader::is_one(&bytes) {
        return Ok(HandoverHeader::open(&bytes));
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!("{} is no handover file of cowblk: move it away", file.path().display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, MemoryDevice, tampering};
    use crate::{Disk, Options, Store};
    use parking_lot::Mutex;
    use std::io;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use tempfile::TempDir;

    struct Scene {
        folder: TempDir,
    }

    impl Scene {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn nonce(&self) -> [u8; 16] {
            let bytes = tampering::read(self.file("handover")).unwrap();
            HandoverHeader::open(&bytes).unwrap().nonce()
        }

        fn options(&self) -> Options {
            let options = Options::default().journal_bytes(64 << 10).zone_blocks(64).background(false);
            options.handover(Some(self.file("handover")))
        }
    }

    fn first_byte(disk: &Disk) -> u8 {
        let mut byte = [0];
        disk.read_at(&mut byte, 0).unwrap();
        byte[0]
    }

    fn disk_of(store: &Store) -> Disk {
        store.server("web").unwrap().disk("vda").unwrap()
    }

    /// A store whose process ends, with a write in memory: the medium, and the handover file at its place.
    fn killed(scene: &Scene) -> Vec<u8> {
        killed_after(scene, |disk| {
            disk.write_at(&[2; 5000], 0).unwrap();
            disk.discard(8192, 4096).unwrap();
        })
    }

    fn killed_after(scene: &Scene, act: impl FnOnce(&Disk)) -> Vec<u8> {
        let device = Arc::new(MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), scene.options()).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", 1 << 20).unwrap();
        disk.write_at(&[1; 4096], 0).unwrap();
        disk.flush().unwrap();
        act(&disk);
        tampering::copy(scene.file("handover"), scene.file("left")).unwrap();
        let left = device.to_bytes();
        store.close().unwrap();
        tampering::rename(scene.file("left"), scene.file("handover")).unwrap();
        left
    }

    fn open_bytes(scene: &Scene, bytes: &[u8]) -> Result<Store> {
        Store::open_on(Arc::new(MemoryDevice::from_bytes(bytes.to_vec())), scene.options())
    }

    #[test]
    fn a_write_that_was_in_memory_is_taken_over_once() {
        let scene = Scene::new();
        let left = killed(&scene);
        let device = Arc::new(MemoryDevice::from_bytes(left));
        let store = Store::open_on(device.clone(), scene.options()).unwrap();
        assert_eq!((first_byte(&disk_of(&store)), store.stats().taken_over_bytes), (2, 8192));
        // It is durable by now: without the file it is there as well.
        tampering::remove_file(scene.file("handover")).unwrap();
        let again = open_bytes(&scene, &device.to_bytes()).unwrap();
        assert_eq!((first_byte(&disk_of(&again)), again.stats().taken_over_bytes), (2, 0));
    }

    /// Records may wait when the file is begun: they are the beginning of the batch that it goes on with.
    #[test]
    fn what_waited_when_the_file_was_begun_is_in_it() {
        let scene = Scene::new();
        let device = Arc::new(MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), scene.options().handover(None)).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", 1 << 20).unwrap();
        disk.write_at(&[1; 4096], 0).unwrap();
        store.flush().unwrap();
        disk.discard(0, 4096).unwrap();
        store.shared.begin_handover(&scene.file("handover"), 1, None).unwrap();
        disk.write_at(&[2; 4096], 4096).unwrap();
        tampering::copy(scene.file("handover"), scene.file("left")).unwrap();
        let killed = MemoryDevice::from_bytes(device.to_bytes());
        let options = scene.options().handover(Some(scene.file("left")));
        let killed = Store::open_on(Arc::new(killed), options).unwrap();
        let mut bytes = [9; 8192];
        disk_of(&killed).read_at(&mut bytes, 0).unwrap();
        assert_eq!((bytes[0], bytes[4096]), (0, 2));
    }

    /// A run of the largest blocks is longer than a segment of the file.
    #[test]
    fn long_writes_of_large_blocks_are_taken_over() {
        let scene = Scene::new();
        let device = Arc::new(MemoryDevice::new(0));
        let options = scene.options().block_size(64 << 10).journal_bytes(1 << 20).zone_blocks(1024);
        let store = Store::create_on(device.clone(), options).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", 64 << 20).unwrap();
        let bytes: Vec<u8> = (0..40_u64 << 20).map(|at| (at / 65_521).to_le_bytes()[0] | 1).collect();
        disk.write_at(&bytes, 4096).unwrap();
        disk.write_at(&[9; 512], 0).unwrap();
        tampering::copy(scene.file("handover"), scene.file("left")).unwrap();
        let killed = MemoryDevice::from_bytes(device.to_bytes());
        let options = scene.options().handover(Some(scene.file("left")));
        let killed = Store::open_on(Arc::new(killed), options).unwrap();
        let mut found = vec![0; bytes.len()];
        disk_of(&killed).read_at(&mut found, 4096).unwrap();
        assert!(found == bytes && first_byte(&disk_of(&killed)) == 9);
        assert!(killed.stats().taken_over_bytes > 0);
    }

    /// The file of one opening says nothing to those that came after another one.
    #[test]
    fn what_an_earlier_opening_left_does_not_count() {
        let scene = Scene::new();
        let left = killed(&scene);
        tampering::rename(scene.file("handover"), scene.file("old")).unwrap();
        let device = Arc::new(MemoryDevice::from_bytes(left));
        let store = Store::open_on(device.clone(), scene.options()).unwrap();
        assert_eq!(first_byte(&disk_of(&store)), 1, "nothing was handed over");
        let left = device.to_bytes();
        drop(store);
        tampering::rename(scene.file("old"), scene.file("handover")).unwrap();
        assert_eq!(first_byte(&disk_of(&open_bytes(&scene, &left).unwrap())), 1);
    }

    #[test]
    fn what_is_of_another_boot_or_store_does_not_count() {
        for (uuid, boot) in [(true, false), (false, true)] {
            let scene = Scene::new();
            let left = killed(&scene);
            let device = MemoryDevice::from_bytes(left.clone());
            let (superblock, _) = crate::commit::read_superblock(&device).unwrap();
            let own = |is_own: bool, id| if is_own { id } else { [9; 16] };
            let header = HandoverHeader::new(
                own(uuid, superblock.uuid),
                own(boot, boot_id().unwrap()),
                scene.nonce(),
                superblock.term.get(),
            );
            let file = tampering::File::options().write(true).open(scene.file("handover")).unwrap();
            file.write_all_at(&header.seal(), 0).unwrap();
            let opened = open_bytes(&scene, &left);
            if uuid {
                assert_eq!(first_byte(&disk_of(&opened.unwrap())), 1);
            } else {
                let refused = opened.map(drop).unwrap_err();
                assert!(refused.to_string().contains("another store"), "it may need it: {refused}");
            }
        }
    }

    #[test]
    fn a_file_that_is_something_else_stays_as_it_is() {
        let scene = Scene::new();
        let left = killed(&scene);
        let refused = |what: &str| {
            let error = open_bytes(&scene, &left).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
            let error =
                Store::create_on(Arc::new(MemoryDevice::new(0)), scene.options()).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        };
        tampering::write(scene.file("handover"), "a letter to my mother").unwrap();
        refused("a letter");
        assert_eq!(tampering::read(scene.file("handover")).unwrap(), b"a letter to my mother");
        tampering::remove_file(scene.file("handover")).unwrap();
        tampering::create_dir(scene.file("handover")).unwrap();
        assert!(open_bytes(&scene, &left).is_err(), "a folder");
        tampering::remove_dir(scene.file("handover")).unwrap();
        tampering::write(scene.file("elsewhere"), "").unwrap();
        std::os::unix::fs::symlink(scene.file("elsewhere"), scene.file("handover")).unwrap();
        assert!(open_bytes(&scene, &left).is_err(), "a link");
    }

    /// A file that is sealed, and says what no store would: it is refused, and named.
    #[test]
    fn a_file_that_makes_no_sense_is_refused_and_the_store_opens_without_it() {
        let scene = Scene::new();
        let left = killed(&scene);
        let (superblock, geometry) =
            crate::commit::read_superblock(&MemoryDevice::from_bytes(left.clone())).unwrap();
        let next = crate::commit::recover(&MemoryDevice::from_bytes(left.clone()), &geometry, &superblock);
        let mut builder = BatchBuilder::default();
        builder.clear(crate::units::DiskId(77), crate::units::DiskBlock(0), 1);
        let records = builder.records_from(0);
        let entry =
            crate::format::Entry { number: 1, sequence: next.unwrap().next, at: 0, records, data: None };
        let mut bytes = Vec::new();
        entry.write_to(scene.nonce(), &mut bytes);
        let file = tampering::File::options().write(true).open(scene.file("handover")).unwrap();
        file.write_all_at(&bytes, HANDOVER_HEADER_BYTES).unwrap();
        let error = open_bytes(&scene, &left).map(drop).unwrap_err();
        assert!(error.to_string().contains("move the file away"), "{error}");
        tampering::remove_file(scene.file("handover")).unwrap();
        assert_eq!(first_byte(&disk_of(&open_bytes(&scene, &left).unwrap())), 1);
    }

    /// Blocks that the checkpoint counts are not written over, whatever a file says: here that of a copy of the store, in which other
    /// blocks are in use.
    #[test]
    fn a_file_that_would_write_over_what_is_in_use_is_refused() {
        let scene = Scene::new();
        let left = killed(&scene);
        let device = Arc::new(MemoryDevice::from_bytes(left.clone()));
        let (superblock, geometry) = crate::commit::read_superblock(&*device).unwrap();
        let next = crate::commit::recover(&*device, &geometry, &superblock).unwrap().next;
        let file = SideFile::open(&scene.file("handover"), None).unwrap().unwrap();
        let mut handed = read_handover(&file, scene.nonce(), next, 4096).unwrap();
        drop(file);
        let accepted = accept(next, handed.remove(0).records, &superblock).unwrap();
        let Some(Record::Map(map)) = accepted.records.first() else { panic!("the write comes first") };
        let data = [9; 4096];
        let mut builder = BatchBuilder::default();
        let (used, seals) = (BlockNo(superblock.checkpoint_block.get()), [crate::format::seal(&data)]);
        builder.map(map.disk, map.first, used, map.birth, &seals);
        let records = builder.records_from(0);
        let entry =
            crate::format::Entry { number: 1, sequence: next, at: 0, records, data: Some((used, &data)) };
        let mut bytes = Vec::new();
        entry.write_to(scene.nonce(), &mut bytes);
        let file = tampering::File::options().write(true).open(scene.file("handover")).unwrap();
        file.write_all_at(&bytes, HANDOVER_HEADER_BYTES).unwrap();
        let error = Store::open_on(device.clone(), scene.options()).map(drop).unwrap_err();
        assert_eq!(error.defect(), Some(Defect::JournalRecord), "{error}");
        assert!(error.to_string().contains("is to be written, and has 1 references"), "{error}");
        let at = geometry.offset_bytes(used);
        assert_eq!(device.to_bytes()[index(at)..][..4096], left[index(at)..][..4096]);
    }

    /// A medium that takes a picture of itself, and of the handover file, whenever it is about to change.
    struct Witness {
        memory: MemoryDevice,
        handover: PathBuf,
        has_holes: bool,
        seen: Mutex<Vec<Picture>>,
    }

    #[derive(Clone)]
    struct Picture {
        medium: Vec<u8>,
        handover: Option<Vec<u8>>,
    }

    impl Witness {
        fn look(&self) {
            let handover = tampering::read(&self.handover).ok();
            self.seen.lock().push(Picture { medium: self.memory.to_bytes(), handover });
        }
    }

    impl Device for Witness {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            self.memory.read_at(buf, offset)
        }
        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
            self.look();
            self.memory.write_at(buf, offset)
        }
        fn sync(&self) -> io::Result<()> {
            self.look();
            self.memory.sync()
        }
        fn len_bytes(&self) -> io::Result<u64> {
            self.memory.len_bytes()
        }
        fn grow(&self, len_bytes: u64) -> io::Result<()> {
            self.look();
            self.memory.grow(len_bytes)
        }
        fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
            self.memory.discard(offset, len_bytes)
        }
        fn may_have_holes(&self) -> bool {
            self.has_holes
        }
        fn can_grow(&self) -> bool {
            true
        }
        fn is_read_only(&self) -> bool {
            false
        }
    }

    /// What killed openers leave of a picture, one for each of their changes.
    fn killed_openers(scene: &Scene, picture: &Picture, has_holes: bool) -> Vec<Picture> {
        let path = scene.file("handover");
        drop(tampering::remove_file(&path));
        if let Some(bytes) = &picture.handover {
            tampering::write(&path, bytes).unwrap();
        }
        let memory = MemoryDevice::from_bytes(picture.medium.clone());
        let witness = Arc::new(Witness { memory, handover: path, has_holes, seen: Mutex::default() });
        let store = Store::open_on(witness.clone(), scene.options()).unwrap();
        witness.look();
        let disk = disk_of(&store);
        let mut bytes = vec![0; 200 * 4096];
        disk.read_at(&mut bytes, 0).unwrap();
        assert_eq!((&bytes[..4096], bytes[150 * 4096]), (&[3; 4096][..], 2), "nothing that returned is lost");
        assert_eq!(bytes[190 * 4096], 0, "and what was discarded is gone");
        let seen = std::mem::take(&mut *witness.seen.lock());
        let report = store.check().unwrap();
        assert!(report.is_clean(), "{report:?}");
        seen
    }

    /// Whoever takes over is killed at each of its steps, and so is the one after it. The power may fail at each of them, too: then
    /// what was flushed is there.
    #[test]
    fn openers_that_are_killed_lose_nothing_either() {
        let scene = Scene::new();
        let left = killed_after(&scene, |disk| {
            // Beyond the zones that the store has: it grows meanwhile.
            disk.write_at(&vec![2; 200 * 4096], 0).unwrap();
            disk.write_at(&[3; 4096], 0).unwrap();
            disk.discard(190 * 4096, 8192).unwrap();
        });
        let first = Picture { medium: left, handover: tampering::read(scene.file("handover")).ok() };
        for has_holes in [false, true] {
            let pictures = killed_openers(&scene, &first, has_holes);
            assert!(pictures.len() > 10);
            for (nth, picture) in pictures.iter().enumerate() {
                let next = killed_openers(&scene, picture, has_holes);
                let few = next.iter().skip(nth % 5).step_by(5);
                few.for_each(|picture| drop(killed_openers(&scene, picture, has_holes)));
                drop(tampering::remove_file(scene.file("handover")));
                let unpowered = MemoryDevice::from_bytes(picture.medium.clone());
                let opened = Store::open_on(Arc::new(unpowered), scene.options()).unwrap();
                assert!(first_byte(&disk_of(&opened)) > 0, "what was flushed is there");
            }
        }
    }

    /// A batch that found its journal full, and one that only a checkpoint took, are handed over like any other.
    #[test]
    fn what_was_in_memory_while_the_journal_was_full_is_taken_over() {
        let scene = Scene::new();
        let device = Arc::new(MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), scene.options()).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", 4 << 20).unwrap();
        for round in 0..400_u64 {
            let value = u8::try_from(1 + round % 250).unwrap();
            disk.write_at(&[value; 4096], 0).unwrap();
            disk.write_at(&[value; 512], (1 + round % 900) * 4096 + 512).unwrap();
            if round % 3 == 0 {
                disk.flush().unwrap();
            }
            if round % 20 < 2 {
                tampering::copy(scene.file("handover"), scene.file("left")).unwrap();
                let options = scene.options().handover(Some(scene.file("left")));
                let killed = MemoryDevice::from_bytes(device.to_bytes());
                let killed = Store::open_on(Arc::new(killed), options).unwrap();
                assert_eq!(first_byte(&disk_of(&killed)), value, "round {round}");
            }
        }
    }

    /// Where the file cannot be written, each write is on its way to the medium before it returns.
    #[test]
    fn without_room_for_the_file_every_write_goes_to_the_medium() {
        let scene = Scene::new();
        let device = Arc::new(MemoryDevice::new(0));
        let options = scene.options().handover(None);
        let store = Store::create_on(device.clone(), options).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", 1 << 20).unwrap();
        disk.write_at(&vec![7; 64 * 4096], 0).unwrap();
        store.shared.journal.hand_over(Handover::broken());
        for value in 1..=60 {
            disk.write_at(&[value; 4096], 0).unwrap();
            disk.discard(u64::from(value) * 4096, 4096).unwrap();
            let killed = open_bytes(&scene, &device.to_bytes()).unwrap();
            let mut next = [1];
            disk_of(&killed).read_at(&mut next, u64::from(value) * 4096).unwrap();
            assert_eq!((first_byte(&disk_of(&killed)), next), (value, [0]));
        }
    }
}
