//! The server in transmission: every command in every style, many requests at a time, and clients that misbehave.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod client;

use client::{Bench, Client, noise};
use cowblk_nbd::codec::{Command, Extent, StatusPayload, Style, command};
use cowblk_nbd::negotiation::{Directory, Exported};
use cowblk_nbd::{DefaultExport, Settings, StoreDirectory};
use proptest::prelude::*;
use std::collections::HashMap;
use std::io::Write;

const STYLES: [Style; 3] = [Style::Simple, Style::Structured, Style::Extended];
const MIB: u64 = 1 << 20;

#[test]
fn every_command_does_what_it_says_in_every_style() {
    for style in STYLES {
        let bench = Bench::new(64 * MIB);
        let mut client = bench.client(style);
        let data = noise(1, 100_000);
        client.put(12_345, &data);
        assert_eq!(client.get(12_345, 100_000), data, "{style:?}");
        assert_eq!(client.get(0, 12_345), vec![0; 12_345]);

        assert_eq!(client.ask(Command::WriteZeroes, command::NO_HOLE, (20_000, 30_000), &[]).error, 0);
        assert_eq!(client.get(20_000, 30_000), vec![0; 30_000]);
        assert_eq!(
            client.ask(Command::WriteZeroes, command::FAST_ZERO | command::FUA, (0, 64 * MIB), &[]).error,
            0
        );
        assert_eq!(client.get(12_345, 100_000), vec![0; 100_000]);

        client.put(8 * MIB, &data);
        assert_eq!(client.ask(Command::Trim, 0, (8 * MIB, 100_000), &[]).error, 0);
        assert_eq!(client.get(8 * MIB, 100_000), vec![0; 100_000], "a trimmed range reads as zeros here");
        assert_eq!(client.ask(Command::Cache, 0, (0, 32 * MIB), &[]).error, 0);
        client.flush();

        for kind in [Command::Read, Command::Write, Command::Trim, Command::WriteZeroes, Command::Cache] {
            assert_eq!(client.ask(kind, 0, (5, 0), &[]).error, 0, "{style:?}: {kind:?} of nothing");
        }
    }
}

#[test]
fn the_largest_payload_goes_both_ways() {
    for style in STYLES {
        let bench = Bench::new(80 * MIB);
        let mut client = bench.client(style);
        let data = noise(2, 32 << 20);
        client.put(4096 + 77, &data);
        assert_eq!(client.get(4096 + 77, 32 * MIB), data, "{style:?}");
        if style != Style::Simple {
            let reply = client.ask(Command::Read, command::DF, (4096 + 77, 32 * MIB), &[]);
            assert_eq!((reply.data.len(), reply.bytes() == data), (1, true), "one piece, {style:?}");
        }
    }
}

#[test]
fn a_bad_request_is_refused_and_the_next_one_is_served() {
    for style in STYLES {
        let bench = Bench::new(MIB);
        let mut client = bench.client(style);
        let refused = |client: &mut Client, kind, flags, range, payload: &[u8]| {
            let error = client.ask(kind, flags, range, payload).error;
            client.put(0, b"still here");
            assert_eq!(client.get(0, 10), b"still here");
            error
        };
        let data = noise(3, 4096);
        assert_eq!(refused(&mut client, Command::Read, 0, (MIB - 1, 2), &[]), 22);
        assert_eq!(refused(&mut client, Command::Write, 0, (MIB - 1, 4096), &data), 22);
        assert_eq!(refused(&mut client, Command::Write, 0, (u64::MAX, 4096), &data), 22);
        assert_eq!(refused(&mut client, Command::Trim, 0, (MIB, 1), &[]), 22);
        assert_eq!(refused(&mut client, Command::WriteZeroes, 0, (MIB, 1), &[]), 22);
        assert_eq!(refused(&mut client, Command::Read, 0, (0, 33 * MIB), &[]), 22);
        assert_eq!(refused(&mut client, Command::Write, 0, (0, 33 * MIB), &vec![7; 33 << 20]), 22);
        assert_eq!(refused(&mut client, Command::Read, 1 << 9, (0, 1), &[]), 22);
        assert_eq!(refused(&mut client, Command::Write, command::DF, (0, 4096), &data), 22);
        assert_eq!(refused(&mut client, Command::Unknown(77), 0, (0, 0), &[]), 22);
        assert_eq!(refused(&mut client, Command::BlockStatus, 0, (0, 4096), &[]), 22);
        assert_eq!(refused(&mut client, Command::Flush, 0, (0, 1), &[]), 22);
    }
}

#[test]
fn a_full_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let options = cowblk::Options::default().journal_bytes(64 << 10).zone_blocks(256).max_bytes(4 << 20);
    let store = cowblk::Store::create(folder.path().join("pool.cow"), options).unwrap();
    store.create_server("web").unwrap().create_disk("vda", 64 * MIB).unwrap();
    let socket = folder.path().join("s.sock");
    let _server = client::serve(&store, Settings::default(), socket.clone());
    let mut client = Client::open(&socket, Style::Structured, "web/vda", &[]).unwrap();
    let data = noise(4, 8 << 20);
    let reply = client.ask(Command::Write, 0, (0, 8 * MIB), &data);
    assert_eq!(reply.error, 28, "{}", reply.message);
    assert!(reply.message.contains("web/vda"), "{}", reply.message);
    assert_eq!(client.ask(Command::Trim, 0, (0, 64 * MIB), &[]).error, 0, "a full store takes a discard");
}

#[test]
fn what_is_read_only_refuses_writes_as_that() {
    let bench = Bench::new(MIB);
    bench.disk().write_at(b"frozen", 0).unwrap();
    bench.store.server("web").unwrap().snapshot("clean", "as installed").unwrap();
    bench.disk().write_at(b"thawed", 0).unwrap();
    let mut frozen = Client::open(&bench.socket(), Style::Structured, "web/vda@clean", &[]).unwrap();
    let mut head = bench.client(Style::Structured);
    head.put(6, b" again");
    assert_eq!((frozen.get(0, 6), head.get(0, 12)), (b"frozen".to_vec(), b"thawed again".to_vec()));
    for kind in [Command::Trim, Command::WriteZeroes] {
        assert_eq!(frozen.ask(kind, 0, (0, 1), &[]).error, 1);
    }
    assert_eq!(frozen.ask(Command::Write, 0, (0, 3), b"new").error, 1);
    frozen.flush();
    assert_eq!(frozen.get(0, 6), b"frozen");

    let settings = Settings { is_read_only: true, ..Settings::default() };
    let other = bench.folder.path().join("r.sock");
    let _server = client::serve(&bench.store, settings, other.clone());
    let mut client = Client::open(&other, Style::Simple, "web/vda", &[]).unwrap();
    assert_eq!(client.ask(Command::Write, 0, (0, 3), b"new").error, 1);
    assert_eq!(client.get(0, 6), b"thawed");
}

#[test]
fn exports_are_found_by_name_and_refused_by_name() {
    let bench = Bench::new(MIB);
    let open = |name: &str| {
        Client::open(&bench.socket(), Style::Simple, name, &[]).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(open(""), Ok(()), "the only disk");
    for wrong in ["vda", "web/vdb", "no/vda", "web/vda@no", "web/vda@", "web/", "/", "@", "web/vda?x", "ü/ß"]
    {
        let sentence = open(wrong).unwrap_err();
        assert!(sentence.contains(wrong), "{wrong:?}: {sentence}");
    }
    assert!(open(&"x/".repeat(2048)).unwrap_err().contains("x/x/"), "a name of 4096 bytes");
    let id = bench.store.server("web").unwrap().snapshot("clean", "").unwrap().id();
    assert_eq!(open(&format!("web/vda@{id}")), Ok(()));

    bench.store.server("web").unwrap().create_disk("vdb", 512).unwrap();
    assert!(open("").unwrap_err().contains("several disks"));
    let named = Settings { default_export: DefaultExport::Named("web/vdb".into()), ..Settings::default() };
    let other = bench.folder.path().join("d.sock");
    let _server = client::serve(&bench.store, named, other.clone());
    let mut client = Client::open(&other, Style::Simple, "", &[]).unwrap();
    assert_eq!(client.get(0, 512).len(), 512);
    assert_eq!(client.ask(Command::Read, 0, (0, 513), &[]).error, 22, "the last sector ends it");
}

/// The extents of the only context.
fn extents(client: &mut Client, flags: u16, range: (u64, u64)) -> Vec<(u64, u64)> {
    let reply = client.ask(Command::BlockStatus, flags, range, &[]);
    assert_eq!((reply.error, reply.statuses.len()), (0, 1), "{}", reply.message);
    reply.statuses[0].1.iter().map(|Extent { len, status }| (*len, *status)).collect()
}

#[test]
fn contexts_tell_holes_from_data_and_old_from_new() {
    for style in [Style::Structured, Style::Extended] {
        let bench = Bench::new(4 * MIB);
        let disk = bench.disk();
        disk.write_at(&noise(5, 2 << 20), MIB).unwrap();
        bench.store.server("web").unwrap().snapshot("s", "").unwrap();
        disk.write_at(&noise(6, 4096), 2 * MIB).unwrap();

        let open = |context| Client::open(&bench.socket(), style, "web/vda", &[context]).unwrap();
        let mut allocation = open("base:allocation");
        assert_eq!(extents(&mut allocation, 0, (0, 4 * MIB)), [(MIB, 3), (2 * MIB, 0), (MIB, 3)]);
        assert_eq!(extents(&mut allocation, command::REQ_ONE, (100, 2 * MIB)), [(MIB - 100, 3)]);
        assert_eq!(extents(&mut allocation, command::REQ_ONE, (MIB, 8192)), [(8192, 0)]);
        let mut depth = open("qemu:allocation-depth");
        assert_eq!(
            extents(&mut depth, 0, (0, 4 * MIB)),
            [(MIB, 0), (MIB, 2), (4096, 1), (MIB - 4096, 2), (MIB, 0)]
        );
    }
}

#[test]
fn contexts_tell_what_changed_since_a_snapshot() {
    let bench = Bench::new(256 * MIB);
    let (disk, web) = (bench.disk(), bench.store.server("web").unwrap());
    web.create_disk("vdb", MIB).unwrap();
    disk.write_at(&noise(5, 2 << 20), MIB).unwrap();
    web.snapshot("monday", "").unwrap();
    disk.write_at(&noise(6, 8192), 2 * MIB).unwrap();
    disk.discard(MIB, 4096).unwrap();
    let tuesday = web.snapshot("tuesday", "").unwrap();
    disk.write_at(&noise(7, 4096), 200 * MIB).unwrap();

    for style in [Style::Structured, Style::Extended] {
        let open =
            |export: &str, context: &str| Client::open(&bench.socket(), style, export, &[context]).unwrap();
        let whole = (0, 256 * MIB);
        let monday = [(MIB, 0), (4096, 1), (MIB - 4096, 0), (8192, 1)];
        let until_tuesday = [&monday[..], &[(254 * MIB - 8192, 0)]].concat();
        let until_now = [&monday[..], &[(198 * MIB - 8192, 0), (4096, 1), (56 * MIB - 4096, 0)]].concat();
        let dirty = "qemu:dirty-bitmap:monday";
        assert_eq!(extents(&mut open("web/vda", dirty), 0, whole), until_now);
        assert_eq!(extents(&mut open("web/vda@tuesday", dirty), 0, whole), until_tuesday);
        let mut changed = open("web/vda", "cowblk:changed-since/monday");
        assert_eq!(extents(&mut changed, 0, (MIB + 1, 10_000)), [(4095, 3), (5905, 0)]);
        assert_eq!(extents(&mut changed, command::REQ_ONE, (2 * MIB + 4096, MIB)), [(4096, 1)]);
        let mut by_id = open("web/vda", &format!("qemu:dirty-bitmap:{}", tuesday.id()));
        assert_eq!(extents(&mut by_id, 0, (199 * MIB, 2 * MIB)), [(MIB, 0), (4096, 1), (MIB - 4096, 0)]);
    }
    // A disk that the snapshot does not hold, and a snapshot that is not there.
    web.create_disk("vdc", MIB).unwrap();
    let directory = StoreDirectory::new(bench.store.clone(), DefaultExport::OnlyDisk, false);
    let has = |export: &str, context: &str| directory.find(export).unwrap().has_context(context);
    assert!(has("web/vda", "qemu:dirty-bitmap:monday") && !has("web/vdc", "qemu:dirty-bitmap:monday"));
    assert!(!has("web/vda", "qemu:dirty-bitmap:sunday"));
    assert_eq!(directory.find("web/vda").unwrap().contexts().len(), 6);
    assert_eq!(directory.find("web/vdc").unwrap().contexts().len(), 2);
}

#[test]
fn a_scratch_copy_is_its_connections_own() {
    let bench = Bench::new(MIB);
    bench.disk().write_at(b"frozen", 0).unwrap();
    bench.store.server("web").unwrap().snapshot("clean", "").unwrap();
    let open = |style| Client::open(&bench.socket(), style, "web/vda@clean?scratch", &[]).unwrap();
    let (mut one, mut two) = (open(Style::Simple), open(Style::Extended));
    one.put(0, b"melted");
    one.flush();
    assert_eq!((one.get(0, 6), two.get(0, 6)), (b"melted".to_vec(), b"frozen".to_vec()));
    let mut frozen = Client::open(&bench.socket(), Style::Simple, "web/vda@clean", &[]).unwrap();
    assert_eq!(frozen.get(0, 6), b"frozen");
    assert_eq!((bench.store.servers().len(), bench.store.staging_servers().len()), (1, 2));
    drop((one, two));
    while !bench.store.staging_servers().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(open(Style::Structured).get(0, 6), b"frozen");
    assert!(Client::open(&bench.socket(), Style::Simple, "web/vda?scratch", &[]).is_err());

    bench.store.create_staging_server("nbd-scratch-99").unwrap();
    bench.store.create_staging_server("others").unwrap();
    bench.server.stop();
    cowblk_nbd::clear_scratch(&bench.store).unwrap();
    let left: Vec<_> = bench.store.staging_servers().iter().map(cowblk::Server::name).collect();
    assert_eq!(left, ["others"]);
}

#[test]
fn a_payload_picks_contexts() {
    let bench = Bench::new(4 * MIB);
    let contexts = ["base:allocation", "qemu:allocation-depth"];
    let mut client = Client::open(&bench.socket(), Style::Extended, "web/vda", &contexts).unwrap();
    let mut ask = |ids: &[u32], len| {
        let mut payload = Vec::new();
        StatusPayload { len, ids: ids.to_vec() }.encode(&mut payload);
        client.ask(Command::BlockStatus, command::PAYLOAD_LEN, (MIB, payload.len() as u64), &payload)
    };
    let reply = ask(&[2], MIB);
    assert_eq!(reply.statuses, [(2, vec![Extent { len: MIB, status: 0 }])], "{}", reply.message);
    assert_eq!(ask(&[2, 1], MIB).statuses.len(), 2);
    for (ids, len) in [(&[][..], 1), (&[3][..], 1), (&[1, 1][..], 1), (&[1][..], 0), (&[1][..], 4 * MIB)] {
        assert_eq!(ask(ids, len).error, 22, "{ids:?}, {len}");
    }
    assert_eq!(ask(&[1], MIB).error, 0);
}

#[test]
fn a_huge_disk_is_told_of_in_one_reply_with_64_bits_and_in_pieces_with_32() {
    let bench = Bench::new(1 << 50);
    let mut wide = Client::open(&bench.socket(), Style::Extended, "web/vda", &["base:allocation"]).unwrap();
    assert_eq!(extents(&mut wide, 0, (0, 1 << 50)), [(1 << 50, 3)]);
    let mut narrow =
        Client::open(&bench.socket(), Style::Structured, "web/vda", &["base:allocation"]).unwrap();
    assert_eq!(
        extents(&mut narrow, 0, (1 << 40, u64::from(u32::MAX))),
        [((1 << 32) - 65_536, 3), (65_535, 3)]
    );
}

/// Requests go out many at a time; the replies come in any order, and all of them.
#[test]
fn many_requests_are_in_flight_at_once() {
    for style in STYLES {
        let bench = Bench::new(64 * MIB);
        let mut client = bench.client(style);
        let mut expected: HashMap<u64, Option<Vec<u8>>> = HashMap::new();
        for at in 0..256_u64 {
            let bytes = noise(at + 1, 4096);
            expected.insert(client.write(at * 4096, &bytes), None);
            if at % 16 == 0 {
                expected.insert(client.send(Command::Flush, 0, (0, 0), &[]), None);
                expected.insert(
                    client.send(Command::Write, command::FUA, (32 * MIB + at * 4096, 4096), &bytes),
                    None,
                );
            }
        }
        for _ in 0..expected.len() {
            let reply = client.reply().unwrap();
            assert_eq!((expected.remove(&reply.cookie), reply.error), (Some(None), 0), "{style:?}");
        }
        for at in 0..256_u64 {
            expected.insert(client.read(at * 4096, 4096), Some(noise(at + 1, 4096)));
            if at % 64 == 0 {
                expected.insert(client.read(4096, 255 * 4096), None);
                expected.insert(client.send(Command::Cache, 0, (0, MIB), &[]), None);
            }
        }
        for _ in 0..expected.len() {
            let reply = client.reply().unwrap();
            let data = expected.remove(&reply.cookie).expect("each is answered once");
            assert!(reply.error == 0 && data.is_none_or(|data| data == reply.bytes()), "{style:?}");
        }
    }
}

/// A client that takes no replies before it has sent everything: the server goes on reading.
#[test]
fn a_client_may_send_for_long_before_it_reads() {
    for style in STYLES {
        let bench = Bench::new(64 * MIB);
        let mut client = bench.client(style);
        let data = noise(7, 1 << 20);
        // Fewer requests than a connection has threads: with more, both sides may wait for each other to read.
        for at in 0..6 {
            client.read(at * MIB, MIB);
            client.write((at + 16) * MIB, &data);
        }
        for _ in 0..12 {
            assert_eq!(client.reply().unwrap().error, 0, "{style:?}");
        }
        assert_eq!(client.get(21 * MIB, MIB), data);
    }
}

#[test]
fn a_flush_on_one_connection_covers_what_was_completed_on_another() {
    let bench = Bench::new(MIB);
    let (mut one, mut two) = (bench.client(Style::Simple), bench.client(Style::Extended));
    one.put(0, b"first");
    assert_eq!(bench.after_a_crash(0, 5), [0; 5], "nothing made it durable yet");
    two.flush();
    assert_eq!(bench.after_a_crash(0, 5), b"first");
    assert_eq!(one.ask(Command::Write, command::FUA, (0, 6), b"second").error, 0);
    assert_eq!(bench.after_a_crash(0, 6), b"second");
    assert_eq!(two.get(0, 6), b"second");
    assert_eq!(one.ask(Command::Trim, command::FUA, (0, 4096), &[]).error, 0);
    assert_eq!(bench.after_a_crash(0, 6), [0; 6]);
}

#[test]
fn a_goodbye_is_heard_after_everything_was_answered() {
    let bench = Bench::new(64 * MIB);
    let mut client = bench.client(Style::Structured);
    for at in 0..64 {
        client.write(at * 65_536, &noise(at, 65_536));
        client.send(Command::Flush, 0, (0, 0), &[]);
    }
    client.send(Command::Disconnect, 0, (0, 0), &[]);
    for _ in 0..128 {
        assert_eq!(client.reply().unwrap().error, 0);
    }
    assert!(client.is_ended());
    assert_eq!(bench.after_a_crash(63 * 65_536, 65_536), noise(63, 65_536));
}

#[test]
fn half_a_request_hurts_nobody_else() {
    let bench = Bench::new(MIB);
    let mut other = bench.client(Style::Simple);
    for len in [1, 27, 28, 100, 4000] {
        let mut client = bench.client(Style::Simple);
        let mut bytes = Vec::new();
        let request =
            cowblk_nbd::codec::Request { flags: 0, command: Command::Write, cookie: 1, offset: 0, len: 4096 };
        request.encode(Style::Simple, &mut bytes);
        bytes.resize(28 + 4096, 7);
        client.stream.write_all(&bytes[..len]).unwrap();
        other.put(8192, b"at work");
        drop(client);
        assert_eq!(other.get(0, 4096), vec![0; 4096], "a write that did not arrive is none, {len}");
    }
    let mut client = bench.client(Style::Simple);
    client.stream.write_all(&[0x55; 28]).unwrap();
    assert!(client.is_ended(), "what cannot be followed ends the connection");
    assert_eq!(other.get(8192, 7), b"at work");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Random requests against plain bytes, in every style.
    #[test]
    fn it_behaves_like_a_plain_disk(
        style in prop_oneof![Just(Style::Simple), Just(Style::Structured), Just(Style::Extended)],
        steps in prop::collection::vec((0..6_u8, 0..600_000_usize, 0..400_000_usize, any::<u64>()), 1..40),
    ) {
        const SIZE: usize = 1_000_448;
        let bench = Bench::new(SIZE as u64);
        let mut client = bench.client(style);
        let mut model = vec![0; SIZE];
        for (kind, offset, len, seed) in steps {
            let len = if seed % 3 == 0 { len % 5000 } else { len };
            let len = len.min(SIZE - offset);
            let range = (offset as u64, len as u64);
            let flags = if seed % 7 == 0 { command::FUA } else { 0 };
            match kind {
                0 | 1 => {
                    let bytes = noise(seed, len);
                    prop_assert_eq!(client.ask(Command::Write, flags, range, &bytes).error, 0);
                    model[offset..offset + len].copy_from_slice(&bytes);
                }
                2 | 3 => {
                    let command = if kind == 2 { Command::Trim } else { Command::WriteZeroes };
                    prop_assert_eq!(client.ask(command, flags, range, &[]).error, 0);
                    model[offset..offset + len].fill(0);
                }
                4 => {
                    bench.store.checkpoint().unwrap();
                    bench.store.server("web").unwrap().snapshot(&format!("s{seed}"), "").unwrap();
                }
                _ => prop_assert!(client.get(range.0, range.1) == model[offset..offset + len]),
            }
        }
        prop_assert!(client.get(0, SIZE as u64) == model);
    }
}
