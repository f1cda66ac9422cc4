//! Units as bytes, and bytes as pixels: what a heatmap is drawn from.
//!
//! A unit's byte holds its state in the two high bits (kept now, kept then) and the rank of its score within its layer,
//! as a shade, in the six low ones. Rows of dense blocks are `None`.

use super::palette::{Palette, SHADES};
use crate::protocol::{Heat, LayerHeat, UnitHeat};
use eframe::egui::{Color32, ColorImage};
use std::ops::Range;

/// The shade of units whose scores are not known.
const FLAT: u8 = 42;

/// Rows of one kind of unit, one a layer.
pub(super) struct Grid {
    /// Units of a layer.
    pub units: usize,
    /// By layer: a byte a unit; `None` = dense.
    pub rows: Vec<Option<Vec<u8>>>,
}

impl Grid {
    /// The query heads of a choice, beside those of another.
    pub fn heads(heat: &Heat, against: Option<&Heat>) -> Grid {
        Grid::new(heat, against, heat.heads, |layer| layer.heads.as_ref())
    }

    /// The MLP channels of a choice, beside those of another.
    pub fn channels(heat: &Heat, against: Option<&Heat>) -> Grid {
        Grid::new(heat, against, heat.channels, |layer| layer.channels.as_ref())
    }

    fn new(heat: &Heat, against: Option<&Heat>, units: usize, block: fn(&LayerHeat) -> Option<&UnitHeat>) -> Grid {
        let mut ranks = Ranks::default();
        let row = |(layer, now): (usize, &LayerHeat)| {
            let now = block(now);
            let then = against.map(|against| against.layers.get(layer).and_then(block));
            match (now, then) {
                (None, None | Some(None)) => None,
                _ => {
                    let mut row = vec![0; units];
                    ranks.shades(now.map_or(&[], |now| &now.scores), &mut row);
                    match then {
                        None => mark(&mut row, now, 0xc0),
                        Some(then) => {
                            mark(&mut row, now, 0x80);
                            mark(&mut row, then, 0x40);
                        }
                    }
                    Some(row)
                }
            }
        };
        Grid { units, rows: heat.layers.iter().enumerate().map(row).collect() }
    }

    /// Neighbouring layers that are dense.
    pub fn dense_runs(&self) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for layer in (0..self.rows.len()).filter(|&layer| self.rows[layer].is_none()) {
            match runs.last_mut() {
                Some(run) if run.end == layer => run.end += 1,
                _ => runs.push(layer..layer + 1),
            }
        }
        runs
    }

    /// One pixel a bin and a layer; dense layers are transparent.
    pub fn picture(&self, bins: &[(usize, usize)], palette: &Palette) -> ColorImage {
        let mut pixels = Vec::with_capacity(bins.len() * self.rows.len());
        for row in &self.rows {
            match row {
                Some(row) => pixels.extend(bins.iter().map(|&(from, to)| pixel(row, from, to, palette))),
                None => pixels.extend(bins.iter().map(|_| Color32::TRANSPARENT)),
            }
        }
        ColorImage::new([bins.len(), self.rows.len()], pixels)
    }
}

fn pixel(row: &[u8], from: usize, to: usize, palette: &Palette) -> Color32 {
    let units = row.get(from..to.min(row.len())).unwrap_or(&[]);
    if let [unit] = units {
        return palette.unit(usize::from(unit >> 6), usize::from(unit & 63));
    }
    let (mut counts, mut shades) = ([0u32; 4], 0u32);
    // Four counts in one number: adding to an array would wait for the addition before.
    for units in units.chunks(usize::from(u16::MAX)) {
        let packed = units.iter().fold(0u64, |packed, unit| packed + (1 << (16 * (unit >> 6))));
        counts.iter_mut().zip([0, 16, 32, 48]).for_each(|(count, shift)| *count += (packed >> shift) as u32 & 0xffff);
        shades += units.iter().map(|unit| u32::from(unit & 63)).sum::<u32>();
    }
    palette.mixed(counts, (shades / (units.len() as u32).max(1)) as usize)
}

/// Sets `bits` of every unit that is computed: all of them in a dense block.
fn mark(row: &mut [u8], units: Option<&UnitHeat>, bits: u8) {
    match units {
        None => row.iter_mut().for_each(|unit| *unit |= bits),
        Some(units) => {
            for &kept in &units.kept {
                if let Some(unit) = row.get_mut(kept as usize) {
                    *unit |= bits;
                }
            }
        }
    }
}

/// Percentile ranks by counting: scores fall into buckets of equal leading bits, whose order is that of the numbers.
/// Sorting would cost several frames for the largest models.
struct Ranks {
    /// Scores a bucket; zero between calls.
    counts: Box<[u32; 1 << 16]>,
    /// The bucket of every unit.
    buckets: Vec<u16>,
}

impl Default for Ranks {
    fn default() -> Ranks {
        Ranks { counts: Box::new([0; 1 << 16]), buckets: Vec::new() }
    }
}

impl Ranks {
    /// Writes the shade of every unit's rank; flat where scores are missing.
    fn shades(&mut self, scores: &[f32], row: &mut [u8]) {
        if scores.len() != row.len() {
            return row.fill(FLAT);
        }
        self.buckets.clear();
        self.buckets.extend(scores.iter().map(|&score| bucket(score)));
        let (least, most) = self.buckets.iter().fold((u16::MAX, 0), |(l, m), &b| (l.min(b), m.max(b)));
        for &bucket in &self.buckets {
            self.counts[usize::from(bucket)] += 1;
        }
        // A bucket's shade stands for the middle of its scores.
        let scale = SHADES as f32 / (2 * scores.len().max(1)) as f32;
        let mut below = 0;
        let used = usize::from(least)..usize::from(most) + 1;
        for count in self.counts.get_mut(used.clone()).unwrap_or_default() {
            let here = *count;
            *count = (((2 * below + here) as f32 * scale) as u32).min(SHADES as u32 - 1);
            below += here;
        }
        for (unit, &bucket) in row.iter_mut().zip(&self.buckets) {
            *unit = self.counts[usize::from(bucket)] as u8;
        }
        self.counts.get_mut(used).unwrap_or_default().fill(0);
    }
}

/// The leading 16 bits, in an order that is the numbers'.
fn bucket(score: f32) -> u16 {
    let bits = score.to_bits();
    let flip = (bits as i32 >> 31) as u32 | 0x8000_0000;
    ((bits ^ flip) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Method;
    use crate::protocol::Cause;

    fn heat(layers: Vec<LayerHeat>) -> Heat {
        let (cause, method) = (Cause::Prompt, Method::Pp);
        Heat { id: 1, index: 0, cause, at: 5, method, ratio: 0.4, heads: 2, channels: 4, layers }
    }

    fn layer(kept: &[u32], scores: &[f32]) -> LayerHeat {
        let units = UnitHeat { kept: kept.to_vec(), scores: scores.to_vec(), ..UnitHeat::default() };
        LayerHeat { heads: None, channels: Some(units) }
    }

    fn runs(grid: &Grid) -> Vec<(usize, usize)> {
        grid.dense_runs().into_iter().map(|run| (run.start, run.end)).collect()
    }

    fn shades(scores: &[f32]) -> Vec<u8> {
        let mut row = vec![0; scores.len()];
        Ranks::default().shades(scores, &mut row);
        row
    }

    #[test]
    fn a_rank_depends_on_order_alone() {
        assert_eq!(shades(&[0.5, 2000.0, 1e-9, 1.0]), [24, 56, 8, 40]);
        assert_eq!(shades(&[0.0, -1.0, f32::INFINITY, 3.0]), [24, 8, 56, 40]);
        assert_eq!(shades(&[2.0, 2.0]), [32, 32], "equal scores share a rank");
        assert_eq!(shades(&[f32::NAN, 1.0]), [48, 16], "what is no number has a place too");
    }

    #[test]
    fn ranks_of_many_scores_are_within_a_shade_of_sorting() {
        let scores: Vec<f32> = (0..1536u32).map(|i| ((i * 7919 % 1536) as f32 / 100.0).exp2()).collect();
        for (shade, i) in shades(&scores).into_iter().zip(0u32..) {
            let exact = (2 * (i * 7919 % 1536) + 1) as f64 * 64.0 / 3072.0;
            assert!((f64::from(shade) + 0.5 - exact).abs() <= 1.5, "{shade} {exact}");
        }
    }

    #[test]
    fn a_second_use_is_not_coloured_by_the_first() {
        let mut ranks = Ranks::default();
        let (mut first, mut second) = ([0; 3], [0; 2]);
        ranks.shades(&[1.0, 2.0, 3.0], &mut first);
        ranks.shades(&[2.0, 1.0], &mut second);
        assert_eq!(second, [48, 16]);
    }

    #[test]
    fn the_states_are_those_of_both_choices() {
        let now = heat(vec![LayerHeat::default(), layer(&[0, 1, 9], &[]), LayerHeat::default()]);
        let then = heat(vec![LayerHeat::default(), layer(&[1, 2], &[]), layer(&[3], &[])]);
        let grid = Grid::channels(&now, Some(&then));
        let states = |layer: usize| grid.rows[layer].as_ref().map(|row| row.iter().map(|b| b >> 6).collect::<Vec<_>>());
        assert_eq!([states(0), states(1), states(2)], [None, Some(vec![2, 3, 1, 0]), Some(vec![2, 2, 2, 3])]);
        assert_eq!(runs(&grid), [(0, 1)]);
        let alone = Grid::channels(&now, None);
        assert_eq!(alone.rows[1].as_ref().map(|row| row[3] >> 6), Some(0));
        assert_eq!(runs(&Grid::heads(&now, None)), [(0, 3)]);
    }

    #[test]
    fn a_bin_mixes_what_lies_in_it() {
        let palette = Palette::new(true, false);
        let grid = Grid::channels(&heat(vec![layer(&[0, 1], &[]), LayerHeat::default()]), None);
        let picture = grid.picture(&[(0, 2), (1, 3), (3, 4)], &palette);
        let flat = usize::from(FLAT);
        let expected = [palette.unit(3, flat), palette.mixed([1, 0, 0, 1], flat), palette.unit(0, flat)];
        assert_eq!((picture.size, &picture.pixels[..3]), ([3, 2], &expected[..]));
        assert!(picture.pixels[3..].iter().all(|&pixel| pixel == Color32::TRANSPARENT));
    }
}
