//! Tests of the simulated device: each rule of the room, each fault, each way to crash.

use super::*;

/// A device of four sectors that hold ones, durably, with one fault at its first operation.
fn struck_by(fault: Fault) -> SimDevice {
    SimDevice::from_image(&[1; 2048], 7).with_faults(Faults::none().with(fault, When::At(1)))
}

fn read(device: &SimDevice, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0xEE; len];
    device.read_at(&mut buf, offset).map(|()| buf)
}

fn durable(device: &SimDevice) -> Vec<u8> {
    device.crash(&Survival::Nothing).image()
}

fn flipped_bits(one: &[u8], other: &[u8]) -> u32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| (one ^ other).count_ones()).sum()
}

const EIO: Option<i32> = Some(5);
const ENOSPC: Option<i32> = Some(28);

#[test]
fn a_write_is_visible_at_once_and_durable_after_a_sync() {
    let device = SimDevice::new(2048, 1);
    device.write_at(&[5; 512], 512).unwrap();
    assert_eq!(read(&device, 512, 512).unwrap(), [5; 512]);
    assert_eq!(device.unsynced(), [Call::Write { offset: 512, len_bytes: 512 }]);
    assert_eq!(durable(&device), [0; 2048]);
    device.sync().unwrap();
    assert_eq!(device.unsynced_count(), 0);
    assert_eq!(durable(&device), device.image());
    assert_eq!(device.operations(), 3);
}

#[test]
fn growing_and_discarding_are_volatile_until_a_sync() {
    let device = SimDevice::from_image(&[1; 512], 1).with_discarded(Discarded::Zeroes);
    device.grow(1024).unwrap();
    device.grow(600).unwrap();
    device.discard(0, 512).unwrap();
    assert_eq!(device.len_bytes().unwrap(), 1024);
    assert_eq!(device.image(), [0; 1024]);
    assert_eq!(durable(&device), [1; 512]);
    assert_eq!(device.crash(&Survival::Exactly(0b10)).image(), [0; 512]);
    device.sync().unwrap();
    assert_eq!(durable(&device), [0; 1024]);
}

#[test]
fn a_discarded_range_reads_as_it_was_decided_and_its_neighbours_stay() {
    for (discarded, middle) in
        [(Discarded::Zeroes, Some(0)), (Discarded::Unchanged, Some(1)), (Discarded::Noise, None)]
    {
        let device = SimDevice::from_image(&[1; 2048], 1).with_discarded(discarded);
        device.discard(100, 1000).unwrap();
        let image = device.image();
        assert!(image[..100].iter().chain(&image[1100..]).all(|byte| *byte == 1));
        match middle {
            Some(value) => assert_eq!(image[100..1100], [value; 1000]),
            None => assert!(image[100..1100] != [0; 1000] && image[100..1100] != [1; 1000]),
        }
    }
}

#[test]
fn a_range_outside_is_refused_as_by_every_device() {
    let device = SimDevice::new(1000, 1);
    assert_eq!(read(&device, 995, 10).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(device.write_at(&[1; 10], u64::MAX).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(device.discard(995, 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(device.unsynced_count(), 0);
}

#[test]
fn a_medium_is_full_at_its_capacity_and_a_fixed_one_does_not_grow() {
    let device = SimDevice::new(512, 1).with_capacity(1024);
    device.grow(1024).unwrap();
    assert_eq!(device.grow(1025).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(device.grow(u64::MAX).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(device.can_grow());
    let fixed = SimDevice::new(512, 1).with_fixed_size();
    assert_eq!(fixed.grow(513).unwrap_err().kind(), io::ErrorKind::Unsupported);
    fixed.grow(512).unwrap();
    assert!(!fixed.can_grow());
}

#[test]
fn a_read_only_handle_sees_everything_and_changes_nothing() {
    let device = SimDevice::new(512, 1);
    let reader = device.read_only();
    device.write_at(&[3; 10], 0).unwrap();
    assert_eq!(read(&reader, 0, 10).unwrap(), [3; 10]);
    for refused in [reader.write_at(&[1], 0), reader.grow(1024), reader.discard(0, 1)] {
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
    reader.sync().unwrap();
    assert!(reader.is_read_only() && !reader.can_grow());
    assert_eq!(device.unsynced_count(), 1, "a reader's sync does nothing to the writer's changes");
}

#[test]
fn errors_of_reads_growths_and_discards_change_nothing() {
    let error = read(&struck_by(Fault::ReadError), 0, 512).unwrap_err();
    assert_eq!(error.raw_os_error(), EIO);

    let device = struck_by(Fault::GrowError);
    assert_eq!(device.grow(4096).unwrap_err().raw_os_error(), EIO);
    assert_eq!(device.len_bytes().unwrap(), 2048);
    device.grow(4096).unwrap();

    let device = struck_by(Fault::DiscardError);
    assert_eq!(device.discard(0, 512).unwrap_err().raw_os_error(), EIO);
    assert_eq!(device.image(), [1; 2048]);
}

#[test]
fn asking_for_the_length_fails_once_or_for_good_and_is_no_operation() {
    let failing = |when| {
        let device = SimDevice::new(2048, 7).with_faults(Faults::none().with(Fault::LengthError, when));
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(device.len_bytes().is_ok());
            device.sync().unwrap();
        }
        assert_eq!(device.operations(), 3);
        answers
    };
    assert_eq!(failing(When::At(2)), [true, false, true]);
    assert_eq!(failing(When::From(2)), [true, false, false]);
    assert_eq!(failing(When::Nth(1)), [false, true, true]);
    let device = struck_by(Fault::LengthError);
    assert_eq!(device.len_bytes().unwrap_err().raw_os_error(), EIO);
    device.sync().unwrap();
}

#[test]
fn a_discard_finds_no_space_or_is_refused_and_discards_nothing() {
    let device = struck_by(Fault::NoSpace);
    assert_eq!(device.discard(0, 512).unwrap_err().raw_os_error(), ENOSPC);
    assert_eq!(device.image(), [1; 2048]);
    let device = SimDevice::from_image(&[1; 512], 1).with_discarded(Discarded::Refused);
    assert_eq!(device.discard(0, 512).unwrap_err().kind(), io::ErrorKind::Unsupported);
    assert_eq!((device.image(), device.unsynced_count()), (vec![1; 512], 0));
}

/// A hole was given back to the file system: what was allocated may be written for ever, a hole may not.
#[test]
fn a_write_into_a_hole_may_find_no_space_and_elsewhere_it_does() {
    let full = || Faults::none().with(Fault::NoSpaceInHoles, When::From(1));
    for discarded in [Discarded::Zeroes, Discarded::Noise, Discarded::Unchanged] {
        let device = SimDevice::from_image(&[1; 4096], 1).with_discarded(discarded).with_faults(full());
        device.write_at(&[2; 4096], 0).unwrap();
        device.discard(1024, 1024).unwrap();
        device.write_at(&[3; 1024], 0).unwrap();
        assert_eq!(device.write_at(&[4; 1024], 512).unwrap_err().raw_os_error(), ENOSPC);
        assert_eq!(device.write_at(&[4; 1], 2047).unwrap_err().raw_os_error(), ENOSPC);
        device.write_at(&[5; 2048], 2048).unwrap();
        let after = device.crash(&Survival::Everything).with_faults(full());
        assert_eq!(after.write_at(&[4; 1], 1600).unwrap_err().raw_os_error(), ENOSPC);
        after.set_faults(Faults::none());
        after.write_at(&[6; 1024], 1024).unwrap();
        after.set_faults(full());
        after.write_at(&[7; 1024], 1024).unwrap();
    }
}

#[test]
fn a_sync_that_finds_no_space_leaves_everything_volatile() {
    let device = SimDevice::new(512, 1).with_faults(Faults::none().with(Fault::SyncNoSpace, When::Nth(1)));
    device.write_at(&[9; 512], 0).unwrap();
    assert_eq!(device.sync().unwrap_err().raw_os_error(), ENOSPC);
    assert_eq!(durable(&device), [0; 512]);
    device.sync().unwrap();
    assert_eq!(durable(&device), [9; 512]);
}

#[test]
fn any_error_strikes_whatever_comes() {
    assert_eq!(read(&struck_by(Fault::AnyError), 0, 1).unwrap_err().raw_os_error(), EIO);
    let device = struck_by(Fault::AnyError);
    assert_eq!(device.sync().unwrap_err().raw_os_error(), EIO);
    assert_eq!(struck_by(Fault::AnyError).write_at(&[1], 0).unwrap_err().raw_os_error(), EIO);
    assert_eq!(struck_by(Fault::AnyError).grow(4096).unwrap_err().raw_os_error(), EIO);
    assert_eq!(struck_by(Fault::AnyError).discard(0, 1).unwrap_err().raw_os_error(), EIO);
}

fn nines(image: &[u8]) -> usize {
    image.iter().map(|byte| usize::from(*byte == 9)).sum()
}

/// How many sectors of a failing write of four arrive, over many seeds.
fn arrived(fault: Fault, code: Option<i32>) -> Vec<usize> {
    let mut counts: Vec<_> = (0..100)
        .map(|seed| {
            let device = SimDevice::new(2048, seed).with_faults(Faults::none().with(fault, When::At(1)));
            assert_eq!(device.write_at(&[9; 2048], 0).unwrap_err().raw_os_error(), code);
            let image = device.image();
            let count = nines(&image);
            assert!(image[..count].iter().all(|byte| *byte == 9), "a first part, not any part");
            count / 512
        })
        .collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}

#[test]
fn a_failed_write_may_have_arrived_in_part() {
    assert_eq!(arrived(Fault::WriteError, EIO), [0, 1, 2, 3, 4]);
    assert_eq!(arrived(Fault::NoSpace, ENOSPC), [0, 1, 2, 3, 4]);
    assert_eq!(arrived(Fault::ShortTransfer, None), [0, 1, 2, 3]);
}

#[test]
fn a_growth_without_space_leaves_the_length() {
    let device = struck_by(Fault::NoSpace);
    assert_eq!(device.grow(4096).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(device.len_bytes().unwrap(), 2048);
}

#[test]
fn a_short_read_fills_only_a_first_part() {
    let device = struck_by(Fault::ShortTransfer);
    let mut buf = [0xEE; 2048];
    assert_eq!(device.read_at(&mut buf, 0).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(buf[2047], 0xEE);
    let short = struck_by(Fault::ShortTransfer).write_at(&[9; 10], 0).unwrap_err();
    assert_eq!(short.kind(), io::ErrorKind::WriteZero);
}

#[test]
fn an_interruption_has_no_effect() {
    let device = struck_by(Fault::Interrupted);
    assert_eq!(device.write_at(&[9; 512], 0).unwrap_err().kind(), io::ErrorKind::Interrupted);
    assert_eq!(device.unsynced_count(), 0);
    let device = SimDevice::new(512, 1).with_faults(Faults::none().with(Fault::Interrupted, When::Nth(2)));
    device.write_at(&[9; 512], 0).unwrap();
    assert_eq!(device.sync().unwrap_err().kind(), io::ErrorKind::Interrupted);
    assert_eq!(durable(&device), [0; 512]);
}

#[test]
fn a_failed_sync_leaves_everything_volatile() {
    let device = SimDevice::new(512, 1).with_faults(Faults::none().with(Fault::SyncError, When::Nth(1)));
    device.write_at(&[9; 512], 0).unwrap();
    assert_eq!(device.sync().unwrap_err().raw_os_error(), EIO);
    assert_eq!(durable(&device), [0; 512]);
    assert_eq!(device.crash(&Survival::Everything).image(), [9; 512]);
}

/// What operating systems did for decades: the failed sync marks the pages clean, the next one finds nothing to
/// do and succeeds. Whoever retries a sync loses data.
#[test]
fn a_sync_that_drops_writes_is_followed_by_one_that_lies() {
    let device =
        SimDevice::new(512, 1).with_faults(Faults::none().with(Fault::SyncDropsWrites, When::Nth(1)));
    device.grow(1024).unwrap();
    device.write_at(&[9; 1024], 0).unwrap();
    assert_eq!(device.sync().unwrap_err().raw_os_error(), EIO);
    device.sync().unwrap();
    assert_eq!(device.image(), [9; 1024], "readers still see it");
    assert_eq!(device.crash(&Survival::Everything).image(), [0; 1024]);
}

/// A hole is the file system's own, as the length is: the discard stays when the write into it is dropped.
#[test]
fn a_sync_that_drops_writes_keeps_holes() {
    let device = SimDevice::from_image(&[1; 512], 1)
        .with_discarded(Discarded::Zeroes)
        .with_faults(Faults::none().with(Fault::SyncDropsWrites, When::Nth(1)));
    device.discard(0, 512).unwrap();
    device.write_at(&[9; 512], 0).unwrap();
    assert_eq!(device.sync().unwrap_err().raw_os_error(), EIO);
    device.sync().unwrap();
    assert_eq!(device.image(), [9; 512]);
    assert_eq!(device.crash(&Survival::Everything).image(), [0; 512]);
}

#[test]
fn a_lost_write_never_arrives() {
    let device = struck_by(Fault::LostWrite);
    device.write_at(&[9; 512], 0).unwrap();
    device.sync().unwrap();
    assert_eq!(device.image(), [1; 2048]);
}

#[test]
fn a_misdirected_write_arrives_whole_at_another_place() {
    let mut places: Vec<_> = (0..100)
        .map(|seed| {
            let faults = Faults::none().with(Fault::MisdirectedWrite, When::At(1));
            let device = SimDevice::from_image(&[1; 2048], seed).with_faults(faults);
            device.write_at(&[9; 500], 520).unwrap();
            let image = device.image();
            assert_eq!(nines(&image), 500);
            image.iter().position(|byte| *byte == 9).unwrap()
        })
        .collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places, [8, 1032, 1544]);

    let device = struck_by(Fault::MisdirectedWrite);
    device.write_at(&[9; 2048], 0).unwrap();
    assert_eq!(device.image(), [1; 2048], "without another place it is lost");
}

#[test]
fn a_stale_read_returns_what_an_earlier_sync_saw() {
    let device = SimDevice::new(512, 1).with_faults(Faults::none().with(Fault::StaleRead, When::From(1)));
    assert_eq!(read(&device, 0, 1).unwrap(), [0]);
    device.write_at(&[1], 0).unwrap();
    assert_eq!(read(&device, 0, 1).unwrap(), [0], "not synced: as of the last sync");
    device.sync().unwrap();
    assert_eq!(read(&device, 0, 1).unwrap(), [0], "synced: as of when the fault was set");
    device.write_at(&[2], 0).unwrap();
    assert_eq!(read(&device, 0, 1).unwrap(), [1]);
    device.grow(1024).unwrap();
    assert_eq!(read(&device, 600, 1).unwrap(), [0], "there is nothing older than a growth");
    assert_eq!(device.image()[0], 2);
}

#[test]
fn a_bit_flipped_on_read_is_right_the_next_time() {
    let device = struck_by(Fault::FlippedOnRead);
    assert_eq!(flipped_bits(&read(&device, 0, 2048).unwrap(), &[1; 2048]), 1);
    assert_eq!(read(&device, 0, 2048).unwrap(), [1; 2048]);
}

#[test]
fn a_bit_flipped_at_rest_stays_and_strikes_what_is_stored() {
    for seed in 0..50 {
        let mut image = vec![0; 1 << 20];
        image[9000..9010].fill(1);
        let faults = Faults::none().with(Fault::FlippedAtRest, When::At(1));
        let device = SimDevice::from_image(&image, seed).with_faults(faults);
        device.sync().unwrap();
        assert_eq!(flipped_bits(&device.image(), &image), 1);
        assert_eq!(flipped_bits(&device.image()[8192..12288], &image[8192..12288]), 1);
        assert_eq!(durable(&device), device.image());
    }
}

#[test]
fn a_flip_under_a_cached_write_is_hidden_until_the_crash_and_healed_by_the_sync() {
    let device = SimDevice::new(512, 1);
    device.write_at(&[0; 10], 0).unwrap();
    device.flip_bit(3, 7);
    assert_eq!(device.image(), [0; 512]);
    assert_eq!(durable(&device)[3], 0x80);
    device.sync().unwrap();
    assert_eq!(durable(&device), [0; 512]);
}

#[test]
fn a_power_cut_fails_everything_from_then_on_and_its_own_write_may_have_arrived() {
    let device = struck_by(Fault::PowerCut);
    device.write_at(&[9; 512], 0).unwrap_err();
    assert!(device.is_cut());
    read(&device, 0, 1).unwrap_err();
    device.write_at(&[8; 512], 0).unwrap_err();
    device.sync().unwrap_err();
    device.grow(4096).unwrap_err();
    device.discard(0, 1).unwrap_err();
    device.len_bytes().unwrap_err();
    assert_eq!((device.operations(), device.unsynced_count()), (1, 1));

    let lost = device.crash(&Survival::Nothing);
    assert_eq!(read(&lost, 0, 512).unwrap(), [1; 512]);
    let kept = device.crash(&Survival::Everything);
    assert_eq!(read(&kept, 0, 512).unwrap(), [9; 512]);
    kept.sync().unwrap();
    assert_eq!(kept.operations(), 2);
}

#[test]
fn a_power_cut_during_growth_discard_or_sync_leaves_the_outcome_open() {
    let device = struck_by(Fault::PowerCut).with_discarded(Discarded::Zeroes);
    device.discard(0, 512).unwrap_err();
    assert_eq!(device.crash(&Survival::Everything).image()[0], 0);
    let device = struck_by(Fault::PowerCut);
    device.grow(4096).unwrap_err();
    assert_eq!(device.crash(&Survival::Everything).image().len(), 4096);
    let device = SimDevice::new(512, 1).with_faults(Faults::none().with(Fault::PowerCut, When::At(2)));
    device.write_at(&[9; 512], 0).unwrap();
    device.sync().unwrap_err();
    assert_eq!(durable(&device), [0; 512]);
    assert_eq!(device.crash(&Survival::Everything).image(), [9; 512]);
}

#[test]
fn crashing_leaves_the_device_itself_alone() {
    let device = SimDevice::new(512, 1);
    device.write_at(&[9; 512], 0).unwrap();
    for _ in 0..2 {
        assert_eq!(device.crash(&Survival::Nothing).image(), [0; 512]);
        assert_eq!(device.crash(&Survival::Everything).image(), [9; 512]);
    }
    device.cut_power();
    device.sync().unwrap_err();
}

#[test]
fn the_log_tells_what_happened() {
    let device = struck_by(Fault::LostWrite).with_log();
    device.write_at(&[9; 512], 512).unwrap();
    read(&device, 4096, 1).unwrap_err();
    device.sync().unwrap();
    let lines: Vec<_> = device.log().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "1 write 512 bytes at 512, struck by a lost write",
            "2 read 1 bytes at 4096, failed: unexpected end of file",
            "3 sync",
        ]
    );
    assert_eq!(device.crash(&Survival::Nothing).log(), []);
}

/// Everything at once, by chance.
fn misery() -> Faults {
    [
        (Fault::ReadError, 50),
        (Fault::WriteError, 50),
        (Fault::SyncError, 20),
        (Fault::SyncDropsWrites, 20),
        (Fault::LengthError, 50),
        (Fault::NoSpace, 50),
        (Fault::NoSpaceInHoles, 10),
        (Fault::SyncNoSpace, 20),
        (Fault::Interrupted, 50),
        (Fault::ShortTransfer, 50),
        (Fault::LostWrite, 30),
        (Fault::MisdirectedWrite, 30),
        (Fault::StaleRead, 10),
        (Fault::FlippedOnRead, 30),
        (Fault::FlippedAtRest, 50),
        (Fault::PowerCut, 400),
    ]
    .into_iter()
    .fold(Faults::none(), |faults, (fault, count)| faults.with(fault, When::OneIn(count)))
}

/// Runs `count` random operations, and returns a digest of everything that was read.
fn history(device: &SimDevice, random: &mut Random, count: usize) -> u64 {
    let mut digest = 0u64;
    for _ in 0..count {
        let len_bytes = device.len_bytes().unwrap_or(0).max(1);
        let (offset, len) = (random.below(len_bytes), random.index(3000));
        let mut buf = vec![0; len];
        random.fill(&mut buf);
        let result = match random.below(10) {
            0 => device.sync(),
            1 => device.grow(len_bytes + len as u64),
            2 => device.discard(offset, len as u64),
            3..=5 => device.read_at(&mut buf, offset),
            _ => device.write_at(&buf, offset),
        };
        let seen =
            buf.iter().fold(u64::from(result.is_ok()), |sum, byte| sum.rotate_left(7) ^ u64::from(*byte));
        digest = digest.rotate_left(1) ^ seen;
    }
    digest
}

#[test]
fn the_same_seed_and_operations_give_the_same_image_errors_and_log() {
    for seed in 0..20 {
        let runs = [(); 2].map(|()| {
            let device = SimDevice::new(16_384, seed).with_log().with_faults(misery());
            let digest = history(&device, &mut Random::new(seed), 500);
            (digest, device.image(), device.log(), device.crash(&Survival::Random(seed)).image())
        });
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}

#[test]
fn a_fork_goes_on_like_the_original_and_apart_from_it() {
    let device = SimDevice::new(16_384, 3).with_faults(misery());
    history(&device, &mut Random::new(1), 50);
    let fork = device.fork();
    let before = fork.image();
    let digest = history(&device, &mut Random::new(2), 50);
    assert_eq!(fork.image(), before);
    assert_eq!(history(&fork, &mut Random::new(2), 50), digest);
    assert_eq!(fork.image(), device.image());
}

/// N2 and N3 against a plain vector for each: no fault, any history.
#[test]
fn without_faults_it_behaves_like_two_vectors() {
    for seed in 0..20 {
        let device = SimDevice::new(8192, seed).with_discarded(Discarded::Zeroes);
        let (mut visible, mut durable_model) = (vec![0; 8192], vec![0; 8192]);
        let mut random = Random::new(seed);
        for _ in 0..300 {
            let offset = random.index(visible.len());
            let len = random.index(visible.len() - offset + 1).min(5000);
            let range = offset..offset + len;
            match random.below(8) {
                0 => {
                    device.sync().unwrap();
                    durable_model.clone_from(&visible);
                }
                1 => {
                    visible.resize(visible.len() + random.index(2000), 0);
                    device.grow(visible.len() as u64).unwrap();
                }
                2 => {
                    device.discard(offset as u64, len as u64).unwrap();
                    visible[range].fill(0);
                }
                _ => {
                    random.fill(&mut visible[range.clone()]);
                    device.write_at(&visible[range], offset as u64).unwrap();
                }
            }
            assert!(device.image() == visible && durable(&device) == durable_model, "seed {seed}");
        }
        assert_eq!(device.crash(&Survival::Everything).image(), visible);
    }
}
