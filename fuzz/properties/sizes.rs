//! Sizes: what the command line takes for a size. Of its import, this is all that looks at what a user gives it: the rest
//! are bytes that it hands on.
//!
//! A size that is understood is what an independent reading of the same text gives; a size that is printed is the nearest
//! one below with one decimal.

#[allow(dead_code, reason = "the command line uses the rest")]
#[path = "../../crates/cowblk-cli/src/sizes.rs"]
mod subject;

/// The property.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let parsed = subject::parse(&text);
    assert_eq!(parsed.as_ref().ok().copied(), read(&text), "{text:?}");
    assert_eq!(subject::parse_nonzero(&text).ok(), parsed.ok().filter(|bytes| *bytes != 0));
    let mut word = [0; 8];
    let count = data.len().min(8);
    word[..count].copy_from_slice(&data[..count]);
    let bytes = u64::from_le_bytes(word);
    let shown = subject::human(bytes);
    let (number, unit) = shown.split_once(' ').unwrap();
    let unit = u128::from(read(&format!("1{unit}")).unwrap());
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let tenths = whole.parse::<u128>().unwrap() * 10 + tenths.parse::<u128>().unwrap();
    let least = (unit * tenths).div_ceil(10);
    assert!(
        least <= u128::from(bytes) && u128::from(bytes) * 10 < unit * (tenths + 1),
        "{bytes} is shown as {shown}"
    );
    assert_eq!(u128::from(subject::mebibytes(bytes)), u128::from(bytes).div_ceil(1 << 20));
}

fn read(text: &str) -> Option<u64> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let shift = match text.get(end..)? {
        "" | "B" => 0,
        "K" | "k" | "KiB" | "kiB" => 10,
        "M" | "m" | "MiB" | "miB" => 20,
        "G" | "g" | "GiB" | "giB" => 30,
        "T" | "t" | "TiB" | "tiB" => 40,
        "P" | "p" | "PiB" | "piB" => 50,
        _ => return None,
    };
    if end == 0 {
        return None;
    }
    let number = text[..end]
        .bytes()
        .try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    number.checked_mul(1 << shift)
}
