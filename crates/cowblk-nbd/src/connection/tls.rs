//! TLS over a socket: one thread receives while another sends.

use super::socket::Socket;
use parking_lot::Mutex;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

/// Bytes that are received from the socket at once: about a record.
const RECORD_BYTES: usize = 17 << 10;
/// Bytes that are sealed at once.
const SEAL_BYTES: usize = 64 << 10;

/// A connection in TLS.
pub(super) struct Tunnel {
    session: Mutex<ServerConnection>,
    /// Sealed bytes that were received. Its lock is taken before the session's.
    incoming: Mutex<Incoming>,
    /// Held from sealing to sending, so that records leave in the order in which they were sealed. Its lock
    /// is taken before the session's.
    sending: Mutex<Vec<u8>>,
}

struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Tunnel {
    /// Shakes hands, until the deadline.
    pub(super) fn begin(socket: &Socket, config: Arc<ServerConfig>, deadline: Instant) -> io::Result<Self> {
        let mut session = ServerConnection::new(config).map_err(broken)?;
        session.set_buffer_limit(None); // what is put in is sealed and sent at once
        let tunnel = Self {
            session: Mutex::new(session),
            incoming: Mutex::new(Incoming { bytes: vec![0; RECORD_BYTES], start: 0, end: 0 }),
            sending: Mutex::default(),
        };
        while tunnel.session.lock().is_handshaking() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            socket.set_patience(Some(left))?;
            tunnel.send_all(socket, &[])?;
            if !tunnel.session.lock().is_handshaking() {
                break;
            }
            let mut incoming = tunnel.incoming.lock();
            if !incoming.refill(socket)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let fed = incoming.feed(&mut tunnel.session.lock());
            drop(incoming);
            if let Err(error) = fed {
                let _ = tunnel.send_all(socket, &[]); // the peer may learn why, if it listens
                return Err(error);
            }
        }
        tunnel.send_all(socket, &[])?;
        Ok(tunnel)
    }

    pub(super) fn receive(&self, socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
        let mut incoming = self.incoming.lock();
        loop {
            let wants_write = {
                let mut session = self.session.lock();
                match session.reader().read(buf) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                    read => return read,
                }
                incoming.feed(&mut session)?;
                session.wants_write()
            };
            if wants_write {
                self.send_all(socket, &[])?;
            }
            if incoming.start == incoming.end && !self.has_plain() && !incoming.refill(socket)? {
                return Ok(0);
            }
        }
    }

    fn has_plain(&self) -> bool {
        let mut session = self.session.lock();
        // Processing again costs nothing, and tells.
        session
            .process_new_packets()
            .is_ok_and(|state| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
    }

    pub(super) fn send_all(&self, socket: &Socket, bytes: &[u8]) -> io::Result<()> {
        let mut sealed = self.sending.lock();
        let mut rest = bytes;
        loop {
            let (part, tail) = rest.split_at(rest.len().min(SEAL_BYTES));
            {
                let mut session = self.session.lock();
                session.writer().write_all(part)?;
                while session.wants_write() {
                    session.write_tls(&mut *sealed)?;
                }
            }
            socket.send_all(&sealed)?;
            sealed.clear();
            rest = tail;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) fn finish(&self, socket: &Socket) {
        let mut sealed = Vec::new();
        let mut session = self.session.lock();
        session.send_close_notify();
        while session.wants_write() && session.write_tls(&mut sealed).is_ok() {}
        let _ = socket.send_some(&sealed); // who does not listen any more does not miss it
    }
}

impl Incoming {
    /// Receives sealed bytes; `false` at the end of the stream.
    fn refill(&mut self, socket: &Socket) -> io::Result<bool> {
        self.start = 0;
        self.end = 0;
        self.end = socket.receive(&mut self.bytes)?;
        Ok(self.end > 0)
    }

    /// Lets the session have what was received, as far as it takes it.
    fn feed(&mut self, session: &mut ServerConnection) -> io::Result<()> {
        while self.start < self.end {
            let mut bytes = &self.bytes[self.start..self.end];
            let taken = session.read_tls(&mut bytes)?;
            let state = session.process_new_packets().map_err(broken)?;
            self.start += taken;
            if taken == 0 || state.plaintext_bytes_to_read() > 0 {
                break;
            }
        }
        Ok(())
    }
}
