//! Greet: the negotiation over a socket, until a deadline.

use super::input::Input;
use super::stream::Stream;
use crate::codec::greeting;
use crate::negotiation::{Agreed, Directory, Negotiation, Step, Tls};
use crate::tls::TlsSettings;
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
    stream: &mut Stream,
    directory: &D,
    (time, tls): (Duration, Option<&TlsSettings>),
) -> io::Result<Greeted<D::Export>> {
    let deadline = Instant::now() + time;
    let over = |why: &str| Ok(Greeted::Over(why.to_owned()));
    let mut negotiation = Negotiation::new(if tls.is_some() { Tls::Required } else { Tls::Off });
    let mut input = Input::new();
    let mut out = greeting().to_vec();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return over("the negotiation took too long");
        }
        if !out.is_empty() {
            stream.socket().set_patience(Some(left))?;
            stream.send_all(&out)?;
            out.clear();
        }
        match negotiation.step(input.available(), directory, &mut out) {
            Step::Read(needed) => {
                stream.socket().set_patience(Some(left))?;
                match input.fill(stream, needed) {
                    Ok(true) => {}
                    Ok(false) => return over("the client left during the negotiation"),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return over("the negotiation took too long");
                    }
                    Err(error) => return Err(error),
                }
            }
            Step::Used(count) => input.consume(count),
            Step::StartTls(count) => {
                input.consume(count);
                stream.send_all(&out)?;
                out.clear();
                // Whoever sends in the open what comes after would speak in the client's name.
                let Some(tls) = tls.filter(|_| input.available().is_empty()) else {
                    return over("the client did not wait for TLS to begin");
                };
                if let Err(error) = stream.begin_tls(&tls.config, deadline) {
                    return Ok(Greeted::Over(format!("TLS did not begin: {error}")));
                }
                negotiation.tls_began();
            }
            Step::Transmit(count, agreed) => {
                input.consume(count);
                stream.send_all(&out)?;
                return Ok(Greeted::Agreed(agreed, input));
            }
            Step::Close(why) => {
                let _ = stream.send_all(&out); // who said goodbye may be gone already
                return over(why);
            }
        }
    }
}
