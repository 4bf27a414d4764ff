//! Notices: what happens to a store that nobody asked for, told to whoever listens.
//!
//! Floor 5. A listener has a queue of its own, which is bounded: the store never waits for it.

use super::open::Store;
use crate::units::{DiskId, ServerId, SnapshotId};
use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Notices that wait for one listener, at most.
const QUEUE_MAX: usize = 256;

/// Something that an embedder may want to know, or act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// The store is fuller than a watermark.
    SpaceAbove {
        /// The watermark, in percent of the blocks that data can take.
        percent: u8,
        /// Blocks in use.
        used_blocks: u64,
        /// Blocks that the store can come to have.
        capacity_blocks: u64,
    },
    /// The store is less full again, by two percent, than a watermark.
    SpaceBelow {
        /// The watermark, in percent of the blocks that data can take.
        percent: u8,
        /// Blocks in use.
        used_blocks: u64,
        /// Blocks that the store can come to have.
        capacity_blocks: u64,
    },
    /// A write found no space, and waits for it. Not repeated for a disk while it has not been taken.
    WriteWaits {
        /// The disk that is written.
        disk: DiskId,
    },
    /// A write found no space, and failed. Not repeated for a disk while it has not been taken.
    WriteRefused {
        /// The disk that was written.
        disk: DiskId,
    },
    /// The time of a snapshot was over: it was deleted.
    SnapshotExpired {
        /// The server that it was of.
        server: ServerId,
        /// Which one.
        snapshot: SnapshotId,
    },
    /// There was no space, and so the snapshot of what the server's last restore replaced was deleted: that restore
    /// cannot be taken back.
    UndoGivenUp {
        /// The server that it was of.
        server: ServerId,
        /// Which one.
        snapshot: SnapshotId,
    },
    /// So many notices before this one are lost, because nobody took them.
    Missed {
        /// How many.
        count: u64,
    },
}

impl Store {
    /// A notice as a sentence for a log, with the names of what it is about, or with the ids of what is gone.
    pub fn describe(&self, notice: &Notice) -> String {
        let mebibytes = |blocks: u64| blocks.saturating_mul(u64::from(self.shared.block_size())) >> 20;
        let server = |id| self.server_by_id(id).map_or_else(|_| format!("server {id}"), |found| found.name());
        let disk = |id| {
            let found = self.disk_by_id(id);
            found.map_or_else(
                |_| format!("disk {id}"),
                |disk| format!("{}/{}", server(disk.server()), disk.name()),
            )
        };
        match *notice {
            Notice::SpaceAbove { percent, used_blocks, capacity_blocks } => format!(
                "the store is {percent} percent full: {} of {} MiB are used",
                mebibytes(used_blocks),
                mebibytes(capacity_blocks)
            ),
            Notice::SpaceBelow { percent, used_blocks, capacity_blocks } => format!(
                "the store is less than {percent} percent full again: {} of {} MiB are used",
                mebibytes(used_blocks),
                mebibytes(capacity_blocks)
            ),
            Notice::WriteWaits { disk: id } => {
                format!("the store is full: a write to {} waits for space", disk(id))
            }
            Notice::WriteRefused { disk: id } => format!("the store is full: a write to {} failed", disk(id)),
            Notice::SnapshotExpired { server: id, snapshot } => {
                format!("snapshot {snapshot} of {} has expired, and was deleted", server(id))
            }
            Notice::UndoGivenUp { server: id, snapshot } => format!(
                "the store is full: snapshot {snapshot}, which the last restore of {} left, was deleted; that restore cannot be undone",
                server(id)
            ),
            Notice::Missed { count } => format!("{count} notices were lost"),
        }
    }
}

/// What waits for one listener. It does not keep the store open.
pub struct Notices {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Notice>,
    missed: u64,
    is_over: bool,
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").field("waiting", &self.queue.state.lock().waiting).finish_non_exhaustive()
    }
}

impl Notices {
    /// The next notice; waits for it so long at most. `None` then, and at once when the store was closed and
    /// nothing is left.
    pub fn next_within(&self, timeout: Duration) -> Option<Notice> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.queue.state.lock();
        while state.waiting.is_empty() && state.missed == 0 && !state.is_over {
            match deadline {
                Some(deadline) if self.queue.changed.wait_until(&mut state, deadline).timed_out() => break,
                Some(_) => {}
                None => self.queue.changed.wait(&mut state),
            }
        }
        state.take()
    }

    /// The next notice, if there is one.
    pub fn next_now(&self) -> Option<Notice> {
        self.queue.state.lock().take()
    }

    /// Whether the store was closed, so that no notice will follow those that wait.
    pub fn is_over(&self) -> bool {
        self.queue.state.lock().is_over
    }
}

impl QueueState {
    fn take(&mut self) -> Option<Notice> {
        match std::mem::take(&mut self.missed) {
            0 => self.waiting.pop_front(),
            count => Some(Notice::Missed { count }),
        }
    }

    fn add(&mut self, notice: Notice) {
        // A guest that goes on writing must not crowd out what else there is to say.
        let is_of_write = matches!(notice, Notice::WriteWaits { .. } | Notice::WriteRefused { .. });
        if is_of_write && self.waiting.contains(&notice) {
            return;
        }
        if self.waiting.len() == QUEUE_MAX {
            self.waiting.pop_front();
            self.missed += 1;
        }
        self.waiting.push_back(notice);
    }
}

/// Where the store posts its notices.
#[derive(Default)]
pub(super) struct NoticeBoard {
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct Listeners {
    queues: Vec<Weak<Queue>>,
    is_over: bool,
}

impl NoticeBoard {
    /// A new listener, who hears `first` at once.
    pub(super) fn listen(&self, first: Option<Notice>) -> Notices {
        let queue = Arc::new(Queue::default());
        let mut listeners = self.listeners.lock();
        {
            let mut state = queue.state.lock();
            state.waiting.extend(first);
            state.is_over = listeners.is_over;
        }
        listeners.queues.push(Arc::downgrade(&queue));
        Notices { queue }
    }

    /// Tells all listeners.
    pub(super) fn post(&self, notice: Notice) {
        self.tell(|state| state.add(notice));
    }

    /// Nothing follows.
    pub(super) fn end(&self) {
        self.listeners.lock().is_over = true;
        self.tell(|state| state.is_over = true);
    }

    fn tell(&self, change: impl Fn(&mut QueueState)) {
        self.listeners.lock().queues.retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            change(&mut queue.state.lock());
            queue.changed.notify_all();
            true
        });
    }
}

impl Drop for NoticeBoard {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(disk: u64) -> Notice {
        Notice::WriteRefused { disk: DiskId(disk) }
    }

    #[test]
    fn a_listener_that_sleeps_loses_the_oldest_and_hears_how_many() {
        let board = NoticeBoard::default();
        let notices = board.listen(None);
        for disk in 0..300 {
            board.post(refused(disk));
            board.post(refused(299.min(disk + 1)));
        }
        assert_eq!(notices.next_now(), Some(Notice::Missed { count: 44 }));
        assert_eq!(notices.next_now(), Some(refused(44)));
        let rest = std::iter::from_fn(|| notices.next_now()).count();
        assert_eq!(rest, 255);
    }

    #[test]
    fn who_listens_late_hears_nothing_old_and_who_is_gone_is_forgotten() {
        let board = NoticeBoard::default();
        board.post(refused(1));
        let notices = board.listen(None);
        drop(board.listen(None));
        board.post(refused(2));
        assert_eq!(board.listeners.lock().queues.len(), 1);
        assert_eq!(notices.next_now(), Some(refused(2)));
        assert_eq!(notices.next_within(Duration::from_millis(1)), None);
        assert!(!notices.is_over());
        drop(board);
        assert_eq!(notices.next_within(Duration::MAX), None);
        assert!(notices.is_over());
    }
}
