//! Codec: the only place that knows bincode.
//!
//! Floor 1. Catalog records and events are bincode 2 with its standard configuration (little-endian,
//! variable-length integers). bincode is pinned to 2.0.1; a wire-compatible successor replaces it here.

use crate::limits::RECORD_BYTES_MAX;
use serde::{Serialize, de::DeserializeOwned};

fn configuration() -> bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<RECORD_BYTES_MAX>,
> {
    bincode::config::standard().with_limit::<RECORD_BYTES_MAX>()
}

/// The bytes of a value that the limits keep below [`RECORD_BYTES_MAX`].
///
/// # Panics
/// Where it is longer: names, descriptions and counts are bounded where they are taken in.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let bytes = bincode::serde::encode_to_vec(value, configuration()).expect("a bounded record encodes");
    assert!(bytes.len() <= RECORD_BYTES_MAX, "a record of {} bytes is over {RECORD_BYTES_MAX}", bytes.len());
    bytes
}

/// The value in `bytes`, all of them; `None` where they are something else.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    if bytes.len() > RECORD_BYTES_MAX {
        return None;
    }
    let (value, read) = bincode::serde::decode_from_slice(bytes, configuration()).ok()?;
    (read == bytes.len()).then_some(value)
}
