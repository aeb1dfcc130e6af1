//! Columns of text.

use anstyle::Style;
use bot_bottle_core::printable::printable;

/// Rows of cells, aligned by their visible width.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<(String, Style)>>,
}

impl Table {
    /// Adds a row. The text of a cell is made printable.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [(String, Style); COLUMNS]) {
        self.rows.push(cells.map(|(text, style)| (printable(&text), style)).into());
    }

    /// The table as text, one line per row.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|(text, _)| text.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, style)) in row.iter().enumerate() {
                let padding =
                    if column + 1 == row.len() { 0 } else { widths[column] - cell.chars().count() + 2 };
                line.push_str(&format!("{style}{cell}{style:#}{}", " ".repeat(padding)));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let mut table = Table::default();
        table.row([("a".into(), crate::ui::BAD), ("one".into(), Style::new())]);
        table.row([("ccc".into(), Style::new()), ("two".into(), Style::new())]);
        assert_eq!(anstream::adapter::strip_str(&table.render()).to_string(), "a    one\nccc  two\n");
    }
}
