//! Axes: from values to pixels, and the numbers that stand beside them.

/// Fewest numbers on an axis, where they can be had.
const FEWEST: usize = 4;
/// Most numbers on an axis.
const MOST: usize = 8;

/// One axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// Pixels of `low` and `high`.
    pixels: (f64, f64),
}

impl Scale {
    /// An axis over all `values` and some room; logarithmic where asked for and all of them are positive. `pixels` are
    /// those of its low and its high end.
    pub fn over(values: &[f64], log: bool, pixels: (f64, f64)) -> Scale {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !(low.is_finite() && high.is_finite()) {
            return Scale { low: 0.0, high: 1.0, log: false, pixels };
        }
        if log && low > 0.0 {
            let room = (high / low).powf(0.07).max(1.02);
            return Scale { low: low / room, high: high * room, log, pixels };
        }
        let room = (0.07 * (high - low)).max(0.01 * high.abs()).max(1e-9);
        Scale { low: low - room, high: high + room, log: false, pixels }
    }

    /// An axis from exactly one value to another.
    pub fn between(low: f64, high: f64, pixels: (f64, f64)) -> Scale {
        Scale { low, high, log: false, pixels }
    }

    /// Whether it is logarithmic.
    pub fn is_log(&self) -> bool {
        self.log
    }

    /// The pixel of a value.
    pub fn at(&self, value: f64) -> f64 {
        let (low, high, value) =
            if self.log { (self.low.ln(), self.high.ln(), value.ln()) } else { (self.low, self.high, value) };
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Round values on it, some four to eight.
    pub fn ticks(&self) -> Vec<f64> {
        if !self.log {
            return self.even();
        }
        for mantissas in [&[1.0][..], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]] {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let all = decades.flat_map(|decade| mantissas.iter().map(move |m| m * 10f64.powi(decade)));
            let found: Vec<f64> = all.filter(|tick| (self.low..=self.high).contains(tick)).collect();
            if found.len() >= FEWEST {
                let every = found.len().div_ceil(MOST);
                return found.into_iter().step_by(every).collect();
            }
        }
        self.even()
    }

    /// Multiples of 1, 2 or 5 times a power of ten.
    fn even(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / FEWEST as f64;
        if !(rough.is_finite() && rough > 0.0) {
            return Vec::new();
        }
        let power = 10f64.powf(rough.log10().floor());
        // The largest step that leaves enough.
        let step = [5.0, 2.0, 1.0].iter().map(|m| m * power).find(|step| *step <= rough).unwrap_or(power);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|multiple| multiple as f64 * step).collect()
    }
}

/// A number beside an axis: no digits that say nothing.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 || (size > 0.0 && size < 1e-4) {
        return format!("{value:.0e}");
    }
    let digits = if size >= 100.0 { 0 } else { 4 };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    let value = 100.0 * share;
    if value.abs() >= 1e6 {
        return format!("{value:.0e} %");
    }
    let text = format!("{value:.1}");
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

/// Moves positions apart, each as little as needed, so that neighbours are `gap` or more apart and all lie between `low` and
/// `high`; in the order given. Where there is no room they stand closer.
pub fn apart(wished: &[f64], gap: f64, (low, high): (f64, f64)) -> Vec<f64> {
    let gap = gap.min((high - low) / wished.len().saturating_sub(1).max(1) as f64);
    let mut order: Vec<usize> = (0..wished.len()).collect();
    order.sort_by(|&a, &b| wished[a].total_cmp(&wished[b]));
    let mut placed = wished.to_vec();
    let mut least = low;
    for &index in &order {
        placed[index] = placed[index].max(least);
        least = placed[index] + gap;
    }
    let mut most = high;
    for &index in order.iter().rev() {
        placed[index] = placed[index].min(most);
        most = placed[index] - gap;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        let perplexity = Scale::over(&[44.0, 150.0], true, (400.0, 50.0));
        // 7 % of the range on either side: 40.4 to 163.
        assert_eq!(perplexity.ticks(), [50.0, 60.0, 70.0, 80.0, 90.0, 100.0, 150.0]);
        assert_eq!(
            Scale::over(&[6.0, 5000.0], true, (0.0, 1.0)).ticks(),
            [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]
                .iter()
                .copied()
                .step_by(2)
                .collect::<Vec<_>>()
        );
        let share = Scale::between(0.0, 0.42, (0.0, 1.0)).ticks();
        assert_eq!(share.len(), 5);
        assert!((share[4] - 0.4).abs() < 1e-12);
        for (low, high) in [(0.1, 0.1), (3.0, 3.1), (1e-3, 1e9), (0.5, 0.7)] {
            for log in [false, true] {
                let ticks = Scale::over(&[low, high], log, (0.0, 1.0)).ticks();
                assert!((2..=10).contains(&ticks.len()), "{low} to {high}: {ticks:?}");
            }
        }
    }

    #[test]
    fn pixels_follow_the_scale() {
        let log = Scale { low: 10.0, high: 1000.0, log: true, pixels: (300.0, 100.0) };
        assert!((log.at(100.0) - 200.0).abs() < 1e-9);
        assert!((Scale::between(0.0, 4.0, (0.0, 100.0)).at(1.0) - 25.0).abs() < 1e-9);
        assert_eq!(Scale::over(&[f64::NAN.max(f64::INFINITY)], true, (0.0, 1.0)).ticks().len(), 6, "0 to 1 by 0.2");
    }

    #[test]
    fn numbers_say_no_more_than_they_know() {
        let all = [0.0, 0.2, 1.5, 44.0, 150.0, 2e6].map(number);
        assert_eq!(all, ["0", "0.2", "1.5", "44", "150", "2e6"]);
        assert_eq!([percent(0.845), percent(1.0), percent(2e16)], ["84.5 %", "100 %", "2e18 %"]);
    }

    #[test]
    fn labels_move_apart_within_their_bounds() {
        assert_eq!(apart(&[50.0, 20.0], 10.0, (0.0, 100.0)), [50.0, 20.0]);
        assert_eq!(apart(&[50.0, 51.0, 49.0], 10.0, (0.0, 100.0)), [59.0, 69.0, 49.0]);
        assert_eq!(apart(&[99.0, 98.0], 10.0, (0.0, 100.0)), [100.0, 90.0]);
        let tight = apart(&[5.0; 5], 10.0, (0.0, 20.0));
        assert!(tight.iter().all(|y| (0.0..=20.0).contains(y)), "{tight:?}");
    }
}
