//! Depth: many writes in flight on a file past the page cache, by `io_uring`.

use super::Outcome;
use crate::buffer::Buffer;
use crate::load::{Amount, Scatter, rate};
use io_uring::{IoUring, opcode, types};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Instant;

/// Random 4 KiB writes, `depth` at once, and a sync behind each so many. Operations a second.
///
/// # Errors
/// Where the kernel has no `io_uring`, or does not let this process use it.
pub(crate) fn write_at_depth(file: &File, bytes: u64, depth: u32, amount: Amount, salt: u64) -> Outcome<f64> {
    let mut ring = IoUring::new(depth)?;
    let mut buf = Buffer::noise(4096 * usize::try_from(depth)?);
    let order = Scatter::new(bytes / 4096, salt);
    let (start, mut done) = (Instant::now(), 0);
    while done < amount.operations && start.elapsed() < amount.time {
        buf.stamp(salt << 32 | done);
        for part in buf.chunks(4096) {
            let write = opcode::Write::new(types::Fd(file.as_raw_fd()), part.as_ptr(), 4096);
            push(&mut ring, &write.offset(order.place(done) * 4096).build())?;
            done += 1;
        }
        ring.submit_and_wait(usize::try_from(depth)?)?;
        for entry in ring.completion() {
            if entry.result() != 4096 {
                return Err(format!("a write in flight came to {}", entry.result()).into());
            }
        }
        file.sync_data()?;
    }
    Ok(rate(done, start.elapsed()))
}

#[expect(unsafe_code, reason = "io_uring takes pointers")]
fn push(ring: &mut IoUring, entry: &io_uring::squeue::Entry) -> Outcome {
    // SAFETY: the buffer lives in `write_at_depth`, which waits for all entries before it changes or drops it, and
    // no entry is left in flight but where the ring failed, which ends the program.
    Ok(unsafe { ring.submission().push(entry) }?)
}
