//! The result, as Markdown.

use std::{collections::BTreeMap, fmt::Write};

use crate::rows::{Figure, Row, median};

/// The figures of all rounds.
#[derive(Default)]
pub(crate) struct Table(BTreeMap<Row, BTreeMap<&'static str, Vec<f64>>>);

impl Table {
    pub(crate) fn add(&mut self, contender: &'static str, figures: Vec<Figure>) {
        for (row, figure) in figures {
            self.0.entry(row).or_default().entry(contender).or_default().push(figure);
        }
    }

    /// Medians, with how the gateway stands to two of the columns.
    pub(crate) fn markdown(&self, columns: &[&'static str]) -> String {
        let mut text = format!("| | {} | gateway ÷ direct | gateway ÷ hudsucker |\n", columns.join(" | "));
        let _ = writeln!(text, "|---|{}", "---:|".repeat(columns.len() + 2));
        for (row, figures) in &self.0 {
            let of = |column: &str| figures.get(column).cloned().map(median);
            let _ = write!(text, "| {} |", row.title());
            for column in columns {
                let _ = write!(text, " {} |", of(column).map_or_else(|| "–".into(), rounded));
            }
            for other in ["direct", "hudsucker"] {
                let ratio =
                    of("gateway").zip(of(other)).map(|(ours, theirs)| format!("{:.2}", ours / theirs));
                let _ = write!(text, " {} |", ratio.unwrap_or_else(|| "–".into()));
            }
            text.push('\n');
        }
        text
    }
}

/// Three digits that mean something.
fn rounded(figure: f64) -> String {
    match figure {
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 10.0 => format!("{figure:.1}"),
        figure => format!("{figure:.2}"),
    }
}
