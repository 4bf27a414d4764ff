//! A client for tests, over the crate's codec, and a server to talk to.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses a part of this, and stops where it is surprised"
)]

use cowblk::{Options, Store};
use cowblk_nbd::codec::{
    Chunk, ChunkHead, ClientFlags, Command, ContextQuery, Decoded, Extent, GREETING_BYTES, InfoQuery,
    OptionCode, OptionHead, OptionReply, Request, Style, answer, command,
};
use cowblk_nbd::{Listener, Server, Settings};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use tempfile::TempDir;

/// A store with server `web` and its disk `vda`, and a server at a socket.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    pub(crate) server: Server,
}

impl Bench {
    pub(crate) fn new(disk_bytes: u64) -> Self {
        Self::with(disk_bytes, Settings::default())
    }

    pub(crate) fn with(disk_bytes: u64, settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::default().journal_bytes(8 << 20).background(false);
        let store = Store::create(folder.path().join("pool.cow"), options).unwrap();
        store.create_server("web").unwrap().create_disk("vda", disk_bytes).unwrap();
        let server = serve(&store, settings, folder.path().join("s.sock"));
        Self { folder, store, server }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("s.sock")
    }

    pub(crate) fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket().display())
    }

    pub(crate) fn disk(&self) -> cowblk::Disk {
        self.store.server("web").unwrap().disk("vda").unwrap()
    }

    pub(crate) fn client(&self, style: Style) -> Client {
        Client::open(&self.socket(), style, "web/vda", &[]).unwrap()
    }

    /// What the disk would hold if the power failed now.
    pub(crate) fn after_a_crash(&self, offset: u64, len: usize) -> Vec<u8> {
        let copy = self.folder.path().join("copy.cow");
        std::fs::copy(self.folder.path().join("pool.cow"), &copy).unwrap();
        let store = Store::open_read_only(copy, Options::default()).unwrap();
        let mut bytes = vec![0; len];
        store.server("web").unwrap().disk("vda").unwrap().read_at(&mut bytes, offset).unwrap();
        bytes
    }
}

pub(crate) fn serve(store: &Store, settings: Settings, socket: PathBuf) -> Server {
    let server = Server::new(store.clone(), settings);
    server.listen(Listener::Unix(UnixListener::bind(socket).unwrap())).unwrap();
    server
}

/// A connection in transmission.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    style: Style,
    cookie: u64,
    /// What is asked for and not answered: the length of the data that comes back.
    pending: HashMap<u64, usize>,
    parts: HashMap<u64, Reply>,
}

/// A whole reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) cookie: u64,
    /// 0, or what failed.
    pub(crate) error: u32,
    pub(crate) message: String,
    /// Data by its offset; simple replies do not tell the offset.
    pub(crate) data: Vec<(u64, Vec<u8>)>,
    pub(crate) statuses: Vec<(u32, Vec<Extent>)>,
}

impl Reply {
    /// The data in order of its offsets.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut parts = self.data.clone();
        parts.sort();
        parts.concat_bytes()
    }
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for Vec<(u64, Vec<u8>)> {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect()
    }
}

fn read_exact(stream: &mut UnixStream, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Sends an option; returns the replies up to the last one.
pub(crate) fn ask_option(
    stream: &mut UnixStream,
    code: OptionCode,
    data: &[u8],
) -> io::Result<Vec<(u32, Vec<u8>)>> {
    let mut bytes = Vec::new();
    OptionHead::encode(code, data, &mut bytes);
    stream.write_all(&bytes)?;
    let mut replies = Vec::new();
    loop {
        let head = read_exact(stream, 20)?;
        let Decoded::Value(head, _) = OptionReply::decode(&head) else { panic!("{head:?} is no reply") };
        let data = read_exact(stream, usize::try_from(head.len).unwrap())?;
        replies.push((head.kind, data));
        if head.kind == answer::ACK || head.kind & answer::ERROR_BIT != 0 {
            return Ok(replies);
        }
    }
}

/// Connects and answers the greeting.
pub(crate) fn greet(socket: &std::path::Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    read_exact(&mut stream, GREETING_BYTES)?;
    let mut bytes = Vec::new();
    ClientFlags { is_fixed: true, no_zeroes: true }.encode(&mut bytes);
    stream.write_all(&bytes)?;
    Ok(stream)
}

impl Client {
    pub(crate) fn open(
        socket: &std::path::Path,
        style: Style,
        export: &str,
        contexts: &[&str],
    ) -> io::Result<Self> {
        let mut stream = greet(socket)?;
        let code = match style {
            Style::Simple => None,
            Style::Structured => Some(OptionCode::StructuredReply),
            Style::Extended => Some(OptionCode::ExtendedHeaders),
        };
        if let Some(code) = code {
            assert_eq!(ask_option(&mut stream, code, &[])?[0].0, answer::ACK);
        }
        let mut data = Vec::new();
        if !contexts.is_empty() {
            ContextQuery::encode(export, contexts, &mut data);
            let replies = ask_option(&mut stream, OptionCode::SetMetaContext, &data)?;
            assert_eq!(replies.len(), contexts.len() + 1, "{replies:?}");
            data.clear();
        }
        InfoQuery::encode(export, &[], &mut data);
        let replies = ask_option(&mut stream, OptionCode::Go, &data)?;
        let (kind, text) = replies.last().unwrap();
        if *kind != answer::ACK {
            return Err(io::Error::other(String::from_utf8_lossy(text).into_owned()));
        }
        Ok(Self { stream, style, cookie: 0, pending: HashMap::new(), parts: HashMap::new() })
    }

    /// Sends a request and does not wait. Returns its cookie.
    pub(crate) fn send(
        &mut self,
        kind: Command,
        flags: u16,
        (offset, len): (u64, u64),
        payload: &[u8],
    ) -> u64 {
        self.try_send(kind, flags, (offset, len), payload).unwrap()
    }

    pub(crate) fn try_send(
        &mut self,
        kind: Command,
        flags: u16,
        (offset, len): (u64, u64),
        payload: &[u8],
    ) -> io::Result<u64> {
        self.cookie += 1;
        let has_payload = self.style == Style::Extended && kind == Command::Write;
        let flags = if has_payload { flags | command::PAYLOAD_LEN } else { flags };
        let mut bytes = Vec::new();
        Request { flags, command: kind, cookie: self.cookie, offset, len }.encode(self.style, &mut bytes);
        bytes.extend_from_slice(payload);
        let data = if kind == Command::Read { usize::try_from(len).unwrap() } else { 0 };
        self.pending.insert(self.cookie, data);
        self.stream.write_all(&bytes)?;
        Ok(self.cookie)
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> u64 {
        self.send(Command::Write, 0, (offset, bytes.len() as u64), bytes)
    }

    pub(crate) fn read(&mut self, offset: u64, len: u64) -> u64 {
        self.send(Command::Read, 0, (offset, len), &[])
    }

    /// The next reply that is whole, whatever it answers.
    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        loop {
            let mut bytes = read_exact(&mut self.stream, 4)?;
            let head = loop {
                match ChunkHead::decode(&bytes) {
                    Decoded::Value(head, _) => break head,
                    Decoded::Incomplete(needed) => {
                        let more = read_exact(&mut self.stream, needed - bytes.len())?;
                        bytes.extend(more);
                    }
                    Decoded::Broken => panic!("{bytes:?} is no reply"),
                }
            };
            match head {
                ChunkHead::Simple { cookie, error } => {
                    let len = self.pending.remove(&cookie).expect("an answer to a question");
                    assert!(len == 0 || self.style == Style::Simple, "READ has structured replies");
                    let mut reply = Reply { cookie, error, ..Reply::default() };
                    if len > 0 && error == 0 {
                        reply.data.push((0, read_exact(&mut self.stream, len)?));
                    }
                    return Ok(reply);
                }
                ChunkHead::Chunk { cookie, flags, kind, len } => {
                    assert!(self.pending.contains_key(&cookie), "an answer to a question");
                    let payload = read_exact(&mut self.stream, usize::try_from(len).unwrap())?;
                    let reply = self.parts.entry(cookie).or_default();
                    reply.cookie = cookie;
                    match Chunk::decode(kind, &payload).expect("a chunk that makes sense") {
                        Chunk::None => {}
                        Chunk::Data(offset, data) => reply.data.push((offset, data.to_vec())),
                        Chunk::Hole(offset, len) => reply.data.push((offset, vec![0; len as usize])),
                        Chunk::Status(id, extents) => reply.statuses.push((id, extents)),
                        Chunk::Error(error, message) => {
                            (reply.error, reply.message) = (error, message.to_owned());
                        }
                    }
                    if flags & 1 != 0 {
                        self.pending.remove(&cookie);
                        return Ok(self.parts.remove(&cookie).unwrap());
                    }
                }
            }
        }
    }

    /// Sends a request and waits for its reply, which must be the next one.
    pub(crate) fn ask(&mut self, kind: Command, flags: u16, range: (u64, u64), payload: &[u8]) -> Reply {
        let cookie = self.send(kind, flags, range, payload);
        let reply = self.reply().unwrap();
        assert_eq!(reply.cookie, cookie);
        reply
    }

    pub(crate) fn get(&mut self, offset: u64, len: u64) -> Vec<u8> {
        let reply = self.ask(Command::Read, 0, (offset, len), &[]);
        assert_eq!(reply.error, 0, "{}", reply.message);
        reply.bytes()
    }

    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) {
        let reply = self.ask(Command::Write, 0, (offset, bytes.len() as u64), bytes);
        assert_eq!(reply.error, 0, "{}", reply.message);
    }

    pub(crate) fn flush(&mut self) {
        assert_eq!(self.ask(Command::Flush, 0, (0, 0), &[]).error, 0);
    }

    /// Whether the server ended the connection; waits for that.
    pub(crate) fn is_ended(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

/// Bytes that differ with the seed, and are nowhere zero for long.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
