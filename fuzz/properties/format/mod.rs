//! Format: finds the parts of a store's image, and seals them again after a change. Written from docs/format.md.
//!
//! Tests include this room as well. It knows nothing of the library.

use std::sync::Arc;

pub(crate) mod bincode;
pub(crate) mod parts;
pub(crate) mod schema;
pub(crate) mod sealing;

pub(crate) use parts::{Kind, Parts};
pub(crate) use sealing::Sealing;

/// An image as plain bytes, for tests.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    pub(crate) parts: Arc<Parts>,
}

impl Image {
    /// The image of a valid store of which slot A is current.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let parts = Arc::new(Parts::find(&bytes));
        Self { bytes, parts }
    }

    /// The blocks of a kind.
    pub(crate) fn blocks(&self, kind: Kind) -> Vec<usize> {
        self.parts.blocks(kind).to_vec()
    }
}

impl Sealing for Image {
    fn get(&self, at: usize, count: usize) -> Option<Vec<u8>> {
        self.bytes.get(at..at.checked_add(count)?).map(<[u8]>::to_vec)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn parts(&self) -> &Parts {
        &self.parts
    }
}
