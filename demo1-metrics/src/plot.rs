//! A curve in one line of a terminal. Pure.

/// From nothing to the most.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One letter a value; the greatest is the highest. What is not a number is a gap.
pub fn line(values: &[f64]) -> String {
    let most = values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let letter = |value: &f64| {
        if !value.is_finite() {
            return ' ';
        }
        let share = if most > 0.0 { value.max(0.0) / most } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 7")]
        let level = (share * 7.0).round() as usize;
        LEVELS[level.min(7)]
    };
    values.iter().map(letter).collect()
}

/// The points (seconds since 1970, value) as one value a second from `begun`; a second without a point is not a number.
pub fn per_second(points: &[(f64, f64)], begun: f64) -> Vec<f64> {
    let mut values = Vec::new();
    for (at, value) in points {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, nor an hour"
        )]
        let second = (at - begun).clamp(0.0, 3600.0).round() as usize;
        if values.len() <= second {
            values.resize(second + 1, f64::NAN);
        }
        values[second] = *value;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_value_gets_the_highest_bar_and_gaps_stay_gaps() {
        assert_eq!(line(&[0.0, 1.0, 2.0, f64::NAN, 4.0]), "▁▃▅ █");
        assert_eq!(line(&[]), "");
        assert_eq!(line(&[0.0, -1.0, f64::INFINITY]), "▁▁ ");
    }

    #[test]
    fn each_point_is_placed_at_its_second() {
        let points = [(102.0, 1.0), (103.1, 2.0), (105.0, 3.0), (1e9, 4.0)];
        let values = per_second(&points, 100.0);
        assert!(values[0].is_nan() && values[1].is_nan() && values[4].is_nan());
        assert_eq!((values[2], values[3], values[5]), (1.0, 2.0, 3.0));
        assert_eq!((values.len(), values[3600]), (3601, 4.0));
        assert_eq!(per_second(&[], 100.0).len(), 0);
    }
}
