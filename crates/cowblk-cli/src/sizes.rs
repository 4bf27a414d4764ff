//! Sizes as people write them: `512`, `4K`, `10G`, `20GiB`. Units are powers of 1024.

const UNITS: [(&str, u64); 5] =
    [("P", 1 << 50), ("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

/// The bytes meant by `text`; the error says what would have been understood.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at(digits);
    let unit = unit(suffix).ok_or_else(|| {
        format!("`{text}` is not a size: write bytes, or a whole number with K, M, G, T or P (powers of 1024), as in 512, 4K or 20GiB")
    })?;
    let number: u64 =
        number.parse().map_err(|_| format!("`{text}` does not start with a number in range"))?;
    number.checked_mul(unit).ok_or_else(|| format!("`{text}` is more bytes than 64 bits can count"))
}

/// Like [`parse`], for sizes of which zero makes no sense.
pub(crate) fn parse_nonzero(text: &str) -> Result<u64, String> {
    match parse(text)? {
        0 => Err("the size must not be zero".into()),
        bytes => Ok(bytes),
    }
}

/// The largest unit that leaves at least 1, with one decimal where it is not whole.
pub(crate) fn human(bytes: u64) -> String {
    let Some((name, unit)) = UNITS.into_iter().find(|(_, unit)| bytes >= *unit) else {
        return format!("{bytes} B");
    };
    let (whole, tenths) = (bytes / unit, (bytes % unit) * 10 / unit);
    if tenths == 0 { format!("{whole} {name}iB") } else { format!("{whole}.{tenths} {name}iB") }
}

/// [`human`], or a dash for what is not known yet.
pub(crate) fn human_or_dash(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".into(), human)
}

/// Whole mebibytes, rounded up: the `size_mb` of listings.
pub(crate) fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn unit(suffix: &str) -> Option<u64> {
    if suffix.is_empty() || suffix == "B" {
        return Some(1);
    }
    let letter = suffix.strip_suffix("iB").unwrap_or(suffix).to_ascii_uppercase();
    UNITS.into_iter().find(|(name, _)| *name == letter).map(|(_, unit)| unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("4K", 4096),
            ("4k", 4096),
            ("20GiB", 20 << 30),
            ("1T", 1 << 40),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in ["", "G", "-1", "1.5G", "10GB", "10X", "1 G", "99999999999999999999", "99999999P", "1é"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_nonzero("0").is_err());
    }

    #[test]
    fn sizes_are_printed_in_the_largest_unit() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (10 << 30, "10 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human(bytes), text);
        }
    }
}
