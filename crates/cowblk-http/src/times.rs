//! Times: UTC seconds since 1970, and as text.

use jiff::Timestamp;

/// The system's clock, in UTC seconds since 1970.
pub(crate) fn system_clock() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

/// `2025-01-15T18:30:00Z`. A time past the year 9999 shows as that year's end.
pub(crate) fn rfc3339(seconds_since_1970: u64) -> String {
    let seconds = i64::try_from(seconds_since_1970).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The seconds since 1970 that a text means, if it is a time from 1970 on.
pub(crate) fn parse_rfc3339(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<Timestamp>().ok()?.as_second()).ok()
}

/// Whole mebibytes, rounded up.
pub(crate) const fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
