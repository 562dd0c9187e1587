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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_value_is_the_highest_and_gaps_stay_gaps() {
        assert_eq!(line(&[0.0, 1.0, 2.0, f64::NAN, 4.0]), "▁▃▅ █");
        assert_eq!(line(&[]), "");
        assert_eq!(line(&[0.0, -1.0, f64::INFINITY]), "▁▁ ");
    }
}
