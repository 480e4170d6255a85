//! A table without lines, as wide as the terminal at most, numbers on the right.

use comfy_table::{Attribute, CellAlignment, Color, ContentArrangement};
use jiff::tz::TimeZone;

use crate::cell::{Cell, Tone};

/// A table that grows row by row.
pub struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<(String, Tone)>>,
    numeric: Vec<bool>,
}

impl Table {
    /// An empty table with these headers, which others may have written.
    pub fn new(headers: Vec<String>) -> Self {
        Self { numeric: vec![false; headers.len()], headers, rows: Vec::new() }
    }

    /// Adds a row; one cell per header.
    pub fn row(&mut self, cells: Vec<Cell>, zone: &TimeZone) {
        for (numeric, cell) in self.numeric.iter_mut().zip(&cells) {
            *numeric |= cell.is_number();
        }
        self.rows.push(cells.iter().map(|cell| (cell.human(zone), cell.tone())).collect());
    }

    /// The table as text, each line ended.
    pub fn print(self, width: Option<u16>, colour: bool) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        // Whether there is a terminal is decided once, in `Output`.
        if colour {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };
        match width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        let header = self.headers.iter().map(|header| {
            let cell = comfy_table::Cell::new(crate::escape::escape(header));
            if colour { cell.add_attribute(Attribute::Bold) } else { cell }
        });
        table.set_header(header.collect::<Vec<_>>());
        for row in self.rows {
            table.add_row(row.into_iter().map(|(text, tone)| {
                let cell = comfy_table::Cell::new_owned(text);
                match tone {
                    Tone::Good => cell.fg(Color::Green),
                    Tone::Warning => cell.fg(Color::Yellow),
                    Tone::Bad => cell.fg(Color::Red),
                    Tone::Plain => cell,
                }
            }));
        }
        let last = self.numeric.len().saturating_sub(1);
        for (i, (column, numeric)) in table.column_iter_mut().zip(self.numeric).enumerate() {
            column.set_padding((0, if i == last { 0 } else { 2 }));
            if numeric {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}
