//! cowblk
pub mod device;
mod catalog;
mod commit;
mod defect;
mod error;
mod extent;
mod format;
mod limits;
mod space;
mod units;
pub use defect::Defect;
pub use error::{Error, ErrorKind, Result};
