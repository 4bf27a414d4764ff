//! Serves the disks and snapshots of a cowblk store over NBD, the protocol that QEMU, libvirt, backup tools
//! and kernels speak.
//!
//! Floor 7: it uses the public API of the library only. Its own floors; imports point down:
//!
//! ```text
//! server                  listeners, connections, who may connect when
//! connection              one client: negotiation, requests, replies
//! export                  disks and snapshots by name, metadata contexts
//! negotiation  requests   what a client may ask for; no I/O
//! codec                   bytes to values and back; no I/O
//! ```
//!
//! ```no_run
//! use cowblk_nbd::{Listener, Server, Settings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The clients outlive this process: if it is killed, the next one takes over what it had in memory.
//! let handover = cowblk::Store::handover_path("pool.cow");
//! let store = cowblk::Store::open("pool.cow", cowblk::Options::default().handover(Some(handover)))?;
//! let server = Server::new(store, Settings::default());
//! server.listen(Listener::Unix(std::os::unix::net::UnixListener::bind("pool.sock")?))?;
//! std::thread::park(); // qemu-img info nbd+unix:///web-1/vda?socket=pool.sock
//! # Ok(())
//! # }
//! ```

pub mod codec;
mod connection;
mod export;
pub mod negotiation;
pub mod requests;
mod server;
mod tls;

pub use export::{DefaultExport, Export, StoreDirectory, clear_scratch};
pub use server::{Event, Hold, Listener, Observer, Server, Settings};
pub use tls::TlsSettings;
