//! Sockets: one kind of stream for the rest of the crate, whatever is below.

use nix::sys::socket::{MsgFlags, Shutdown, send, setsockopt, shutdown, sockopt};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What the kernel keeps of replies that the client has not taken yet (bytes): a reply of 1 MiB fits, so
/// that a server with one core is not woken for each fifth of it.
const SEND_BUFFER_BYTES: usize = 2 << 20;

/// A connected stream. Sending and receiving may go on at once in two threads.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    /// Prepares a stream for short messages and large ones.
    pub(crate) fn prepare(&self) {
        if let Self::Tcp(stream) = self {
            // Neither failure stops a transfer: replies are sent later, or a dead peer is noticed later.
            let _ = stream.set_nodelay(true);
            let _ = setsockopt(stream, sockopt::KeepAlive, &true);
        }
        // The kernel may allow less.
        let _ = setsockopt(self, sockopt::SndBuf, &SEND_BUFFER_BYTES);
    }

    /// Receives what is there, or waits for something. 0 at the end of the stream.
    pub(crate) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let received = match self {
                Self::Unix(stream) => (&*stream).read(buf),
                Self::Tcp(stream) => (&*stream).read(buf),
            };
            match received {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Sends what the kernel takes at once. How many bytes: none if there is no room.
    pub(crate) fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.as_fd().as_raw_fd(), bytes, flags) {
            Ok(sent) => Ok(sent),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends everything.
    pub(crate) fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(stream) => (&*stream).write_all(bytes),
            Self::Tcp(stream) => (&*stream).write_all(bytes),
        }
    }

    /// How long a receive or send may wait for the peer; `None` for ever.
    pub(crate) fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => {
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)
            }
            Self::Tcp(stream) => {
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)
            }
        }
    }

    /// Nothing more is received: whoever waits for the peer is told that the stream ended.
    pub(crate) fn stop_receiving(&self) {
        let _ = shutdown(self.as_fd().as_raw_fd(), Shutdown::Read); // a stream that is closed already is fine
    }

    /// The stream is over, in both directions.
    pub(crate) fn cut(&self) {
        let _ = shutdown(self.as_fd().as_raw_fd(), Shutdown::Both); // a stream that is closed already is fine
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}
