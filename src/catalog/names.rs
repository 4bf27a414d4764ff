//! Names: what servers, disks and snapshots may be called.
//!
//! Floor 3.

use super::possible::labels_fit;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Labels;
use crate::limits::{DESCRIPTION_BYTES_MAX, LABEL_BYTES_MAX, LABELS_MAX, NAME_CHARS_MAX};

/// Refuses a name that is not 1 to 64 letters, digits, hyphens and underscores.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let wrong = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > NAME_CHARS_MAX {
        format!("it has {} characters", name.chars().count())
    } else if let Some(odd) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_')) {
        format!("it holds {odd:?}")
    } else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "{name:?} cannot name a {what}: {wrong}; use 1 to {NAME_CHARS_MAX} letters, digits, hyphens and underscores"
        ),
    ))
}

/// Refuses a description that is too long.
pub(crate) fn check_description(description: &str) -> Result<()> {
    if description.len() <= DESCRIPTION_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!("the description has {} bytes; use at most {DESCRIPTION_BYTES_MAX}", description.len()),
    ))
}

/// Refuses labels that are too many or too long.
pub(crate) fn check_labels(labels: &Labels) -> Result<()> {
    if labels_fit(labels) {
        return Ok(());
    }
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    let count = labels.len();
    Err(Error::new(
        ErrorKind::Invalid,
        format!(
            "{count} labels of {bytes} bytes; use at most {LABELS_MAX} of {LABEL_BYTES_MAX} bytes together"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_hyphens_and_underscores() {
        assert!(check_name("disk", "web-server_01").is_ok());
        assert!(check_name("disk", &"n".repeat(64)).is_ok());
        for bad in ["", "a/b", "a b", "é", ".", &"n".repeat(65)] {
            assert_eq!(check_name("disk", bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
        let text = check_name("server", "a/b").unwrap_err().to_string();
        assert!(text.contains("\"a/b\" cannot name a server") && text.contains("'/'"), "{text}");
    }
}
