//! A few curves over time, as text. Pure: numbers in, lines out.

/// A curve and the letter that draws it.
#[derive(Clone, Debug)]
pub(super) struct Curve<'a> {
    pub(super) letter: char,
    pub(super) name: &'a str,
    pub(super) values: Vec<f64>,
}

/// Draws the curves `height` lines high, one column a value, with a dashed line at `threshold`.
///
/// Where curves meet, the one that is named first is seen.
pub(super) fn plot(curves: &[Curve<'_>], threshold: (&str, f64), unit: &str, height: usize) -> Vec<String> {
    let all = curves.iter().flat_map(|curve| &curve.values).copied();
    let top = all.fold(threshold.1, f64::max).max(1e-9);
    let width = curves.iter().map(|curve| curve.values.len()).max().unwrap_or(0);
    let row_of = |value: f64| ((value / top) * (height.max(1) - 1) as f64).round() as usize;
    let mut lines = Vec::new();
    for row in (0..height.max(1)).rev() {
        let cell = |column: usize| {
            let on_row =
                |curve: &&Curve<'_>| curve.values.get(column).is_some_and(|value| row_of(*value) == row);
            let empty = if row == row_of(threshold.1) { '-' } else { ' ' };
            curves.iter().find(on_row).map_or(empty, |curve| curve.letter)
        };
        let label = top * row as f64 / (height.max(2) - 1) as f64;
        let cells: String = (0..width).map(cell).collect();
        // Also where curves hide the line.
        let edge = if row == row_of(threshold.1) { '-' } else { '|' };
        lines.push(format!("{label:>6.0} {edge}{cells}"));
    }
    let names = curves.iter().map(|curve| format!("{} {}", curve.letter, curve.name));
    lines.push(format!("{unit:>6} |{}, - {}", names.collect::<Vec<_>>().join(", "), threshold.0));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_rise_from_the_bottom_and_the_threshold_line_fills_empty_cells() {
        let rising = Curve { letter: 'a', name: "rising", values: vec![0.0, 5.0, 10.0] };
        let flat = Curve { letter: 'b', name: "flat", values: vec![0.0, 0.0, 0.0] };
        let lines = plot(&[rising, flat], ("mark", 5.0), "rps", 3);
        assert_eq!(lines, ["    10 |  a", "     5 --a-", "     0 |abb", "   rps |a rising, b flat, - mark"]);
    }

    #[test]
    fn an_empty_plot_has_only_its_axis_and_legend() {
        assert_eq!(plot(&[], ("mark", 0.0), "rps", 1).len(), 2);
    }
}
