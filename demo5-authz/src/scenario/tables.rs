//! Tables for people.

use comfy_table::{Table, presets};
use shared::report::Story;

/// A table with these columns.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table
}

/// Tells the table, line by line.
pub(super) fn tell(story: &Story, table: &Table) {
    for line in table.to_string().lines() {
        story.tell(line);
    }
}
