//! Medium: reading blocks whose seal is known.
//!
//! Floor 5.

use crate::device::Device;
use crate::format::{Geometry, Place, seal};
use crate::units::BlockNo;
use std::{fmt, io};

/// The device, with the geometry and the number of zones that were found sound.
pub(crate) struct Medium<'a> {
    device: &'a dyn Device,
    pub(crate) geometry: Geometry,
    pub(crate) zones: u64,
}

/// Why a block does not give what it should.
pub(crate) enum Unreadable {
    /// The medium says so.
    Io(io::Error),
    /// It holds something else.
    Seal,
    /// It is sealed, and makes no sense.
    Senseless,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(cause) => write!(f, "cannot be read: {cause}"),
            Self::Seal => f.write_str("its seal does not match"),
            Self::Senseless => f.write_str("sealed, but makes no sense"),
        }
    }
}

impl<'a> Medium<'a> {
    pub(crate) fn new(device: &'a dyn Device, geometry: Geometry, zones: u64) -> Self {
        Self { device, geometry, zones }
    }

    /// The place of a data block of the store; `None` for everything else.
    pub(crate) fn place_of(&self, block: BlockNo) -> Option<Place> {
        self.geometry.place_of(block).filter(|place| place.zone < self.zones)
    }

    /// The bytes of a block that lies inside the device.
    pub(crate) fn sealed(&self, block: BlockNo, crc: u32) -> Result<Vec<u8>, Unreadable> {
        let mut bytes = vec![0; self.geometry.block_bytes()];
        self.device.read_at(&mut bytes, self.geometry.offset_bytes(block)).map_err(Unreadable::Io)?;
        if seal(&bytes) == crc { Ok(bytes) } else { Err(Unreadable::Seal) }
    }
}
