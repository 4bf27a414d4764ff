//! Times as text: UTC, RFC 3339, whole seconds, with `Z`.

use jiff::Timestamp;

/// `2025-01-15T18:30:00Z` for seconds since 1970. A time past the year 9999 shows as that year's end.
pub(crate) fn rfc3339(seconds_since_1970: u64) -> String {
    let seconds = i64::try_from(seconds_since_1970).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_a_z() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_736_965_800), "2025-01-15T18:30:00Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-30T22:00:00Z");
    }
}
