//! Nbd: whatever a client sends, cut however the network likes.
//!
//! A negotiation says the same to the same words in whatever pieces they come, waits only for bytes that it does not
//! have, and keeps no more than 64 KiB of them. Of the requests that follow, each that is let through lies within its
//! export, and none changes a read-only one. What is decoded is encoded to the bytes that it came from.

use cowblk_nbd::codec::{Chunk, ChunkHead, Command, Decoded, Request, StatusPayload, Style, chunk};
use cowblk_nbd::negotiation::{Agreed, Directory, Exported, Listed, Negotiation, Refusal, Step, Tls};
use cowblk_nbd::requests::Rules;

/// An export of 1 MiB under any name of one letter; capitals are read-only.
struct Letters;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Letter(String);

impl Directory for Letters {
    type Export = Letter;

    fn list(&self) -> Vec<Listed> {
        vec![Listed { name: "a".into(), description: "a letter".into() }]
    }

    fn find(&self, name: &str) -> Result<Letter, Refusal> {
        if name.len() <= 1 { Ok(Letter(name.to_owned())) } else { Err(Refusal::Unknown(name.to_owned())) }
    }
}

impl Exported for Letter {
    fn name(&self) -> &str {
        &self.0
    }
    fn description(&self) -> String {
        "d".repeat(5000)
    }
    fn size_bytes(&self) -> u64 {
        1 << 20
    }
    fn is_read_only(&self) -> bool {
        self.0.chars().any(char::is_uppercase)
    }
    fn can_multi_conn(&self) -> bool {
        true
    }
    fn preferred_block_bytes(&self) -> u32 {
        4096
    }
    fn contexts(&self) -> Vec<String> {
        vec!["base:allocation".into()]
    }
    fn has_context(&self, name: &str) -> bool {
        name == "base:allocation"
    }
}

/// How a negotiation ended, and how many bytes it used.
type End = (Option<Agreed<Letter>>, bool, usize);

/// The property.
pub fn run(data: &[u8]) {
    let Some((&[how, piece], words)) = data.split_first_chunk() else { return };
    let tls = if how & 1 == 0 { Tls::Off } else { Tls::Required };
    let whole = negotiate(tls, words, words.len().max(1));
    let in_pieces = negotiate(tls, words, usize::from(piece).max(1));
    assert_eq!(whole, in_pieces, "pieces of {piece} bytes make a difference");
    if let (_, (Some(agreed), _, used)) = whole {
        requests(&words[used..], &agreed);
    }
    for style in [Style::Simple, Style::Structured, Style::Extended] {
        requests(words, &Agreed { export: Letter("A".into()), style, contexts: Vec::new() });
    }
    replies(words);
}

/// Says the words in pieces of this length.
fn negotiate(tls: Tls, words: &[u8], piece: usize) -> (Vec<u8>, End) {
    let (mut negotiation, mut out) = (Negotiation::new(tls), Vec::new());
    let (mut start, mut end) = (0, 0);
    loop {
        match negotiation.step(&words[start..end], &Letters, &mut out) {
            Step::Read(needed) => {
                assert!(needed > end - start && needed <= (64 << 10) + 16, "it waits for {needed} bytes");
                if end == words.len() {
                    return (out, (None, false, start));
                }
                end = (end + piece).min(words.len());
            }
            Step::Used(count) => {
                assert!(count > 0);
                start += count;
            }
            Step::StartTls(count) => {
                negotiation.tls_began();
                start += count;
            }
            Step::Transmit(count, agreed) => return (out, (Some(agreed), false, start + count)),
            Step::Close(_) => return (out, (None, true, start)),
        }
        assert!(start <= end, "it used what was not there");
    }
}

fn requests(mut words: &[u8], agreed: &Agreed<Letter>) {
    let rules = Rules {
        size_bytes: 1 << 20,
        is_read_only: agreed.export.is_read_only(),
        style: agreed.style,
        has_contexts: !agreed.contexts.is_empty(),
    };
    while let Decoded::Value(request, used) = Request::decode(words, agreed.style) {
        let mut bytes = Vec::new();
        request.encode(agreed.style, &mut bytes);
        assert_eq!(bytes, words[..used], "{request:?}");
        if rules.check(&request).is_ok() {
            let end = request.offset.checked_add(request.len).expect("a range that ends");
            assert!(end <= 1 << 20 || request.command == Command::BlockStatus, "{request:?}");
            let changes = matches!(request.command, Command::Write | Command::Trim | Command::WriteZeroes);
            assert!(!changes || !rules.is_read_only, "{request:?}");
        }
        let payload = usize::try_from(request.payload_bytes(agreed.style)).unwrap_or(usize::MAX);
        let Some(rest) = words.get(used.saturating_add(payload)..) else { return };
        words = rest;
    }
}

fn replies(words: &[u8]) {
    if let Decoded::Value(ChunkHead::Chunk { kind, .. }, used) = ChunkHead::decode(words) {
        let _ = Chunk::decode(kind, &words[used..]);
    }
    for kind in
        [chunk::OFFSET_DATA, chunk::OFFSET_HOLE, chunk::BLOCK_STATUS, chunk::BLOCK_STATUS_EXT, chunk::ERROR]
    {
        let _ = Chunk::decode(kind, words);
    }
    if let Some(payload) = StatusPayload::decode(words) {
        let mut bytes = Vec::new();
        payload.encode(&mut bytes);
        assert_eq!(bytes, words);
    }
}
