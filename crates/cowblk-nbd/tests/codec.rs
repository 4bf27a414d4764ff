//! The codec: what is encoded is decoded, and no bytes make it panic or read further than they go.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk_nbd::codec::{
    Chunk, ChunkHead, ClientFlags, Command, ContextQuery, Decoded, Extent, InfoQuery, NbdError, OptionCode,
    OptionHead, OptionReply, ReplyHead, Request, StatusPayload, Style, chunk, put_error, put_status,
};
use proptest::prelude::*;

fn styles() -> impl Strategy<Value = Style> {
    prop_oneof![Just(Style::Simple), Just(Style::Structured), Just(Style::Extended)]
}

fn requests() -> impl Strategy<Value = Request> {
    (any::<u16>(), any::<u16>(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(
        |(flags, command, cookie, offset, len)| Request {
            flags,
            command: Command::from(command),
            cookie,
            offset,
            len: len.into(),
        },
    )
}

/// Names as the protocol allows them.
fn names() -> impl Strategy<Value = String> {
    "[^\u{0}]{0,200}"
}

proptest! {
    #[test]
    fn a_request_is_read_as_it_was_written(request in requests(), style in styles(), rest in any::<[u8; 9]>()) {
        let mut bytes = Vec::new();
        request.encode(style, &mut bytes);
        let head = bytes.len();
        for short in 0..head {
            prop_assert_eq!(Request::decode(&bytes[..short], style), Decoded::Incomplete(head));
        }
        bytes.extend(rest);
        prop_assert_eq!(Request::decode(&bytes, style), Decoded::Value(request, head));
    }

    #[test]
    fn a_length_of_64_bits_needs_extended_headers(len: u64, cookie: u64) {
        let request = Request { flags: 0, command: Command::Trim, cookie, offset: 0, len };
        let mut bytes = Vec::new();
        request.encode(Style::Extended, &mut bytes);
        prop_assert_eq!(Request::decode(&bytes, Style::Extended), Decoded::Value(request, 32));
        prop_assert_eq!(Request::decode(&bytes, Style::Simple), Decoded::Broken);
    }

    #[test]
    fn options_are_read_as_they_were_written(
        name in names(),
        wanted in prop::collection::vec(any::<u16>(), 0..9),
        queries in prop::collection::vec(names(), 0..9),
    ) {
        let mut data = Vec::new();
        InfoQuery::encode(&name, &wanted, &mut data);
        let query = InfoQuery::decode(&data).expect("what was encoded");
        prop_assert_eq!(query.name, name.as_str());
        prop_assert!(wanted.iter().all(|kind| query.wants(*kind)));
        data.push(0);
        prop_assert_eq!(InfoQuery::decode(&data), None, "a byte too many");

        let queries: Vec<&str> = queries.iter().map(String::as_str).collect();
        let mut data = Vec::new();
        ContextQuery::encode(&name, &queries, &mut data);
        let query = ContextQuery::decode(&data).expect("what was encoded");
        prop_assert_eq!(query.queries().collect::<Vec<_>>(), queries);
        data.pop();
        prop_assert_eq!(ContextQuery::decode(&data), None, "a byte too few");

        let mut bytes = Vec::new();
        OptionHead::encode(OptionCode::Go, &data, &mut bytes);
        let head = OptionHead { code: OptionCode::Go, len: u32::try_from(data.len()).unwrap() };
        prop_assert_eq!(OptionHead::decode(&bytes), Decoded::Value(head, 16));
    }

    #[test]
    fn replies_are_read_as_they_were_written(
        request in requests(),
        style in styles(),
        data in prop::collection::vec(any::<u8>(), 1..99),
        message in ".{0,3000}",
        extents in prop::collection::vec((1..1_u64 << 31, 0..4_u64), 1..20),
    ) {
        let mut bytes = ReplyHead::data(style, &request, request.offset, data.len(), true).to_vec();
        prop_assert_eq!(bytes.len(), ReplyHead::data_bytes(style));
        bytes.extend(&data);
        match whole(&bytes) {
            None => prop_assert_eq!(style, Style::Simple),
            Some(chunk) => prop_assert_eq!(chunk, Chunk::Data(request.offset, &data)),
        }

        let mut bytes = Vec::new();
        put_error(style, &request, NbdError::NoSpace, &message, &mut bytes);
        match whole(&bytes) {
            None => {
                let head = ChunkHead::Simple { cookie: request.cookie, error: 28 };
                prop_assert_eq!(ChunkHead::decode(&bytes), Decoded::Value(head, 16));
            }
            Some(Chunk::Error(28, text)) => prop_assert!(message.starts_with(text) && text.len() <= 4096),
            Some(other) => prop_assert!(false, "{other:?}"),
        }

        let extents: Vec<Extent> = extents.iter().map(|&(len, status)| Extent { len, status }).collect();
        let mut bytes = Vec::new();
        let chunked = style.max(Style::Structured);
        put_status(chunked, &request, 7, &extents, true, &mut bytes);
        prop_assert_eq!(whole(&bytes), Some(Chunk::Status(7, extents)));
    }

    #[test]
    fn the_payload_of_block_status_is_read_as_it_was_written(len: u64, ids in prop::collection::vec(any::<u32>(), 0..20)) {
        let payload = StatusPayload { len, ids };
        let mut bytes = Vec::new();
        payload.encode(&mut bytes);
        prop_assert_eq!(StatusPayload::decode(&bytes), Some(payload));
        bytes.push(0);
        prop_assert_eq!(StatusPayload::decode(&bytes), None);
    }

    #[test]
    fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in any::<u16>(), style in styles()) {
        let _ = Request::decode(&bytes, style);
        let _ = OptionHead::decode(&bytes);
        let _ = OptionReply::decode(&bytes);
        let _ = ClientFlags::decode(&bytes);
        let _ = InfoQuery::decode(&bytes);
        let _ = ContextQuery::decode(&bytes);
        let _ = StatusPayload::decode(&bytes);
        let _ = ChunkHead::decode(&bytes);
        for kind in [kind, kind | chunk::ERROR_BIT, kind % 8] {
            let _ = Chunk::decode(kind, &bytes);
        }
    }
}

/// The one chunk that these bytes are; `None` for a simple reply.
fn whole(bytes: &[u8]) -> Option<Chunk<'_>> {
    match ChunkHead::decode(bytes) {
        Decoded::Value(ChunkHead::Simple { .. }, _) => None,
        Decoded::Value(ChunkHead::Chunk { kind, len, flags, .. }, head) => {
            assert_eq!(flags, 1, "the last chunk");
            assert_eq!(u64::try_from(bytes.len() - head).unwrap(), len);
            Some(Chunk::decode(kind, &bytes[head..]).expect("a chunk that was encoded"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_numbers_are_those_of_the_protocol() {
    let request = Request { flags: 1, command: Command::WriteZeroes, cookie: 2, offset: 3, len: 4 };
    let mut bytes = Vec::new();
    request.encode(Style::Simple, &mut bytes);
    assert_eq!(
        bytes,
        [0x25, 0x60, 0x95, 0x13, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4]
    );
    assert_eq!(&cowblk_nbd::codec::greeting()[..], b"NBDMAGICIHAVEOPT\0\x03");
    assert_eq!(&*ReplyHead::done(Style::Simple, &request), b"\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\x02");
}
