//! Tables for people.

use comfy_table::{LineStyle, Table, presets};
use shared::report::Recorder;

/// A table with these columns.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    // One line under the header: these tables are read along columns.
    let style = presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));
    table.load_style(style).set_header(header);
    table
}

/// Tells the table, line by line.
pub(super) fn print_table(recorder: &Recorder, table: &Table) {
    for line in table.to_string().lines() {
        recorder.note(line.trim_end());
    }
}
