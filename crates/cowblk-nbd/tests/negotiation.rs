//! The negotiation as a dialogue: what clients say, and what they are told.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk_nbd::codec::{
    ClientFlags, ContextQuery, Decoded, InfoQuery, OptionCode, OptionHead, OptionReply, Style, answer, info,
};
use cowblk_nbd::negotiation::{Agreed, Directory, Exported, Listed, Negotiation, Refusal, Step, Tls};
use proptest::prelude::*;

/// Exports `a` and `b`; `b` is read-only, and the default one.
struct Two;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Shelf(&'static str);

impl Directory for Two {
    type Export = Shelf;

    fn list(&self) -> Vec<Listed> {
        ["a", "b"].map(|name| Listed { name: name.into(), description: format!("the {name}") }).to_vec()
    }

    fn find(&self, name: &str) -> Result<Shelf, Refusal> {
        match name {
            "a" => Ok(Shelf("a")),
            "b" | "" => Ok(Shelf("b")),
            _ => Err(Refusal::Unknown(format!("no {name:?} here"))),
        }
    }
}

impl Exported for Shelf {
    fn name(&self) -> &str {
        self.0
    }
    fn description(&self) -> String {
        format!("the {}", self.0)
    }
    fn size_bytes(&self) -> u64 {
        4096
    }
    fn is_read_only(&self) -> bool {
        self.0 == "b"
    }
    fn can_multi_conn(&self) -> bool {
        true
    }
    fn preferred_block_bytes(&self) -> u32 {
        4096
    }
    fn contexts(&self) -> Vec<String> {
        ["base:allocation", "x:one", "x:two"].map(String::from).to_vec()
    }
    fn has_context(&self, name: &str) -> bool {
        self.contexts().iter().any(|context| context == name)
    }
}

/// How a dialogue ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Waits,
    StartTls,
    Transmits(Agreed<Shelf>),
    Closed(&'static str),
}

/// Says `input` in pieces that end at `cuts`; returns all that was answered.
fn talk(negotiation: &mut Negotiation, input: &[u8], cuts: &[usize]) -> (Vec<u8>, End) {
    let (mut out, mut start, mut end) = (Vec::new(), 0, 0);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(input.len());
    for cut in cuts {
        end = end.max(cut);
        loop {
            match negotiation.step(&input[start..end], &Two, &mut out) {
                Step::Read(needed) => {
                    assert!(needed > end - start, "it waits for bytes that are there");
                    assert!(needed < 70 << 10, "it waits for {needed} bytes");
                    break;
                }
                Step::Used(count) => {
                    assert!(count > 0 && start + count <= end);
                    start += count;
                }
                Step::StartTls(count) => {
                    assert!(start + count <= end);
                    return (out, End::StartTls);
                }
                Step::Transmit(count, agreed) => {
                    assert!(start + count <= end);
                    return (out, End::Transmits(agreed));
                }
                Step::Close(why) => return (out, End::Closed(why)),
            }
        }
    }
    (out, End::Waits)
}

/// What a client says: flags, then options.
fn saying(options: &[(OptionCode, Vec<u8>)]) -> Vec<u8> {
    let mut input = Vec::new();
    ClientFlags { is_fixed: true, no_zeroes: true }.encode(&mut input);
    for (code, data) in options {
        OptionHead::encode(*code, data, &mut input);
    }
    input
}

/// Kinds and data of the replies.
fn replies(mut out: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut found = Vec::new();
    while !out.is_empty() {
        let Decoded::Value(head, start) = OptionReply::decode(out) else { panic!("no reply: {out:?}") };
        let end = start + usize::try_from(head.len).unwrap();
        found.push((head.kind, out[start..end].to_vec()));
        out = &out[end..];
    }
    found
}

fn ask(tls: Tls, options: &[(OptionCode, Vec<u8>)]) -> (Vec<(u32, Vec<u8>)>, End) {
    let (out, end) = talk(&mut Negotiation::new(tls), &saying(options), &[]);
    (replies(&out), end)
}

fn go(name: &str) -> (OptionCode, Vec<u8>) {
    let mut data = Vec::new();
    InfoQuery::encode(name, &[info::NAME, info::DESCRIPTION, info::BLOCK_SIZE], &mut data);
    (OptionCode::Go, data)
}

fn contexts(code: OptionCode, name: &str, queries: &[&str]) -> (OptionCode, Vec<u8>) {
    let mut data = Vec::new();
    ContextQuery::encode(name, queries, &mut data);
    (code, data)
}

fn option(code: OptionCode) -> (OptionCode, Vec<u8>) {
    (code, Vec::new())
}

fn kinds(replies: &[(u32, Vec<u8>)]) -> Vec<u32> {
    replies.iter().map(|(kind, _)| *kind).collect()
}

#[test]
fn go_tells_about_the_export_and_begins() {
    let (replies, end) = ask(Tls::Off, &[go("a")]);
    assert_eq!(kinds(&replies), [answer::INFO, answer::INFO, answer::INFO, answer::INFO, answer::ACK]);
    assert_eq!(replies[0].1, [0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0x0d, 0x6d], "size, and what it can do");
    assert_eq!(replies[1].1, b"\0\x01a");
    assert_eq!(replies[2].1, b"\0\x02the a");
    assert_eq!(replies[3].1, [0, 3, 0, 0, 0, 1, 0, 0, 16, 0, 2, 0, 0, 0]);
    let agreed = Agreed { export: Shelf("a"), style: Style::Simple, contexts: Vec::new() };
    assert_eq!(end, End::Transmits(agreed));
}

#[test]
fn the_empty_name_is_the_default_export() {
    let (replies, end) = ask(Tls::Off, &[go("")]);
    assert_eq!(replies[1].1, b"\0\x01b", "its name is told");
    assert!(matches!(end, End::Transmits(Agreed { export: Shelf("b"), .. })), "{end:?}");
}

#[test]
fn an_unknown_export_is_refused_by_name_and_the_client_may_go_on() {
    let (replies, end) = ask(Tls::Off, &[go("c"), go(&"n".repeat(4096)), go("a")]);
    assert_eq!(replies[0], (answer::UNKNOWN, br#"no "c" here"#.to_vec()));
    assert_eq!(replies[1].0, answer::UNKNOWN);
    assert!(replies[1].1.len() <= 4096);
    assert!(matches!(end, End::Transmits(_)), "{end:?}");
}

#[test]
fn names_that_no_string_can_be_are_refused() {
    let too_long = go(&"n".repeat(4097));
    let (code, mut no_text) = go("a");
    no_text[4] = 0xff;
    let (_, mut lies) = go("a");
    lies[3] = 200;
    let (replies, _) =
        ask(Tls::Off, &[too_long, go("a\0b"), (code, no_text), (code, lies), (code, Vec::new())]);
    assert_eq!(kinds(&replies), [answer::INVALID; 5]);
}

#[test]
fn an_option_with_too_much_data_is_passed_over() {
    let (replies, end) = ask(Tls::Off, &[(OptionCode::Info, vec![0; 100_000]), go("a")]);
    assert_eq!(replies[0].0, answer::TOO_BIG);
    assert!(matches!(end, End::Transmits(_)), "{end:?}");
}

#[test]
fn a_flood_of_options_ends() {
    let flood = vec![option(OptionCode::Unknown(99)); (1 << 16) + 1];
    let (replies, end) = ask(Tls::Off, &flood);
    assert!(replies.iter().all(|(kind, _)| *kind == answer::UNSUPPORTED));
    assert!(matches!(end, End::Closed(_)), "{end:?}");
}

#[test]
fn the_list_has_names_and_descriptions() {
    let (replies, end) = ask(Tls::Off, &[option(OptionCode::List), option(OptionCode::Abort)]);
    assert_eq!(kinds(&replies), [answer::SERVER, answer::SERVER, answer::ACK, answer::ACK]);
    assert_eq!(replies[1].1, b"\0\0\0\x01bthe b");
    assert!(matches!(end, End::Closed(_)), "{end:?}");
    let (replies, _) = ask(Tls::Off, &[(OptionCode::List, vec![1])]);
    assert_eq!(kinds(&replies), [answer::INVALID]);
}

#[test]
fn contexts_need_structured_replies_and_hold_for_one_export() {
    let choose =
        |name| contexts(OptionCode::SetMetaContext, name, &["x:two", "y:", "base:allocation", "x:two", "x:"]);
    let (replies, _) = ask(Tls::Off, &[choose("a")]);
    assert_eq!(kinds(&replies), [answer::INVALID]);

    let (replies, end) = ask(Tls::Off, &[option(OptionCode::StructuredReply), choose("a"), go("a")]);
    assert_eq!(kinds(&replies)[..4], [answer::ACK, answer::META_CONTEXT, answer::META_CONTEXT, answer::ACK]);
    assert_eq!(replies[1].1, b"\0\0\0\x01x:two");
    let End::Transmits(agreed) = end else { panic!("{end:?}") };
    let names: Vec<_> = agreed.contexts.iter().map(|context| (context.id, context.name.as_str())).collect();
    assert_eq!((agreed.style, names), (Style::Structured, vec![(1, "x:two"), (2, "base:allocation")]));

    let (_, end) = ask(Tls::Off, &[option(OptionCode::StructuredReply), choose("a"), go("b")]);
    assert!(matches!(&end, End::Transmits(agreed) if agreed.contexts.is_empty()), "{end:?}");
    let (_, end) = ask(Tls::Off, &[option(OptionCode::StructuredReply), choose("b"), go("")]);
    assert!(matches!(&end, End::Transmits(agreed) if agreed.contexts.len() == 2), "{end:?}");
    let (_, end) = ask(Tls::Off, &[option(OptionCode::StructuredReply), choose("a"), choose("c"), go("a")]);
    assert!(matches!(&end, End::Transmits(agreed) if agreed.contexts.is_empty()), "{end:?}");
}

#[test]
fn contexts_are_listed_whole_or_by_name_space() {
    let count = |queries: &[&str]| {
        let (replies, _) = ask(Tls::Off, &[contexts(OptionCode::ListMetaContext, "a", queries)]);
        assert_eq!(replies.last().map(|(kind, _)| *kind), Some(answer::ACK));
        replies.len() - 1
    };
    assert_eq!((count(&[]), count(&["x:"]), count(&["base:", "x:one"]), count(&["z:"])), (3, 2, 2, 0));
}

#[test]
fn extended_headers_include_structured_replies() {
    let (replies, end) = ask(
        Tls::Off,
        &[
            option(OptionCode::StructuredReply),
            option(OptionCode::StructuredReply),
            option(OptionCode::ExtendedHeaders),
            option(OptionCode::ExtendedHeaders),
            option(OptionCode::StructuredReply),
            go("a"),
        ],
    );
    let expected =
        [answer::ACK, answer::INVALID, answer::ACK, answer::INVALID, answer::EXTENDED_HEADERS_REQUIRED];
    assert_eq!(kinds(&replies)[..5], expected);
    assert!(matches!(end, End::Transmits(Agreed { style: Style::Extended, .. })), "{end:?}");
}

#[test]
fn before_tls_nothing_is_told() {
    let (replies, end) =
        ask(Tls::Required, &[option(OptionCode::List), go("a"), option(OptionCode::StartTls)]);
    assert_eq!(kinds(&replies), [answer::TLS_REQUIRED, answer::TLS_REQUIRED, answer::ACK]);
    assert_eq!(end, End::StartTls);
    let (_, end) = ask(Tls::Required, &[(OptionCode::ExportName, b"a".to_vec())]);
    assert!(matches!(end, End::Closed(_)), "{end:?}");
    let (replies, _) = ask(Tls::Off, &[option(OptionCode::StartTls)]);
    assert_eq!(kinds(&replies), [answer::POLICY]);
}

#[test]
fn what_was_agreed_on_before_tls_is_forgotten() {
    let mut negotiation = Negotiation::new(Tls::Required);
    talk(&mut negotiation, &saying(&[option(OptionCode::StartTls)]), &[]);
    negotiation.tls_began();
    let mut input = Vec::new();
    let (code, data) = go("a");
    OptionHead::encode(OptionCode::StartTls, &[], &mut input);
    OptionHead::encode(code, &data, &mut input);
    let (out, end) = talk(&mut negotiation, &input, &[]);
    assert_eq!(replies(&out)[0].0, answer::INVALID, "TLS in TLS");
    assert!(matches!(end, End::Transmits(Agreed { style: Style::Simple, .. })), "{end:?}");
}

#[test]
fn old_clients_name_their_export_and_get_padding() {
    let mut input = Vec::new();
    ClientFlags { is_fixed: false, no_zeroes: false }.encode(&mut input);
    OptionHead::encode(OptionCode::ExportName, b"b", &mut input);
    let (out, end) = talk(&mut Negotiation::new(Tls::Off), &input, &[]);
    assert_eq!(out.len(), 8 + 2 + 124);
    assert!(matches!(end, End::Transmits(Agreed { export: Shelf("b"), .. })), "{end:?}");
    let (_, end) = ask(Tls::Off, &[(OptionCode::ExportName, b"c".to_vec())]);
    assert!(matches!(end, End::Closed(_)), "this option cannot be refused: {end:?}");
}

#[test]
fn flags_that_were_not_offered_end_the_session() {
    let (_, end) = talk(&mut Negotiation::new(Tls::Off), &[0, 0, 0, 4], &[]);
    assert!(matches!(end, End::Closed(_)), "{end:?}");
}

fn options() -> impl Strategy<Value = Vec<(OptionCode, Vec<u8>)>> {
    let names = prop_oneof![Just("a"), Just("b"), Just("c"), Just("")];
    let sensible = prop_oneof![
        names.clone().prop_map(go),
        names.clone().prop_map(|name| contexts(OptionCode::SetMetaContext, name, &["x:one"])),
        names.prop_map(|name| contexts(OptionCode::ListMetaContext, name, &["x:"])),
        (0..14_u32).prop_map(|code| option(code.into())),
        (0..14_u32, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(code, data)| (code.into(), data)),
    ];
    prop::collection::vec(sensible, 0..8)
}

proptest! {
    /// A client's words mean the same however the network cuts them.
    #[test]
    fn cuts_make_no_difference(options in options(), cuts in prop::collection::vec(any::<usize>(), 0..9), noise in prop::collection::vec(any::<u8>(), 0..30)) {
        let mut input = saying(&options);
        input.extend(noise);
        let whole = talk(&mut Negotiation::new(Tls::Off), &input, &[]);
        let cut = talk(&mut Negotiation::new(Tls::Off), &input, &cuts);
        prop_assert_eq!(&whole, &cut);
        let bytewise: Vec<usize> = (0..input.len()).collect();
        prop_assert_eq!(&whole, &talk(&mut Negotiation::new(Tls::Off), &input, &bytewise));
    }
}
