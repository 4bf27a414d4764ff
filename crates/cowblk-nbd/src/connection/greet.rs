//! Greet: the negotiation over a socket, until a deadline.

use super::input::Input;
use super::socket::Socket;
use crate::codec::greeting;
use crate::negotiation::{Agreed, Directory, Negotiation, Step, Tls};
use std::io;
use std::time::{Duration, Instant};

/// How a negotiation ended.
pub(crate) enum Greeted<E> {
    Agreed(Agreed<E>, Input),
    /// The client left, or was left, for this reason.
    Over(String),
}

/// Negotiates with whoever is at the other end.
pub(crate) fn negotiate<D: Directory>(
    socket: &Socket,
    directory: &D,
    time: Duration,
) -> io::Result<Greeted<D::Export>> {
    let deadline = Instant::now() + time;
    let over = |why: &str| Ok(Greeted::Over(why.to_owned()));
    let mut negotiation = Negotiation::new(Tls::Off);
    let mut input = Input::new();
    let mut out = greeting().to_vec();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return over("the negotiation took too long");
        }
        if !out.is_empty() {
            socket.set_patience(Some(left))?;
            socket.send_all(&out)?;
            out.clear();
        }
        match negotiation.step(input.available(), directory, &mut out) {
            Step::Read(needed) => {
                socket.set_patience(Some(left))?;
                match input.fill(socket, needed) {
                    Ok(true) => {}
                    Ok(false) => return over("the client left during the negotiation"),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return over("the negotiation took too long");
                    }
                    Err(error) => return Err(error),
                }
            }
            Step::Used(count) => input.consume(count),
            Step::StartTls(_) => return over("TLS was asked for, and is not there"),
            Step::Transmit(count, agreed) => {
                input.consume(count);
                socket.send_all(&out)?;
                return Ok(Greeted::Agreed(agreed, input));
            }
            Step::Close(why) => {
                let _ = socket.send_all(&out); // who said goodbye may be gone already
                return over(why);
            }
        }
    }
}
