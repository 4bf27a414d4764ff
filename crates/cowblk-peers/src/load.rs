//! Loads: what is done to a disk, and how fast that went.

use crate::buffer::Buffer;
use crate::peers::{Outcome, Peer};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// What one thread does to a disk, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    /// 4 KiB at random.
    Write,
    /// 4 KiB at random, and a sync after each so many.
    SyncedWrite(u64),
    /// 4 KiB at random, warm.
    Read,
    /// 1 MiB after the other, and a sync at the end.
    SequentialWrite,
    /// 1 MiB after the other, warm.
    SequentialRead,
}

/// The loads that every peer is put under.
pub(crate) const LOADS: [Load; 6] = [
    Load::Write,
    Load::SyncedWrite(32),
    Load::SyncedWrite(1),
    Load::Read,
    Load::SequentialWrite,
    Load::SequentialRead,
];

/// How much of a load is done: the first of the two that is reached.
#[derive(Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) operations: u64,
    pub(crate) time: Duration,
}

impl Load {
    /// What tables call it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Write => "random 4 KiB write, unsynced".into(),
            Self::SyncedWrite(1) => "random 4 KiB write, sync each".into(),
            Self::SyncedWrite(every) => format!("random 4 KiB write, sync every {every}"),
            Self::Read => "random 4 KiB read, warm".into(),
            Self::SequentialWrite => "sequential 1 MiB write, sync at the end".into(),
            Self::SequentialRead => "sequential 1 MiB read, warm".into(),
        }
    }

    /// What the command line calls it.
    pub(crate) fn slug(self) -> String {
        match self {
            Self::Write => "write".into(),
            Self::SyncedWrite(every) => format!("write-{every}"),
            Self::Read => "read".into(),
            Self::SequentialWrite => "sequential-write".into(),
            Self::SequentialRead => "sequential-read".into(),
        }
    }

    /// Bytes of one operation.
    pub(crate) fn piece_bytes(self) -> u64 {
        match self {
            Self::SequentialWrite | Self::SequentialRead => MIB,
            _ => 4096,
        }
    }

    /// Enough for a steady figure on a disk of `bytes`.
    pub(crate) fn amount(self, bytes: u64) -> Amount {
        let all = bytes / self.piece_bytes();
        let (operations, seconds) = match self {
            Self::SyncedWrite(1) => (all / 8, 1.5),
            Self::SyncedWrite(_) => (all * 2, 1.5),
            _ => (all * 4, 1.0),
        };
        Amount { operations, time: Duration::from_secs_f64(seconds) }
    }

    /// Few enough that a random load meets no block twice, and does not go over all of them.
    pub(crate) fn amount_of_first_writes(self, bytes: u64) -> Amount {
        let amount = self.amount(bytes);
        Amount { operations: amount.operations.min(bytes / self.piece_bytes() / 2), ..amount }
    }

    /// Puts a disk of `bytes` under the load. Operations a second. `salt` chooses the order.
    pub(crate) fn run(self, peer: &dyn Peer, bytes: u64, amount: Amount, salt: u64) -> Outcome<f64> {
        Ok(self.run_counted(peer, bytes, amount, salt)?.rate)
    }

    /// The same, with what it took of the processors.
    pub(crate) fn run_counted(self, peer: &dyn Peer, bytes: u64, amount: Amount, salt: u64) -> Outcome<Pace> {
        let piece = self.piece_bytes();
        let mut buf = Buffer::noise(usize::try_from(piece)?);
        let order = Scatter::new(bytes / piece, salt);
        let at = |n: u64| piece * if piece == 4096 { order.place(n) } else { n % (bytes / piece) };
        let (start, cpu) = (Instant::now(), cpu_time()?);
        let mut done = 0;
        while done < amount.operations && (!done.is_multiple_of(32) || start.elapsed() < amount.time) {
            match self {
                Self::Read | Self::SequentialRead => peer.read_at(&mut buf, at(done))?,
                Self::Write | Self::SyncedWrite(_) | Self::SequentialWrite => {
                    buf.stamp(salt << 32 | done);
                    peer.write_at(&buf, at(done))?;
                }
            }
            done += 1;
            if let Self::SyncedWrite(every) = self
                && done.is_multiple_of(every)
            {
                peer.sync()?;
            }
        }
        if self == Self::SequentialWrite {
            peer.sync()?;
        }
        let pace = Pace {
            rate: rate(done, start.elapsed()),
            cpu_us: 1e6 / rate(done, cpu_time()?.saturating_sub(cpu)),
        };
        Ok(pace)
    }
}

/// How a load went.
pub(crate) struct Pace {
    /// Operations a second.
    pub(crate) rate: f64,
    /// Microseconds of processors for one operation, in all threads of this process and in the kernel on their behalf.
    pub(crate) cpu_us: f64,
}

/// What this process has taken of the processors so far.
fn cpu_time() -> Outcome<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(u64::try_from(time.num_microseconds())?))
}

/// So many in that time, in a second.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// An order in which each of a power of two of places comes once, with no stride that hardware could foresee.
#[derive(Clone, Copy)]
pub(crate) struct Scatter {
    mask: u64,
    shift: u32,
    salt: u64,
}

impl Scatter {
    pub(crate) fn new(places: u64, salt: u64) -> Self {
        assert!(places.is_power_of_two(), "{places} places are no power of two");
        Self { mask: places - 1, shift: places.trailing_zeros().div_ceil(2).max(1), salt }
    }

    /// The place that comes as the `n`th.
    pub(crate) fn place(self, n: u64) -> u64 {
        let mut x = n.wrapping_add(self.salt.wrapping_mul(0x9E37_79B9_7F4A_7C15)) & self.mask;
        for factor in [0x9E37_79B9_7F4A_7C15_u64, 0xD6E8_FEB8_6659_FD93] {
            x = x.wrapping_mul(factor) & self.mask;
            x ^= x >> self.shift;
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scattered_order_visits_each_place_once() {
        for places in [1, 2, 256, 1 << 15] {
            for salt in 0..3 {
                let order = Scatter::new(places, salt);
                let mut seen: Vec<u64> = (0..places).map(|n| order.place(n)).collect();
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..places), "{places} places, salt {salt}");
            }
        }
    }
}
