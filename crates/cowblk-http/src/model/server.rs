//! Servers and disks on the wire.

use crate::hooks::HookSettings;
use crate::state::{Details, ServerStatus, UPDATED_AT, own_labels_of};
use crate::times::{mebibytes, rfc3339};
use cowblk::{Disk, Labels, Retention, Server};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// What a server's plan says.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PlanView {
    /// GiB of storage: what the plan says, or what its disks add up to, rounded up.
    #[schema(example = 80)]
    pub(crate) storage: u64,
    #[serde(flatten)]
    #[schema(additional_properties)]
    pub(crate) more: Map<String, Value>,
}

/// A server.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ServerView {
    #[schema(example = 12345)]
    pub(crate) id: u64,
    #[schema(example = "web-server-01")]
    pub(crate) name: String,
    pub(crate) hostname: String,
    pub(crate) status: ServerStatus,
    pub(crate) plan: PlanView,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
    pub(crate) ip_address: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) os: Option<String>,
    /// What its disks refer to, as of the last checkpoint: the sum over them, as are the next two.
    pub(crate) mapped_bytes: u64,
    /// Of that, what snapshots or several disks refer to; null while that is being counted.
    pub(crate) shared_bytes: Option<u64>,
    /// Of that, what nothing else refers to.
    pub(crate) exclusive_bytes: Option<u64>,
    pub(crate) disks: Vec<DiskView>,
    /// How many snapshots it may have.
    pub(crate) snapshot_limit: u32,
    /// What the sizes of its disks may add up to, if there is a limit.
    pub(crate) max_disk_bytes: Option<u64>,
    /// The snapshot that it was cloned from, if that still exists.
    pub(crate) origin: Option<u64>,
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub(crate) labels: Labels,
    pub(crate) retention: Option<RetentionView>,
    pub(crate) schedule: Option<ScheduleView>,
    pub(crate) automatic_backups: bool,
}

/// A disk.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DiskView {
    pub(crate) id: u64,
    #[schema(example = "vda")]
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    pub(crate) size_mb: u64,
    /// What it refers to, as of the last checkpoint.
    pub(crate) mapped_bytes: Option<u64>,
    /// Of that, what a snapshot or another disk refers to, too; null while that is being counted.
    pub(crate) shared_bytes: Option<u64>,
    /// Of that, what nothing else refers to: what deleting the disk would free.
    pub(crate) exclusive_bytes: Option<u64>,
    /// The snapshot that its content descends from.
    pub(crate) parent: Option<u64>,
    pub(crate) created_at: String,
    /// How long its writes wait for space when the store is full, before they fail.
    pub(crate) when_full_wait_seconds: u64,
}

/// A disk that is to be made: empty, from an image, or as a disk of a snapshot was.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(crate) struct NewDiskView {
    #[schema(example = "vda", min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub(crate) name: String,
    /// In bytes, a multiple of 512. Needed unless it begins as something else.
    #[serde(default)]
    pub(crate) size_bytes: Option<u64>,
    /// In GiB, instead.
    #[serde(default)]
    pub(crate) size_gb: Option<u64>,
    /// A raw image in one of the folders that the operator allowed: its absolute path.
    #[serde(default)]
    pub(crate) image: Option<String>,
    /// A snapshot, whose disk `disk` (or the one of the same name) it begins as.
    #[serde(default)]
    pub(crate) snapshot_id: Option<u64>,
    #[serde(default)]
    pub(crate) disk: Option<String>,
}

/// A server that is to be made.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(crate) struct NewServerView {
    /// Letters, digits, hyphens, underscores; unique.
    #[schema(example = "web-server-01", min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub(crate) name: String,
    /// A wanted id: larger than all that were given out.
    #[serde(default)]
    pub(crate) id: Option<u64>,
    #[serde(default)]
    #[schema(max_items = 64)]
    pub(crate) disks: Vec<NewDiskView>,
    /// A snapshot whose disks it begins with, all of them.
    #[serde(default)]
    pub(crate) snapshot_id: Option<u64>,
    /// `stopped` (the default) or `active`.
    #[serde(default)]
    pub(crate) status: Option<ServerStatus>,
    #[serde(flatten)]
    pub(crate) change: ServerChangeView,
}

/// A field of a change that can be taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Given<T> {
    /// It is not there: what there is stays.
    #[default]
    Nothing,
    /// It is null: what there is goes.
    Null,
    Value(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}

impl<T> Given<T> {
    /// What there is then.
    pub(crate) fn or(self, known: Option<T>) -> Option<T> {
        match self {
            Self::Nothing => known,
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// What is to change about a server; what is not named stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(crate) struct ServerChangeView {
    #[serde(default)]
    #[schema(max_length = 253)]
    pub(crate) hostname: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) plan: Option<Map<String, Value>>,
    #[serde(default)]
    #[schema(max_length = 253)]
    pub(crate) ip_address: Option<String>,
    #[serde(default)]
    #[schema(max_length = 253)]
    pub(crate) location: Option<String>,
    #[serde(default)]
    #[schema(max_length = 253)]
    pub(crate) os: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<std::collections::HashMap<String, String>>)]
    pub(crate) labels: Option<Labels>,
    /// How many snapshots it may have, instead of what holds for all. Null: what holds for all.
    #[serde(default)]
    #[schema(value_type = Option<u32>, maximum = 100_000)]
    pub(crate) snapshot_limit: Given<u32>,
    /// What the sizes of its disks may add up to. Null: no limit.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub(crate) max_disk_bytes: Given<u64>,
    #[serde(default)]
    pub(crate) hooks: Option<HookSettings>,
    /// Which snapshots of the schedule stay. An empty object: all.
    #[serde(default)]
    pub(crate) retention: Option<RetentionView>,
    /// When snapshots are made by themselves. `every_seconds` 0: never.
    #[serde(default)]
    pub(crate) schedule: Option<ScheduleView>,
    /// Whether a backup is made every day at 03:00 UTC.
    #[serde(default)]
    pub(crate) automatic_backups: Option<bool>,
}

/// What is to change about a disk; what is not named stays.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct DiskChangeView {
    /// In bytes, a multiple of 512. Less than it has only while the server is stopped.
    #[serde(default)]
    pub(crate) size_bytes: Option<u64>,
    /// In GiB, instead.
    #[serde(default)]
    pub(crate) size_gb: Option<u64>,
    /// A smaller size may cut off data; snapshots keep what they hold of it. Otherwise it is refused.
    #[serde(default)]
    pub(crate) cut: bool,
    /// How long its writes wait for space when the store is full, before they fail. 0: they fail at once.
    #[serde(default)]
    pub(crate) when_full_wait_seconds: Option<u32>,
}

/// How many snapshots stay: the newest, and the newest of each hour, day, week, month and year (UTC) that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct RetentionView {
    pub(crate) last: u32,
    pub(crate) hourly: u32,
    pub(crate) daily: u32,
    pub(crate) weekly: u32,
    pub(crate) monthly: u32,
    pub(crate) yearly: u32,
}

/// Snapshots that are made by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ScheduleView {
    /// So many seconds apart, on multiples of it since 1970 UTC: 86400 is every midnight. At least 10.
    pub(crate) every_seconds: u64,
}

impl RetentionView {
    pub(crate) fn policy(&self, only_labelled: Option<(String, String)>) -> Retention {
        let Self { last, hourly, daily, weekly, monthly, yearly } = *self;
        Retention { last, hourly, daily, weekly, monthly, yearly, only_labelled }
    }
}

impl DiskChangeView {
    /// The size that was asked for, in bytes.
    pub(crate) fn bytes(&self) -> Result<Option<u64>, String> {
        size_of(self.size_bytes, self.size_gb)
    }
}

/// A size that was given in one of two ways.
pub(crate) fn size_of(bytes: Option<u64>, gibibytes: Option<u64>) -> Result<Option<u64>, String> {
    match (bytes, gibibytes) {
        (Some(_), Some(_)) => Err("give `size_bytes` or `size_gb`, not both".into()),
        (Some(bytes), None) => Ok(Some(bytes)),
        (None, Some(gibibytes)) => {
            gibibytes.checked_mul(1 << 30).map(Some).ok_or_else(|| "`size_gb` is too large".into())
        }
        (None, None) => Ok(None),
    }
}

impl NewDiskView {
    /// The size that was asked for, in bytes.
    pub(crate) fn bytes(&self) -> Result<Option<u64>, String> {
        size_of(self.size_bytes, self.size_gb)
    }
}

impl DiskView {
    pub(crate) fn of(disk: &Disk) -> Self {
        let (size_bytes, space) = (disk.size_bytes(), disk.space());
        Self {
            id: disk.id().0,
            name: disk.name(),
            size_bytes,
            size_mb: mebibytes(size_bytes),
            mapped_bytes: space.map(|space| space.referenced_bytes),
            shared_bytes: space.and_then(|space| space.shared_bytes()),
            exclusive_bytes: space.and_then(|space| space.exclusive_bytes),
            parent: disk.parent().map(|id| id.0),
            created_at: rfc3339(disk.created_at()),
            when_full_wait_seconds: disk.when_full().patience().as_secs(),
        }
    }
}

impl ServerView {
    pub(crate) fn of(server: &Server, status: ServerStatus, details: &Details, snapshot_limit: u32) -> Self {
        let marks = server.marks();
        let created_at = server.created_at();
        let updated_at =
            marks.labels.get(UPDATED_AT).and_then(|text| text.parse().ok()).unwrap_or(created_at);
        let disks: Vec<DiskView> = server.disks().iter().map(DiskView::of).collect();
        let (name, space) = (server.name(), server.space());
        Self {
            id: server.id().0,
            hostname: details.hostname.clone().unwrap_or_else(|| name.clone()),
            name,
            status,
            plan: plan_of(details, &disks),
            created_at: rfc3339(created_at),
            updated_at: rfc3339(updated_at),
            ip_address: details.ip_address.clone(),
            location: details.location.clone(),
            os: details.os.clone(),
            mapped_bytes: space.referenced_bytes,
            shared_bytes: space.shared_bytes(),
            exclusive_bytes: space.exclusive_bytes,
            disks,
            snapshot_limit: details.snapshot_limit.or(marks.max_snapshots).unwrap_or(snapshot_limit),
            max_disk_bytes: marks.max_disk_bytes,
            origin: server.origin().map(|id| id.0),
            labels: own_labels_of(marks.labels),
            retention: details.retention.clone(),
            schedule: details.schedule.clone(),
            automatic_backups: details.automatic_backups,
        }
    }
}

fn plan_of(details: &Details, disks: &[DiskView]) -> PlanView {
    let mut more = details.plan.clone();
    let given = more.remove("storage").and_then(|value| value.as_u64());
    let bytes = disks.iter().fold(0_u64, |sum, disk| sum.saturating_add(disk.size_bytes));
    PlanView { storage: given.unwrap_or_else(|| bytes.div_ceil(1 << 30)), more }
}
