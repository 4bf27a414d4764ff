//! Snapshots as a stream of bytes: from one store to another, whole or as what changed since an earlier one.
//!
//! Floor 7. An embedder like any other: it uses the library's public API and nothing else.
//!
//! ```text
//! store ──send──▶ header | data | hole | data | … | end ──receive──▶ store
//! ```
//!
//! docs/stream.md has every byte. What a receiver gets is the same snapshot: bit by bit, with its name, its times and its
//! identity, so that the next stream can build on it.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! use cowblk::{Options, Store};
//! use cowblk_stream::{Receive, Send};
//!
//! # let options = Options::default().journal_bytes(1 << 20);
//! let source = Store::create(folder.path().join("source.cow"), options.clone())?;
//! let target = Store::create(folder.path().join("target.cow"), options)?;
//! let web = source.create_server("web")?;
//! let disk = web.create_disk("vda", 1 << 30)?;
//! disk.write_at(b"first", 0)?;
//! let monday = web.snapshot("monday", "")?;
//! disk.write_at(b"second", 4096)?;
//! let tuesday = web.snapshot("tuesday", "")?;
//!
//! let mut stream = Vec::new();
//! Send::new(&source, &monday).write(&mut stream)?;
//! Send::new(&source, &tuesday).since(&monday).write(&mut stream)?;
//!
//! let mut stream = stream.as_slice();
//! Receive::new(&target).read(&mut stream)?;
//! let received = Receive::new(&target).read(&mut stream)?;
//! assert_eq!(received.snapshot.identity(), tuesday.identity());
//! let mut bytes = [0; 6];
//! target.server("web")?.disk("vda")?.read_at(&mut bytes, 4096)?;
//! assert_eq!(&bytes, b"second");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod fields;
mod frame;
mod header;
mod limits;
mod reader;
mod receive;
mod send;
mod token;
mod writer;

pub use error::{Error, ErrorKind, Result};
pub use frame::Frame;
pub use header::{DiskEntry, Header, Identity, Position, SnapshotEntry};
pub use reader::StreamReader;
pub use receive::{HeadPolicy, Partial, Receive, Received, abandon, partials};
pub use send::{Send, Sent};
pub use token::Token;
pub use writer::StreamWriter;
