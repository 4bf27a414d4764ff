//! Stream: a socket, in the clear or in TLS.

use super::socket::Socket;
use super::tls::Tunnel;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// What a connection is received from and sent to.
pub(crate) struct Stream {
    socket: Arc<Socket>,
    tunnel: Option<Box<Tunnel>>,
}

impl Stream {
    pub(crate) fn new(socket: Arc<Socket>) -> Self {
        Self { socket, tunnel: None }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Goes on in TLS.
    pub(crate) fn begin_tls(
        &mut self,
        config: &Arc<rustls::ServerConfig>,
        deadline: Instant,
    ) -> io::Result<()> {
        self.tunnel = Some(Box::new(Tunnel::begin(&self.socket, config.clone(), deadline)?));
        Ok(())
    }

    /// Receives what is there, or waits for something. 0 at the end of the stream.
    pub(crate) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.tunnel {
            None => self.socket.receive(buf),
            Some(tunnel) => tunnel.receive(&self.socket, buf),
        }
    }

    /// Sends what the kernel takes at once. How many bytes: none if there is no room, or if that cannot be
    /// known beforehand.
    pub(crate) fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.tunnel {
            None => self.socket.send_some(bytes),
            Some(_) => Ok(0),
        }
    }

    /// Sends everything.
    pub(crate) fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.tunnel {
            None => self.socket.send_all(bytes),
            Some(tunnel) => tunnel.send_all(&self.socket, bytes),
        }
    }

    /// Says goodbye, if there is a way to say it and the peer listens.
    pub(crate) fn finish(&self) {
        if let Some(tunnel) = &self.tunnel {
            tunnel.finish(&self.socket);
        }
    }
}
