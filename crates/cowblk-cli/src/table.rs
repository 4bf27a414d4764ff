//! Plain tables: columns as wide as their widest cell, two spaces between them, nothing drawn.

use std::fmt;

/// A table for people. Cells are made printable, so a name cannot move the cursor of a terminal.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// A heading, and on which side its cells stand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column {
    Left(&'static str),
    Right(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Left(title) | Column::Right(title) => title,
        }
    }
}

impl Table {
    pub(crate) fn new<const N: usize>(columns: [Column; N]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with one cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.columns.len(), "a row of {N} cells in a table of {} columns", self.columns.len());
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    fn width(&self, index: usize, column: Column) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
        cells.chain([column.title().len()]).max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: Vec<String> = self.columns.iter().map(|column| column.title().to_owned()).collect();
        let widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(index, column)| self.width(index, *column)).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                match column {
                    Column::Left(_) => line.extend([cell.as_str(), &padding, "  "]),
                    Column::Right(_) => line.extend([padding.as_str(), cell, "  "]),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The text with every control character written out, as `\n` or `\u{1b}`.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new([Column::Left("NAME"), Column::Right("SIZE")]);
        table.row(["a-long-name".into(), "1".into()]);
        table.row(["b".into(), "1024".into()]);
        assert_eq!(table.to_string(), "NAME         SIZE\na-long-name     1\nb            1024\n");
    }

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
