//! Model: the JSON objects of the API, whose keys are a promise.

mod backup;
mod server;
mod snapshot;

pub(crate) use backup::{BackupType, BackupView, NewBackupView};
pub(crate) use server::{
    DiskChangeView, DiskView, Given, NewDiskView, NewServerView, RetentionView, ScheduleView,
    ServerChangeView, ServerView,
};
pub(crate) use snapshot::{
    CreatedView, Fate, NewSnapshotView, Owner, RestoredView, SnapshotChangeView, SnapshotView, is_shown,
};

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The envelope of every list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// How many there are, whatever part of them is shown.
    pub(crate) count: usize,
    /// Those that are shown.
    pub(crate) results: Vec<T>,
}

/// Which part of a list to show.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Part {
    /// Show so many at most.
    pub(crate) limit: Option<u32>,
    /// Leave out so many of the newest.
    #[serde(default)]
    #[param(default = 0)]
    pub(crate) offset: u32,
}

impl<T> List<T> {
    /// The part of `all` that was asked for; `show` is called for that part only.
    pub(crate) fn part<I>(all: Vec<I>, part: Part, show: impl FnMut(I) -> T) -> Self {
        let wide = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let (count, limit) = (all.len(), part.limit.map_or(usize::MAX, wide));
        Self { count, results: all.into_iter().skip(wide(part.offset)).take(limit).map(show).collect() }
    }
}
