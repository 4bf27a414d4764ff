//! Page: the document that holds the tables, and how new ones come to their places in it.

use crate::peers::Outcome;
use std::path::Path;

const BEGIN: &str = "<!-- measured: written by cowblk-peers --write -->";
const END: &str = "<!-- measured: end -->";

/// Puts `tables` where the page keeps what was measured.
///
/// # Errors
/// Where the page cannot be read or written, or has no such place.
pub(crate) fn write(page: &Path, tables: &str) -> Outcome {
    let text = std::fs::read_to_string(page)?;
    std::fs::write(page, replaced(&text, tables).ok_or("the page has no place for tables")?)?;
    Ok(())
}

fn replaced(text: &str, tables: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", tables.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_tables_take_the_place_of_old_ones_and_nothing_else() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(replaced(&page, "new\n").as_deref(), Some(&*format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n")));
        assert_eq!(replaced("a page without a place", "new"), None);
    }
}
