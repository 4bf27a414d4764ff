//! The property of the fuzz target `nbd`: what it once failed on, and a stream of words that a client might say.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(missing_docs, unreachable_pub, reason = "a test crate has no outside")]

#[path = "../../../fuzz/properties/nbd.rs"]
mod nbd;

use cowblk_nbd::codec::{
    ClientFlags, Command, ContextQuery, InfoQuery, OptionCode, OptionHead, Request, Style,
};
use proptest::prelude::*;
use std::fs;
use std::path::Path;

#[test]
fn what_was_once_found_stays_fixed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions/nbd");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        nbd::run(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "there are no inputs");
}

/// A whole session, as a client would have it.
fn session(name: &str, style: Style, requests: &[(u16, u16, u64, u32)]) -> Vec<u8> {
    let mut words = Vec::new();
    ClientFlags { is_fixed: true, no_zeroes: true }.encode(&mut words);
    let mut data = Vec::new();
    match style {
        Style::Simple => {}
        Style::Structured => OptionHead::encode(OptionCode::StructuredReply, &[], &mut words),
        Style::Extended => OptionHead::encode(OptionCode::ExtendedHeaders, &[], &mut words),
    }
    ContextQuery::encode(name, &["base:allocation"], &mut data);
    OptionHead::encode(OptionCode::SetMetaContext, &data, &mut words);
    data.clear();
    InfoQuery::encode(name, &[0, 1, 2, 3], &mut data);
    OptionHead::encode(OptionCode::Go, &data, &mut words);
    for &(flags, command, offset, len) in requests {
        let request = Request { flags, command: Command::from(command), cookie: 1, offset, len: len.into() };
        request.encode(style, &mut words);
        let payload = usize::try_from(request.payload_bytes(style)).unwrap();
        words.resize(words.len() + payload.min(5000), 7);
    }
    words
}

proptest! {
    #[test]
    fn sessions_with_bytes_gone_wrong(
        how: u8,
        piece in 1..60_u8,
        name in prop_oneof![Just(""), Just("a"), Just("B"), Just("none")],
        style in prop_oneof![Just(Style::Simple), Just(Style::Structured), Just(Style::Extended)],
        requests in prop::collection::vec((any::<u16>(), 0..9_u16, 0..1_u64 << 21, 0..5000_u32), 0..6),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut words = session(name, style, &requests);
        for (at, byte) in wrong {
            let at = at.index(words.len());
            words[at] = byte;
        }
        let mut data = vec![how & 2, piece];
        data.extend(words);
        nbd::run(&data);
    }
}
