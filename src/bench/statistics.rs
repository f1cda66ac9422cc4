//! Medians, spreads, and ratios of pairs.

use serde::Serialize;

/// What some rounds gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle value; of an even number the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of some values; `None` of none.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        };
        Some(Spread { median, min, max })
    }

    /// Of what `of` makes of the values of each round. What both saw of the machine's changing speed cancels; medians taken
    /// apart would keep it. `None` of no round.
    pub fn paired(ours: &[f64], theirs: &[f64], of: impl Fn(f64, f64) -> f64) -> Option<Spread> {
        Spread::of(&ours.iter().zip(theirs).map(|(&ours, &theirs)| of(ours, theirs)).collect::<Vec<f64>>())
    }

    /// Of the ratios `ours / theirs` by round.
    pub fn ratio(ours: &[f64], theirs: &[f64]) -> Option<Spread> {
        Spread::paired(ours, theirs, |ours, theirs| ours / theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_spread_around_it() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(&[7.0]), Some(Spread { median: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_are_those_of_each_round() {
        // A machine that slows down by half in the last round: every pair says 2, medians apart would not.
        let (ours, theirs) = ([20.0, 18.0, 10.0], [10.0, 9.0, 5.0]);
        assert_eq!(Spread::ratio(&ours, &theirs), Some(Spread { median: 2.0, min: 2.0, max: 2.0 }));
        let mixed = Spread::ratio(&[1.0, 6.0, 2.0], &[1.0, 2.0, 4.0]);
        assert_eq!(mixed, Some(Spread { median: 1.0, min: 0.5, max: 3.0 }));
        assert_eq!(Spread::ratio(&[], &[1.0]), None);
        let lost = Spread::paired(&[3.0, 5.0], &[1.0, 2.0], |ours, theirs| ours - theirs);
        assert_eq!(lost, Some(Spread { median: 2.5, min: 2.0, max: 3.0 }));
    }
}
