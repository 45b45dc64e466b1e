//! Results in columns: [`Table`].

use std::fmt;

use super::Mean;

/// Text in columns, the first to the left and the others to the right.
///
/// ```
/// use tower_outbound::mock::simulate::Table;
///
/// let mut table = Table::new(["jitter", "calls"]);
/// table.row(["none", "2417"]);
/// table.row(["full", "796"]);
/// assert_eq!(table.to_string(), "jitter  calls\nnone     2417\nfull      796\n");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    #[must_use]
    pub fn new<T: ToString>(headings: impl IntoIterator<Item = T>) -> Self {
        let mut table = Self::default();
        table.row(headings);
        table
    }

    /// Adds a row.
    pub fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| cell.to_string()).collect());
    }

    /// What each of these policies came to in the same scenario.
    #[must_use]
    pub fn of<'a>(policies: impl IntoIterator<Item = (&'a str, Mean)>) -> Self {
        let mut table = Self::new([
            "policy",
            "calls",
            "attempts",
            "load",
            "peak load",
            "succeeded",
            "in vain",
            "last ended",
            "well again",
        ]);
        for (name, mean) in policies {
            table.row([
                name.to_owned(),
                format!("{:.0}", mean.calls),
                format!("{:.0}", mean.attempts),
                format!("{:.2} x", mean.load()),
                format!("{:.2} x", mean.peak_load),
                format!("{:.1} %", mean.success() * 100.0),
                format!("{:.0}", mean.wasted),
                format!("{:.1} s", mean.finished.as_secs_f64()),
                mean.recovered.map_or_else(|| "-".to_owned(), |after| format!("{:.1} s", after.as_secs_f64())),
            ]);
        }
        table
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "{cell:<width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
