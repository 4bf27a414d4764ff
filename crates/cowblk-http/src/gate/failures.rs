//! Failures: how many sign-ins failed lately, by address.

use super::parts::Peer;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Failures of one address that are answered like any other.
const FAILURES_MAX: u32 = 20;
/// How long failures count.
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// The failures of the last minute.
#[derive(Default)]
pub(crate) struct Failures {
    by_address: Mutex<BTreeMap<Option<IpAddr>, (u32, Instant)>>,
}

impl Failures {
    /// One more failure of this peer. The seconds that it should wait, if there were too many.
    pub(crate) fn note(&self, peer: &Peer, now: Instant) -> Option<u64> {
        let address = match peer {
            Peer::Local => None,
            Peer::Address(IpAddr::V4(address)) => Some(IpAddr::V4(*address)),
            // Whoever has one address of IPv6 has 2^64 of them.
            Peer::Address(IpAddr::V6(address)) => {
                Some(IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()))
            }
        };
        let mut all = self.by_address.lock();
        if all.len() >= ADDRESSES_MAX {
            all.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
            if all.len() >= ADDRESSES_MAX {
                all.clear();
            }
        }
        let (count, since) = all.entry(address).or_insert((0, now));
        if now.duration_since(*since) >= WINDOW {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
        let left = WINDOW.saturating_sub(now.duration_since(*since)).as_secs().max(1);
        (*count > FAILURES_MAX).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_slowed_down_and_others_are_not() {
        let failures = Failures::default();
        let peer = |text: &str| Peer::Address(text.parse().unwrap());
        let now = Instant::now();
        assert!((0..FAILURES_MAX).all(|_| failures.note(&peer("2001:db8::1"), now).is_none()));
        assert_eq!(failures.note(&peer("2001:db8::2"), now), Some(60), "the same /64");
        assert_eq!(failures.note(&peer("2001:db8:0:1::1"), now), None);
        assert_eq!(failures.note(&Peer::Local, now), None);
        assert_eq!(failures.note(&peer("2001:db8::1"), now + WINDOW), None, "a minute later");
    }
}
