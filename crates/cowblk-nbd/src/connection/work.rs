//! Work: what requests come to, and their replies.

use super::replies::Replies;
use super::session::{Session, index};
use crate::codec::{
    Command, NbdError, ReplyHead, Request, StatusPayload, Style, command, put_error, put_status,
};
use crate::export::{ContextKind, Failed, statuses};
use std::io;

/// A longer read is answered in pieces of this length, where the client takes pieces (bytes).
pub(super) const CHUNK_BYTES: u64 = 1 << 20;

impl Session {
    /// Adds the reply of a request that carries nothing back.
    pub(super) fn answer(&self, request: &Request, done: Result<(), Failed>, replies: &mut Replies) {
        match done {
            Ok(()) => drop(replies.push(&ReplyHead::done(self.rules.style, request), 0)),
            Err(failed) => self.put_failed(request, &failed, replies),
        }
    }

    fn put_failed(&self, request: &Request, failed: &Failed, replies: &mut Replies) {
        replies.append(|out| put_error(self.rules.style, request, failed.error, &failed.message, out));
    }

    /// Reads the whole range into one piece of a reply.
    pub(super) fn read_piece(&self, request: &Request, replies: &mut Replies) {
        let style = self.rules.style;
        if request.len == 0 {
            replies.push(&ReplyHead::nothing(style, request), 0);
            return;
        }
        let (before, len) = (replies.len(), index(request.len));
        let head = ReplyHead::data(style, request, request.offset, len, true);
        let room = replies.push(&head, len);
        if let Err(failed) = self.export.read(room, request.offset) {
            replies.truncate(before);
            self.put_failed(request, &failed, replies);
        }
    }

    /// Carries out a request that changes a range and has no payload.
    pub(super) fn change(&self, request: &Request) -> Result<(), Failed> {
        match request.command {
            Command::Trim => self.export.discard(request.offset, request.len),
            Command::WriteZeroes => self.export.write_zeroes(request.offset, request.len),
            other => unreachable!("{other:?} changes no range"),
        }
    }

    /// Carries out a request that may take its time. Its reply is sent, or is among the replies.
    pub(super) fn carry_out(
        &self,
        request: &Request,
        payload: Option<StatusPayload>,
        replies: &mut Replies,
    ) -> io::Result<()> {
        match request.command {
            Command::Read if request.len > CHUNK_BYTES => return self.read_long(request, replies),
            Command::Read => self.read_piece(request, replies),
            Command::BlockStatus => self.block_status(request, payload, replies),
            Command::Cache => {
                let done = self.cache(request);
                self.answer(request, done, replies);
            }
            _ => {
                let mut done = self.change(request);
                if done.is_ok() && request.has(command::FUA) {
                    done = self.export.flush();
                }
                self.answer(request, done, replies);
            }
        }
        Ok(())
    }

    /// Answers a long read in pieces, or in one piece where the client wants that: only one such reply of a
    /// connection is in memory at a time.
    fn read_long(&self, request: &Request, replies: &mut Replies) -> io::Result<()> {
        if self.rules.style == Style::Simple || request.has(command::DF) {
            let _alone = self.large.lock();
            self.read_piece(request, replies);
            return self.send(replies);
        }
        let end = request.offset + request.len;
        let mut at = request.offset;
        while at < end {
            let len = CHUNK_BYTES.min(end - at);
            let head = ReplyHead::data(self.rules.style, request, at, index(len), at + len == end);
            let room = replies.push(&head, index(len));
            if let Err(failed) = self.export.read(room, at) {
                replies.truncate(0);
                self.put_failed(request, &failed, replies);
                return self.send(replies);
            }
            self.send(replies)?;
            at += len;
        }
        Ok(())
    }

    /// Reads a range for the sake of whatever keeps what was read.
    fn cache(&self, request: &Request) -> Result<(), Failed> {
        let mut buf = vec![0; index(request.len.min(CHUNK_BYTES))];
        let end = request.offset + request.len;
        let mut at = request.offset;
        while at < end {
            let len = CHUNK_BYTES.min(end - at);
            self.export.read(&mut buf[..index(len)], at)?;
            at += len;
        }
        Ok(())
    }

    fn block_status(&self, request: &Request, payload: Option<StatusPayload>, replies: &mut Replies) {
        let before = replies.len();
        if let Err(failed) = self.put_statuses(request, payload, replies) {
            replies.truncate(before);
            self.put_failed(request, &failed, replies);
        }
    }

    fn put_statuses(
        &self,
        request: &Request,
        payload: Option<StatusPayload>,
        replies: &mut Replies,
    ) -> Result<(), Failed> {
        let refused = |(error, message): (NbdError, &str)| Failed { error, message: message.to_owned() };
        let (len, contexts) = match payload {
            None if request.has(command::PAYLOAD_LEN) => {
                return Err(refused((NbdError::Invalid, "the payload makes no sense")));
            }
            None => (request.len, self.contexts.clone()),
            Some(payload) => (payload.len, self.chosen(&payload.ids).map_err(refused)?),
        };
        if len == 0 {
            return Err(refused((NbdError::Invalid, "the status of nothing was asked for")));
        }
        self.rules.check_range(request.offset, len).map_err(refused)?;
        let style = self.rules.style;
        let only_one = request.has(command::REQ_ONE);
        for (at, (id, kind)) in contexts.iter().enumerate() {
            let extents = statuses(&self.export, *kind, (request.offset, len), style, only_one)?;
            let is_last = at + 1 == contexts.len();
            replies.append(|out| put_status(style, request, *id, &extents, is_last, out));
        }
        Ok(())
    }

    /// The contexts of these ids, each of which was chosen and is named once.
    fn chosen(&self, ids: &[u32]) -> Result<Vec<(u32, ContextKind)>, (NbdError, &'static str)> {
        let invalid = (NbdError::Invalid, "the payload names no context, or one that was not chosen");
        let mut chosen: Vec<(u32, ContextKind)> = Vec::new();
        for id in ids {
            let found = self.contexts.iter().find(|(known, _)| known == id).ok_or(invalid)?;
            if chosen.contains(found) {
                return Err(invalid);
            }
            chosen.push(*found);
        }
        if chosen.is_empty() { Err(invalid) } else { Ok(chosen) }
    }
}
