//! Histograms for people. Pure.

use crate::trace::Bar;

/// The widest bar.
const WIDTH: u64 = 40;

/// One line a bar, from the first to the last that counts anything.
pub fn histogram(bars: &[Bar], unit: &str) -> Vec<String> {
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(0).max(1);
    let first = bars.iter().position(|bar| bar.count > 0).unwrap_or(0);
    let last = bars.iter().rposition(|bar| bar.count > 0).map_or(0, |at| at + 1);
    let shown = bars.get(first..last).unwrap_or_default();
    let line = |bar: &Bar| {
        let range = match (bar.min, bar.max) {
            (Some(min), Some(max)) if min == max => short(min),
            (Some(min), Some(max)) => format!("{}..{}", short(min), short(max.saturating_add(1))),
            (Some(min), None) => format!("from {}", short(min)),
            (None, Some(max)) => format!("below {}", short(max.saturating_add(1))),
            (None, None) => "any".to_owned(),
        };
        let width = (bar.count * WIDTH).div_ceil(most);
        let bars = "#".repeat(usize::try_from(width).unwrap_or(0));
        format!("{range:>14} {unit} {:>6} {bars}", bar.count).trim_end().to_owned()
    };
    shown.iter().map(line).collect()
}

/// 131072 is 128k, as bpftrace itself writes it.
fn short(value: i64) -> String {
    match value {
        0x10_0000.. if value % 0x10_0000 == 0 => format!("{}M", value / 0x10_0000),
        0x400.. if value % 0x400 == 0 => format!("{}k", value / 0x400),
        _ => value.to_string(),
    }
}
