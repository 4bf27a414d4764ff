//! Session: requests of one client, many at a time, replies in any order.
//!
//! Leader and followers. One thread at a time leads: it receives, and carries out at once whatever takes no
//! longer than passing it on would. Before it does something that may take its time (a sync, a cold read, a
//! send that waits for the client) it lets the next thread lead, and goes on with its work meanwhile. So a
//! request of a client that waits for each reply costs two system calls and no change of threads; a slow
//! request holds nobody up; and no queue grows, since nobody reads what nobody has a hand free for.
//!
//! N1  Replies leave in one piece each: the output's lock is held from a reply's first byte to its last.
//! N2  A flush is asked of the store after all writes that were received before it were handed over.
//! N3  A thread that waits for the client to take replies does not lead.

use super::input::Input;
use super::replies::Replies;
use super::stream::Stream;
use super::work::CHUNK_BYTES;
use crate::codec::{Command, Decoded, Request, StatusPayload, command, put_error};
use crate::export::{ContextKind, Export, Failed};
use crate::negotiation::{Agreed, Exported};
use crate::requests::{Refused, Rules};
use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Replies are sent when there are this many of them (bytes): the client has something to do then, while the
/// rest is carried out.
const BATCH_BYTES: usize = 32 << 10;
/// A longer read is not done by the leader while other requests wait (bytes).
const LEADER_READ_BYTES: u64 = 128 << 10;
/// A longer discard is not done by the leader (bytes): it may have much to let go of.
const LEADER_DISCARD_BYTES: u64 = 16 << 20;
/// A slower read than this, and what its length takes at 2 GB/s, came from the medium.
const READ_TIME: Duration = Duration::from_micros(60);
/// From here on reads are not done by the leader.
const SLOW: u32 = 8;
/// A longer payload than this is not even passed over (bytes).
const SKIP_BYTES_MAX: u64 = 64 << 20;
/// Threads that wait to lead beyond this number end.
const SPARE_THREADS_MAX: usize = 3;
/// Bytes of stack of a thread.
const STACK_BYTES: usize = 256 << 10;

/// One connection in transmission.
pub(crate) struct Session {
    pub(super) export: Export,
    pub(super) rules: Rules,
    pub(super) contexts: Vec<(u32, ContextKind)>,
    stream: Stream,
    input: Mutex<Input>,
    output: Mutex<()>,
    /// Only one reply at a time may take more than a thread's buffer.
    pub(super) large: Mutex<()>,
    /// Threads there are, and threads that wait to lead.
    threads: AtomicUsize,
    waiting: AtomicUsize,
    threads_max: usize,
    is_over: AtomicBool,
    why: Mutex<Option<String>>,
    /// Rises with each slow read, and falls with each fast one.
    slowness: AtomicU32,
    /// Called when the last thread is done, with the reason why the connection ended.
    on_end: Option<OnEnd>,
}

/// What is done when a connection ended.
pub(crate) type OnEnd = Box<dyn FnOnce(String) + Send + Sync>;

impl Drop for Session {
    fn drop(&mut self) {
        let why = self.why.get_mut().take().unwrap_or_else(|| "the client left".into());
        self.stream.finish();
        if let Some(on_end) = self.on_end.take() {
            on_end(why);
        }
    }
}

/// What a thread does after it let the next one lead.
enum Work<'a> {
    /// Send the rest of its replies, with the output's lock if it has begun to.
    Send(Option<MutexGuard<'a, ()>>, usize),
    /// Flush the store, and answer these requests.
    Flush(Vec<Request>),
    /// Carry out a request that may take its time.
    CarryOut(Request, Option<StatusPayload>),
}

/// What the leader does with a request.
enum Class {
    Refused(Refused),
    /// It takes no longer than passing it on would.
    Now,
    Flush,
    Slow,
}

impl Session {
    pub(crate) fn new(
        stream: Stream,
        agreed: Agreed<Export>,
        input: Input,
        threads_max: usize,
        on_end: OnEnd,
    ) -> Self {
        let Agreed { export, style, contexts } = agreed;
        let contexts: Vec<_> = contexts
            .iter()
            .filter_map(|context| Some((context.id, ContextKind::named(&context.name, &export)?)))
            .collect();
        let rules = Rules {
            size_bytes: export.size_bytes(),
            is_read_only: export.is_read_only(),
            style,
            has_contexts: !contexts.is_empty(),
        };
        Self {
            export,
            rules,
            contexts,
            stream,
            input: Mutex::new(input),
            output: Mutex::new(()),
            large: Mutex::new(()),
            threads: AtomicUsize::new(1),
            waiting: AtomicUsize::new(0),
            threads_max,
            is_over: AtomicBool::new(false),
            why: Mutex::new(None),
            slowness: AtomicU32::new(0),
            on_end: Some(on_end),
        }
    }

    /// Serves in this thread, and in others that it starts, until the connection ends.
    pub(crate) fn serve(self: &Arc<Self>) {
        let _end = EndOnDrop(self);
        let mut replies = Replies::default();
        while let Some(work) = self.lead(&mut replies) {
            self.call_a_follower();
            if let Err(error) = self.follow(work, &mut replies) {
                self.end(&format!("the client cannot be reached: {error}"));
                return;
            }
            // There are enough hands free: this one's thread and memory are given back.
            if self.waiting.load(Ordering::Acquire) >= SPARE_THREADS_MAX {
                return;
            }
        }
    }

    /// Makes sure that somebody leads while this thread does not.
    fn call_a_follower(self: &Arc<Self>) {
        if self.waiting.load(Ordering::Acquire) > 0 || self.is_over.load(Ordering::Acquire) {
            return;
        }
        let counted = self.threads.fetch_update(Ordering::AcqRel, Ordering::Acquire, |threads| {
            (threads < self.threads_max).then_some(threads + 1)
        });
        if counted.is_err() {
            return; // this thread leads again when it is done
        }
        let session = self.clone();
        let builder = std::thread::Builder::new().name("cowblk-nbd".into()).stack_size(STACK_BYTES);
        if builder.spawn(move || session.serve()).is_err() {
            self.threads.fetch_sub(1, Ordering::AcqRel); // so does this one where there are no threads
        }
    }

    /// Ends the connection: nothing more is received. What is being carried out is still answered.
    pub(crate) fn end(&self, why: &str) {
        self.why.lock().get_or_insert_with(|| why.to_owned());
        self.is_over.store(true, Ordering::Release);
        self.stream.socket().stop_receiving();
    }

    /// Waits for the lead, and leads until there is something to do that others should not wait for. `None`
    /// when the connection is over.
    fn lead(&self, replies: &mut Replies) -> Option<Work<'_>> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let mut input = self.input.lock();
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        let mut flushes = Vec::new();
        loop {
            let has_pending = !replies.is_empty() || !flushes.is_empty();
            if self.is_over.load(Ordering::Acquire) && !has_pending {
                return None;
            }
            match Request::decode(input.available(), self.rules.style) {
                _ if self.is_over.load(Ordering::Acquire) => {}
                Decoded::Broken => self.end("what the client sent is no request"),
                Decoded::Incomplete(needed) if !has_pending => {
                    self.receive(&mut input, needed);
                    continue;
                }
                Decoded::Incomplete(_) => {}
                Decoded::Value(request, _) if request.command == Command::Disconnect => {
                    self.end("the client said goodbye");
                }
                Decoded::Value(request, used) => {
                    let payload = request.payload_bytes(self.rules.style);
                    let is_here = (input.available().len() - used) as u64 >= payload;
                    // Whoever has a long payload to send is given its earlier replies before.
                    if is_here || !has_pending {
                        let class = self.classify(&request, input.available().len() > used);
                        if matches!(class, Class::Slow) && !flushes.is_empty() {
                            return Some(Work::Flush(flushes));
                        }
                        input.consume(used);
                        match class {
                            Class::Refused(refused) => self.refuse(&request, refused, &mut input, replies),
                            Class::Now => self.carry_out_now(&request, &mut input, replies, &mut flushes),
                            Class::Flush => flushes.push(request),
                            Class::Slow => {
                                let payload = self.status_payload(&request, &mut input);
                                return Some(Work::CarryOut(request, payload));
                            }
                        }
                        if replies.len() < BATCH_BYTES {
                            continue;
                        }
                    }
                }
            }
            if !flushes.is_empty() {
                return Some(Work::Flush(flushes));
            }
            if let Some(rest) = self.send_now(replies) {
                return Some(rest);
            }
        }
    }

    /// Waits until there are `needed` bytes of input, or ends the connection.
    fn receive(&self, input: &mut Input, needed: usize) -> bool {
        match input.fill(&self.stream, needed) {
            Ok(true) => return true,
            Ok(false) => self.end("the client left"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.end("the client was silent for too long");
            }
            Err(error) => self.end(&format!("the client cannot be reached: {error}")),
        }
        false
    }

    /// Sends the replies, as far as the client takes them at once; the rest is work for later.
    fn send_now(&self, replies: &mut Replies) -> Option<Work<'_>> {
        let Some(output) = self.output.try_lock() else { return Some(Work::Send(None, 0)) };
        match self.stream.send_some(replies.bytes()) {
            Ok(sent) if sent == replies.len() => replies.clear(),
            Ok(sent) => return Some(Work::Send(Some(output), sent)),
            Err(error) => {
                replies.clear();
                self.end(&format!("the client cannot be reached: {error}"));
            }
        }
        None
    }

    fn classify(&self, request: &Request, more_waits: bool) -> Class {
        if let Err(refused) = self.rules.check(request) {
            return Class::Refused(refused);
        }
        let is_slow = match request.command {
            Command::Read => {
                let is_long = request.len > LEADER_READ_BYTES && (more_waits || request.len > CHUNK_BYTES);
                is_long || self.slowness.load(Ordering::Relaxed) >= SLOW
            }
            Command::Trim | Command::WriteZeroes => request.len > LEADER_DISCARD_BYTES,
            Command::Flush => return Class::Flush,
            Command::Cache | Command::BlockStatus => true,
            Command::Write | Command::Disconnect | Command::Unknown(_) => false,
        };
        if is_slow { Class::Slow } else { Class::Now }
    }

    /// Answers a request that is not carried out, and passes over its payload.
    fn refuse(&self, request: &Request, refused: Refused, input: &mut Input, replies: &mut Replies) {
        let mut left = request.payload_bytes(self.rules.style);
        if left > SKIP_BYTES_MAX {
            return self.end("the client announced a payload of more than 64 MiB");
        }
        while left > 0 {
            if input.available().is_empty() && !self.receive(input, 1) {
                return;
            }
            let skipped = index(left).min(input.available().len());
            input.consume(skipped);
            left -= skipped as u64;
        }
        let (error, message) = refused;
        replies.append(|out| put_error(self.rules.style, request, error, message, out));
    }

    /// Carries out what takes no longer than passing it on would, and builds the reply; or asks for a flush first.
    fn carry_out_now(
        &self,
        request: &Request,
        input: &mut Input,
        replies: &mut Replies,
        flushes: &mut Vec<Request>,
    ) {
        let done = match request.command {
            Command::Read => {
                let began = Instant::now();
                self.read_piece(request, replies);
                self.note_read(request.len, began.elapsed());
                return;
            }
            Command::Write => match self.write(request, input) {
                Some(done) => done,
                None => return, // the client left in the midst of its payload
            },
            _ => self.change(request),
        };
        match done {
            Ok(()) if request.has(command::FUA) => flushes.push(*request),
            done => self.answer(request, done, replies),
        }
    }

    /// Writes the payload as it comes in. `None` if the connection ended before it did.
    fn write(&self, request: &Request, input: &mut Input) -> Option<Result<(), Failed>> {
        let (mut at, end) = (request.offset, request.offset + request.len);
        let mut done = Ok(());
        while at < end {
            let wanted = index(end - at).min(input.room());
            if input.available().len() < wanted && !self.receive(input, wanted) {
                return None;
            }
            let mut part = input.available().get(..index(end - at)).unwrap_or(input.available());
            // Where more follows, the part ends where a block does: no block is written in two parts.
            let over = (at + part.len() as u64) % u64::from(self.export.preferred_block_bytes());
            if at + (part.len() as u64) < end && over < part.len() as u64 {
                part = &part[..part.len() - index(over)];
            }
            if done.is_ok() {
                done = self.export.write(part, at);
            }
            let count = part.len();
            input.consume(count);
            at += count as u64;
        }
        Some(done)
    }

    /// The payload of `BLOCK_STATUS`; `None` if it has none that makes sense.
    fn status_payload(&self, request: &Request, input: &mut Input) -> Option<StatusPayload> {
        let len = request.payload_bytes(self.rules.style);
        if len == 0 {
            return None;
        }
        if len > StatusPayload::BYTES_MAX {
            self.end("the client asked for the status of too many contexts");
            return None;
        }
        if !self.receive(input, index(len)) {
            return None;
        }
        let payload = StatusPayload::decode(&input.available()[..index(len)]);
        input.consume(index(len));
        payload
    }

    /// Remembers whether reads are slow: slower than memory would be.
    fn note_read(&self, len: u64, took: Duration) {
        let is_slow = took > READ_TIME + Duration::from_nanos(len / 2);
        let now = self.slowness.load(Ordering::Relaxed);
        let next = if is_slow { (now + 4).min(2 * SLOW) } else { now.saturating_sub(1) };
        if next != now {
            self.slowness.store(next, Ordering::Relaxed);
        }
    }

    /// Does what this thread let the next one lead for.
    fn follow(&self, work: Work<'_>, replies: &mut Replies) -> io::Result<()> {
        match work {
            Work::Send(Some(_output), sent) => {
                self.stream.send_all(&replies.bytes()[sent..])?;
                replies.clear();
            }
            Work::Send(None, _) => self.send(replies)?,
            Work::Flush(requests) => {
                self.send(replies)?;
                let flushed = self.export.flush();
                for request in &requests {
                    self.answer(request, flushed.clone(), replies);
                }
                self.send(replies)?;
            }
            Work::CarryOut(request, payload) => {
                self.send(replies)?;
                let began = Instant::now();
                self.carry_out(&request, payload, replies)?;
                if request.command == Command::Read {
                    self.note_read(request.len, began.elapsed());
                }
                self.send(replies)?;
            }
        }
        Ok(())
    }

    /// Sends the replies, however long it takes.
    pub(super) fn send(&self, replies: &mut Replies) -> io::Result<()> {
        if !replies.is_empty() {
            let _output = self.output.lock();
            self.stream.send_all(replies.bytes())?;
            replies.clear();
        }
        Ok(())
    }
}

/// A thread that ends, be it by a panic, ends the connection: a client that waits for its reply would wait
/// for ever.
struct EndOnDrop<'a>(&'a Arc<Session>);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end("a thread of the server failed");
            self.0.stream.socket().cut();
        }
        self.0.threads.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A length that was checked against a bound far below 2^64.
pub(super) fn index(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
