//! The dashboard's panels as pictures, for a README: what Grafana would draw of the same data. Pure.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width and height of a picture.
const SIZE: (u32, u32) = (760, 260);

/// What of the width is for the names of the curves.
const NAMES: u32 = 200;

/// Colours that are told apart on white by those too who see fewer (Okabe and Ito's).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
];

/// How far apart two points may be, in seconds, to be joined by a line.
const GAP: f64 = 1.6;

/// One panel, with its data.
#[derive(Clone, Debug)]
pub struct Picture<'a> {
    /// Its title.
    pub title: &'a str,
    /// The unit of its values, as Grafana calls it.
    pub unit: &'a str,
    /// From when to when, in seconds.
    pub span: (f64, f64),
    /// The name of each curve, and its points: seconds, value.
    pub curves: Vec<(String, Vec<(f64, f64)>)>,
    /// What is marked: name, from when to when.
    pub marks: Vec<(String, f64, f64)>,
}

impl Picture<'_> {
    /// The picture as SVG.
    ///
    /// # Errors
    /// What plotters says if it cannot draw.
    pub fn svg(&self) -> Result<String, String> {
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        self.draw(&area).and_then(|()| area.present()).map_err(|error| error.to_string())?;
        drop(area);
        Ok(svg)
    }

    fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        area.fill(&WHITE)?;
        let (left, right) = area.split_horizontally(SIZE.0 - NAMES);
        let values = self.curves.iter().flat_map(|(_, points)| points).map(|(_, value)| *value);
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        // A curve of zeros lies on the ground, and not in the middle.
        let top = if most > 0.0 { 1.1 * most } else { 1.0 };
        let unit = self.unit;
        let mut chart = ChartBuilder::on(&left)
            .caption(self.title, ("sans-serif", 17))
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(64)
            .build_cartesian_2d(self.span.0..self.span.1, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.1))
            .y_labels(6)
            .x_label_formatter(&|second| format!("{second:.0} s"))
            .y_label_formatter(&|value| format_value(*value, unit))
            .draw()?;
        for (name, from, to) in &self.marks {
            let orange = RGBColor(230, 159, 0);
            let area = Rectangle::new([(*from, 0.0), (*to, top)], orange.mix(0.15).filled());
            let middle = Pos::new(HPos::Center, VPos::Top);
            let style = ("sans-serif", 11).into_font().color(&BLACK.mix(0.6)).pos(middle);
            let text = Text::new(name.clone(), (f64::midpoint(*from, *to), 0.99 * top), style);
            chart.draw_series(std::iter::once(area))?;
            chart.draw_series(std::iter::once(text))?;
        }
        for (number, (name, points)) in self.curves.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            // When the colours are used up, thinner.
            let width = if number < COLOURS.len() { 2 } else { 1 };
            for piece in segments(points) {
                chart.draw_series(LineSeries::new(piece, colour.stroke_width(width)))?;
            }
            let y = 34 + 17 * i32::try_from(number).unwrap_or(0);
            right.draw(&PathElement::new([(4, y), (20, y)], colour.stroke_width(width)))?;
            let style = ("sans-serif", 12).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
            right.draw(&Text::new(name.clone(), (26, y), style))?;
        }
        Ok(())
    }
}

/// The points without those that are no number, cut where too many of them are missing.
fn segments(points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let mut segments: Vec<Vec<(f64, f64)>> = Vec::new();
    for point in points.iter().filter(|(_, value)| value.is_finite()) {
        match segments.last_mut() {
            Some(piece) if piece.last().is_some_and(|last| point.0 - last.0 <= GAP) => piece.push(*point),
            _ => segments.push(vec![*point]),
        }
    }
    segments
}

/// From when to when a curve has values: the marks of an annotation.
pub fn spans(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let ends = |piece: &Vec<(f64, f64)>| Some((piece.first()?.0, piece.last()?.0));
    segments(points).iter().filter_map(ends).collect()
}

fn format_value(value: f64, unit: &str) -> String {
    match unit {
        "percentunit" => format!("{:.0} %", 100.0 * value),
        "reqps" => format!("{value:.0}/s"),
        "ms" => format!("{value:.0} ms"),
        "s" => format!("{value:.1} s"),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

/// A title as the name of a file.
pub fn file_name(title: &str) -> String {
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    title.chars().map(letter).collect::<String>() + ".svg"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_cut_where_samples_are_missing() {
        let points = [(0.0, 1.0), (0.5, 2.0), (1.0, f64::NAN), (9.0, 3.0), (9.5, 3.0)];
        assert_eq!(spans(&points), [(0.0, 0.5), (9.0, 9.5)]);
        assert_eq!(spans(&[]), []);
    }

    #[test]
    fn a_picture_contains_title_curves_and_marks_for_any_input() {
        let picture = Picture {
            title: "Errors <b> & more",
            unit: "percentunit",
            span: (0.0, 10.0),
            curves: vec![
                ("a → c".to_owned(), vec![(0.0, 0.1), (1.0, f64::INFINITY)]),
                (String::new(), vec![]),
            ],
            marks: vec![("fault in c".to_owned(), 1.0, 2.0)],
        };
        let svg = picture.svg().unwrap();
        for expected in ["Errors &lt;b&gt; &amp; more", "a → c", "fault in c", "10 %", "</svg>"] {
            assert!(svg.contains(expected), "{expected} is not in {svg}");
        }
        assert_eq!(file_name("Series an Envoy"), "series-an-envoy.svg");
        // Nothing to show is shown as nothing.
        let empty = Picture { curves: vec![], marks: vec![], ..picture };
        assert!(empty.svg().unwrap().contains("</svg>"));
    }
}
