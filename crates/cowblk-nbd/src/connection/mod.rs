//! One connection: from the greeting to the last reply.

mod greet;
mod input;
mod replies;
mod session;
mod socket;
mod stream;
mod tls;
mod work;

pub(crate) use greet::{Greeted, negotiate};
pub(crate) use session::Session;
pub(crate) use socket::Socket;
pub(crate) use stream::Stream;
