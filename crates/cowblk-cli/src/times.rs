//! Times as text: UTC, RFC 3339, whole seconds, with `Z`; and how long something takes, as `90s` or `7d`.

use jiff::Timestamp;

const UNITS: [(char, u64); 5] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400), ('w', 604_800)];

/// `2025-01-15T18:30:00Z` for seconds since 1970. A time past the year 9999 shows as that year's end.
pub(crate) fn rfc3339(seconds_since_1970: u64) -> String {
    let seconds = i64::try_from(seconds_since_1970).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The seconds since 1970 that `text` means.
pub(crate) fn parse_rfc3339(text: &str) -> Result<u64, String> {
    let time: Timestamp =
        text.parse().map_err(|_| format!("`{text}` is not a time, as 2025-01-15T18:30:00Z is"))?;
    u64::try_from(time.as_second()).map_err(|_| format!("`{text}` is before 1970"))
}

/// The seconds in `90s`, `30m`, `12h`, `7d` or `2w`.
pub(crate) fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` does not say how long: write a number with s, m, h, d or w");
    let unit = text.chars().last().and_then(|last| UNITS.into_iter().find(|(name, _)| *name == last));
    let (name, seconds) = unit.ok_or_else(wrong)?;
    let number: u64 = text.strip_suffix(name).unwrap_or_default().parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).ok_or_else(wrong)
}

/// The current time, in UTC seconds since 1970.
pub(crate) fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_a_z() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_736_965_800), "2025-01-15T18:30:00Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-30T22:00:00Z");
        assert_eq!(parse_rfc3339("2025-01-15T18:30:00Z"), Ok(1_736_965_800));
        assert_eq!(parse_rfc3339("2025-01-15T19:30:00+01:00"), Ok(1_736_965_800));
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("2w", 1_209_600)] {
            assert_eq!(parse_duration(text), Ok(seconds), "{text}");
        }
        for wrong in
            ["", "s", "90", "-1s", "1.5h", "1 h", "1y", "1é", "99999999999999999999s", "99999999999999w"]
        {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
