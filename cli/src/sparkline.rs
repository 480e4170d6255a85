//! A series as one line of blocks, with a mark under an instant.

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A series drawn in at most `width` characters.
#[derive(Debug, PartialEq)]
pub struct Sparkline {
    /// The blocks; a space where nothing was measured.
    pub blocks: String,
    /// Character index of the mark. `None` where the instant is outside the series.
    pub mark: Option<usize>,
    /// Smallest value drawn.
    pub low: f64,
    /// Largest value drawn.
    pub high: f64,
}

/// Draws `values` at `unix_ms`, equal stretches of time side by side, the largest value of each.
///
/// The scale begins at 0, so that a small wobble does not look like a cliff. `None` where no value is finite.
pub fn draw(unix_ms: &[i64], values: &[f64], mark_unix_ms: i64, width: usize) -> Option<Sparkline> {
    let points = || unix_ms.iter().copied().zip(values.iter().copied());
    let finite = || points().filter(|(_, value)| value.is_finite());
    let (first, last) = (unix_ms.first().copied()?, unix_ms.last().copied()?);
    let low = finite().map(|(_, value)| value).reduce(f64::min)?;
    let high = finite().map(|(_, value)| value).reduce(f64::max)?;
    let width = width.min(unix_ms.len()).max(1);
    let span = i128::from(last.max(first)) - i128::from(first) + 1;
    let place = |at: i64| usize::try_from((i128::from(at) - i128::from(first)) * width as i128 / span).ok().filter(|&i| i < width);
    let mut tallest: Vec<Option<f64>> = vec![None; width];
    for (at, value) in finite() {
        if let Some(i) = place(at) {
            tallest[i] = Some(tallest[i].map_or(value, |other| other.max(value)));
        }
    }
    let floor = low.min(0.0);
    let level = |value: f64| {
        let share = if high > floor { (value - floor) / (high - floor) } else { 0.0 };
        LEVELS[((share * 7.0).round() as usize).min(7)]
    };
    let blocks = tallest.into_iter().map(|value| value.map_or(' ', level)).collect();
    Some(Sparkline { blocks, mark: place(mark_unix_ms).filter(|_| mark_unix_ms >= first), low, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_looks_like_a_step() {
        let line = draw(&[0, 10, 20, 30], &[0.0, 1.0, 100.0, 50.0], 20, 40).unwrap();

        assert_eq!(line, Sparkline { blocks: "▁▁█▅".into(), mark: Some(2), low: 0.0, high: 100.0 });
    }

    #[test]
    fn a_peak_survives_narrowing() {
        let times: Vec<i64> = (0..1000).map(|i| i * 1000).collect();
        let values: Vec<f64> = (0..1000).map(|i| if i == 500 { 9.0 } else { 0.0 }).collect();

        let line = draw(&times, &values, 500_000, 10).unwrap();

        assert_eq!(line.blocks, "▁▁▁▁▁█▁▁▁▁");
        assert_eq!(line.mark, Some(5));
    }

    #[test]
    fn absence_is_a_gap() {
        assert_eq!(
            draw(&[0, 1, 2], &[1.0, f64::NAN, 1.0], 5, 9).unwrap(),
            Sparkline { blocks: "█ █".into(), mark: None, low: 1.0, high: 1.0 }
        );
        assert_eq!(draw(&[0, 1], &[f64::NAN, f64::INFINITY], 0, 9), None);
        assert_eq!(draw(&[], &[], 0, 9), None);
    }

    #[test]
    fn instants_at_the_ends_of_time_do_not_overflow() {
        assert_eq!(draw(&[i64::MIN, i64::MAX], &[1.0, 2.0], 0, 9).unwrap().blocks.chars().count(), 2);
    }
}
