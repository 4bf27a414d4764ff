//! What users set on servers, disks and snapshots, as they write it: labels, deadlines, limits.

use std::str::FromStr;

use clap::Args;
use cowblk::{Labels, SnapshotMarks, WhenFull};

use crate::{sizes, times};

/// `KEY=VALUE` on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Label, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Label { key: key.into(), value: value.into() }),
            _ => Err("a label is written KEY=VALUE, for example purpose=nightly".into()),
        }
    }
}

/// When a snapshot is deleted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    Never,
    /// So many seconds from now on.
    In(u64),
    /// At this time, in UTC seconds since 1970.
    At(u64),
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Expiry, String> {
        if text == "never" {
            return Ok(Expiry::Never);
        }
        times::parse_duration(text).map(Expiry::In).or_else(|_| times::parse_rfc3339(text).map(Expiry::At)).map_err(
            |_| format!("`{text}` is no time: write how long from now (90s, 30m, 12h, 7d, 2w), a time as 2025-01-15T18:30:00Z, or never"),
        )
    }
}

impl Expiry {
    /// In UTC seconds since 1970; `None` for never.
    fn seconds(self) -> Option<u64> {
        match self {
            Expiry::Never => None,
            Expiry::In(seconds) => Some(times::now().saturating_add(seconds)),
            Expiry::At(seconds) => Some(seconds),
        }
    }
}

/// A number, or `none` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit<T>(pub(crate) Option<T>);

/// How many snapshots a server may have.
pub(crate) fn parse_count_limit(text: &str) -> Result<Limit<u32>, String> {
    match text {
        "none" => Ok(Limit(None)),
        number => number
            .parse()
            .map(|count| Limit(Some(count)))
            .map_err(|_| format!("`{number}` is no limit: write a number, or none")),
    }
}

/// How many bytes a server's disks may have.
pub(crate) fn parse_size_limit(text: &str) -> Result<Limit<u64>, String> {
    if text == "none" { Ok(Limit(None)) } else { sizes::parse(text).map(|bytes| Limit(Some(bytes))) }
}

/// What writes do in a full store: `fail`, or how long they wait.
pub(crate) fn parse_when_full(text: &str) -> Result<WhenFull, String> {
    if text == "fail" {
        return Ok(WhenFull::Fail);
    }
    let seconds = times::parse_duration(text).ok().and_then(|seconds| u32::try_from(seconds).ok());
    match seconds {
        Some(0) => Ok(WhenFull::Fail),
        Some(seconds) => Ok(WhenFull::WaitSeconds(seconds)),
        None => Err(format!("`{text}` is not understood: write fail, or how long to wait (30s, 5m)")),
    }
}

/// Sets labels and takes others away.
pub(crate) fn change_labels(labels: &mut Labels, set: &[Label], unset: &[String]) {
    labels.retain(|key, _| !unset.contains(key));
    labels.extend(set.iter().map(|label| (label.key.clone(), label.value.clone())));
}

/// What a new snapshot is marked with.
#[derive(Debug, Args)]
pub(crate) struct NewMarks {
    /// Refuse to delete it until it is edited with --unprotect
    #[arg(long)]
    protect: bool,
    /// When it is deleted by itself: 90s, 30m, 12h, 7d, 2w from now, 2025-01-15T18:30:00Z, or never
    #[arg(long, value_name = "WHEN")]
    expires: Option<Expiry>,
    /// Hang a label on it; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
}

impl NewMarks {
    pub(crate) fn marks(&self) -> SnapshotMarks {
        SnapshotMarks {
            protected: self.protect,
            expires_at: self.expires.and_then(Expiry::seconds),
            labels: self.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect(),
        }
    }
}

/// What changes about a snapshot's marks.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ChangedMarks {
    /// Refuse to delete it
    #[arg(long, conflicts_with = "unprotect")]
    protect: bool,
    /// Let it be deleted again
    #[arg(long)]
    unprotect: bool,
    /// When it is deleted by itself: 90s, 30m, 12h, 7d, 2w from now, 2025-01-15T18:30:00Z, or never
    #[arg(long, value_name = "WHEN")]
    expires: Option<Expiry>,
    /// Set a label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// Take a label away; may be given several times
    #[arg(long = "unlabel", value_name = "KEY")]
    unlabels: Vec<String>,
}

impl ChangedMarks {
    pub(crate) fn apply(&self, marks: &mut SnapshotMarks) {
        marks.protected = self.protect || (marks.protected && !self.unprotect);
        if let Some(expires) = self.expires {
            marks.expires_at = expires.seconds();
        }
        change_labels(&mut marks.labels, &self.labels, &self.unlabels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_keys_and_values() {
        let label = |key: &str, value: &str| Label { key: key.into(), value: value.into() };
        assert_eq!("a=b=c".parse(), Ok(label("a", "b=c")));
        assert_eq!("a=".parse(), Ok(label("a", "")));
        for wrong in ["", "a", "=b"] {
            assert!(wrong.parse::<Label>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_expiry_is_a_while_a_time_or_never() {
        assert_eq!("7d".parse(), Ok(Expiry::In(7 * 86_400)));
        assert_eq!("never".parse(), Ok(Expiry::Never));
        assert_eq!("2025-01-15T18:30:00Z".parse(), Ok(Expiry::At(1_736_965_800)));
        for wrong in
            ["", "7", "7x", "tomorrow", "2025-01-15", "1960-01-01T00:00:00Z", "99999999999999999999d"]
        {
            assert!(wrong.parse::<Expiry>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn limits_and_patience_are_numbers_or_words() {
        assert_eq!(parse_count_limit("12"), Ok(Limit(Some(12))));
        assert_eq!(parse_count_limit("none"), Ok(Limit(None)));
        assert_eq!(parse_size_limit("1T"), Ok(Limit(Some(1 << 40))));
        assert_eq!(parse_size_limit("none"), Ok(Limit(None)));
        assert_eq!(parse_when_full("fail"), Ok(WhenFull::Fail));
        assert_eq!(parse_when_full("0s"), Ok(WhenFull::Fail));
        assert_eq!(parse_when_full("5m"), Ok(WhenFull::WaitSeconds(300)));
        assert!(parse_count_limit("-1").is_err() && parse_size_limit("many").is_err());
        assert!(parse_when_full("99999w").is_err() && parse_when_full("wait").is_err());
    }
}
