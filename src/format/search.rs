//! Scales that make the squared error of a block least, for the formats where a search pays.
//!
//! A group of elements wishes for a scale (and a minimum): several are tried, the integers that follow from each are fitted by least
//! squares. The block's `d` and `dmin` follow from the largest wishes; integers, sub-scales and minima are then chosen against the
//! values that a reader will compute, and `d` and `dmin` fitted again to what was chosen.

use super::iq4_nl::LEVELS;
use super::quants::{BLOCK, largest};
use super::super_blocks::SUPER;
use half::f16;

/// Below this no f16 scale makes anything but zero.
const NOTHING: f32 = 1.0 / (1 << 27) as f32;

/// Above this no f16 factor reaches; far above it sums of squares would overflow.
const TOO_MUCH: f32 = 1e12;

/// What the integers of a block of 256 may be.
pub(super) struct Ranges {
    /// The integers, as they are multiplied.
    pub quants: [f32; 2],
    /// The scales, as they are multiplied.
    pub scales: [f32; 2],
    /// The largest minimum; 0 where the format has none.
    pub minima: f32,
    /// Shares of a group's range by which scales are tried.
    pub tries: &'static [f32],
}

/// A block of 256, of groups of `256 / G` elements.
pub(super) struct Parts<const G: usize> {
    pub d: f16,
    pub dmin: f16,
    /// Of each group, as it is multiplied.
    pub scales: [f32; G],
    pub minima: [f32; G],
    /// As they are multiplied.
    pub quants: [f32; SUPER],
}

/// The nearest whole number, for magnitudes below 2^22: rounding as every processor does it to several numbers at once.
fn nearest(value: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    value + SHIFT - SHIFT
}

fn whole(value: f32, [low, high]: [f32; 2]) -> f32 {
    nearest(value.max(low).min(high))
}

/// Sums over a group for least squares: of integers, their squares, and their products with values.
#[derive(Default)]
struct Sums {
    q: f32,
    qq: f32,
    qx: f32,
}

fn sums(values: &[f32], offset: f32, by: f32, range: [f32; 2]) -> Sums {
    // Several sums side by side, which is how processors add.
    let mut lanes = [[0.0f32; 8]; 3];
    for values in values.chunks_exact(8) {
        for (lane, &value) in values.iter().enumerate() {
            let q = whole((value + offset) * by, range);
            lanes[0][lane] += q;
            lanes[1][lane] += q * q;
            lanes[2][lane] += q * value;
        }
    }
    let [q, qq, qx] = lanes.map(|lanes| lanes.iter().sum());
    Sums { q, qq, qx }
}

/// The scale that a group around zero wishes.
fn wish_around(values: &[f32], ranges: &Ranges) -> f32 {
    let most = largest(values);
    if most.abs() < NOTHING {
        return 0.0;
    }
    let (mut best, mut scale) = (0.0, 0.0);
    for share in ranges.tries {
        // The integers reach further down than up.
        let by = ranges.quants[0] * share / most;
        let Sums { qq, qx, .. } = sums(values, 0.0, by, ranges.quants);
        // What the error is less than the sum of squares.
        let gain = qx * qx / qq.max(f32::MIN_POSITIVE);
        // Of equals the smaller scale: it leaves finer steps to the groups beside.
        if gain >= best {
            (best, scale) = (gain, qx / qq);
        }
    }
    scale
}

/// The scale and the minimum (what is subtracted) that a group wishes.
fn wish_above(values: &[f32], ranges: &Ranges) -> (f32, f32) {
    let low = values.iter().copied().fold(0.0, f32::min);
    let high = values.iter().copied().fold(0.0, f32::max);
    if high - low < NOTHING {
        return (0.0, if -low < NOTHING { 0.0 } else { -low });
    }
    let count = values.len() as f32;
    let sum: f32 = values.iter().sum();
    let levels = ranges.quants[1];
    let mut best = (f32::NEG_INFINITY, (high - low) / levels, -low);
    let mut look = |offset: f32, by: f32| {
        let Sums { q, qq, qx } = sums(values, offset, by, ranges.quants);
        let spread = count * qq - q * q;
        let (mut scale, mut base) = (0.0, 0.0);
        if spread > 0.0 {
            scale = (count * qx - q * sum) / spread;
            base = (sum - scale * q) / count;
        }
        if base > 0.0 || spread <= 0.0 {
            (scale, base) = (if qq > 0.0 { qx / qq } else { 0.0 }, 0.0);
        }
        let gain = scale * qx + base * sum;
        if gain >= best.0 && scale > 0.0 {
            best = (gain, scale, -base);
        }
        (scale, base)
    };
    for share in ranges.tries {
        let by = levels * share / (high - low);
        let (mut scale, mut base) = look(-low, by);
        // What was fitted rounds otherwise, which can be fitted again.
        for _ in 0..2 {
            if scale > NOTHING {
                (scale, base) = look(-base, 1.0 / scale);
            }
        }
    }
    (best.1, best.2)
}

/// The squared error of a group under a scale and a minimum as a reader multiplies them out.
fn error(values: &[f32], scale: f32, minimum: f32, range: [f32; 2]) -> f32 {
    let by = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut lanes = [0.0f32; 8];
    for values in values.chunks_exact(8) {
        for (lane, &value) in values.iter().enumerate() {
            let q = whole((value + minimum) * by, range);
            let off = value - (scale * q - minimum);
            lanes[lane] += off * off;
        }
    }
    lanes.iter().sum()
}

/// The integers nearest to `wish`, `reach` to both sides.
fn around_wish(wish: f32, d: f32, range: [f32; 2], reach: i32) -> impl Iterator<Item = f32> {
    let middle = if d == 0.0 { 0.0 } else { whole(wish / d, range) };
    (-reach..=reach).map(move |step| middle + step as f32).filter(move |value| (range[0]..=range[1]).contains(value))
}

/// Chooses everything of a block.
pub(super) fn block<const G: usize>(values: &[f32; SUPER], ranges: &Ranges) -> Parts<G> {
    if largest(values).abs() > TOO_MUCH {
        // What a reader refuses, so that nobody takes the block for its values.
        let [scales, minima] = [[0.0; G]; 2];
        return Parts { d: f16::INFINITY, dmin: f16::ZERO, scales, minima, quants: [0.0; SUPER] };
    }
    let groups = || values.chunks_exact(SUPER / G);
    let mut wishes = [(0.0, 0.0); G];
    for (wish, values) in wishes.iter_mut().zip(groups()) {
        *wish = match ranges.minima > 0.0 {
            true => wish_above(values, ranges),
            false => (wish_around(values, ranges), 0.0),
        };
    }
    let scales = wishes.map(|wish| wish.0);
    let minimum = wishes.iter().fold(0.0f32, |most, wish| most.max(wish.1));
    let dmin = if ranges.minima > 0.0 { minimum / ranges.minima } else { 0.0 };
    // The largest scale takes one end or the other: where it is far from the rest, what steps they have decides.
    let most = largest(&scales);
    let mut best = chosen(groups, &wishes, ranges, [most / ranges.scales[1], dmin]);
    if ranges.scales[0] < 0.0 {
        let other = chosen(groups, &wishes, ranges, [most / ranges.scales[0], dmin]);
        if other.0 < best.0 {
            best = other;
        }
    }
    for _ in 0..2 {
        let fitted = fitted(groups, &best.1, ranges);
        let next = chosen(groups, &wishes, ranges, fitted);
        if next.0 >= best.0 {
            break;
        }
        best = next;
    }
    let mut parts = best.1;
    let (d, dmin) = (parts.d.to_f32(), parts.dmin.to_f32());
    for (group, (quants, values)) in parts.quants.chunks_exact_mut(SUPER / G).zip(groups()).enumerate() {
        integers(values, d * parts.scales[group], dmin * parts.minima[group], ranges.quants, quants);
    }
    parts
}

fn integers(values: &[f32], scale: f32, minimum: f32, range: [f32; 2], quants: &mut [f32]) {
    let by = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    for (quant, value) in quants.iter_mut().zip(values) {
        *quant = whole((value + minimum) * by, range);
    }
}

/// Sub-scales and minima under given factors, with the error that they leave.
fn chosen<'v, const G: usize, V: Iterator<Item = &'v [f32]>>(
    groups: impl Fn() -> V,
    wishes: &[(f32, f32); G],
    ranges: &Ranges,
    factors: [f32; 2],
) -> (f32, Parts<G>) {
    let [d, dmin] = factors.map(f16::from_f32);
    let mut parts = Parts { d, dmin, scales: [0.0; G], minima: [0.0; G], quants: [0.0; SUPER] };
    let (d, dmin) = (d.to_f32(), dmin.to_f32());
    let mut total = 0.0;
    for (group, values) in groups().enumerate() {
        let (scale, minimum) = wishes[group];
        let mut least = f32::INFINITY;
        for m in around_wish(minimum, dmin, [0.0, ranges.minima], i32::from(ranges.minima > 0.0)) {
            for s in around_wish(scale, d, ranges.scales, 1) {
                let error = error(values, d * s, dmin * m, ranges.quants);
                if error < least {
                    least = error;
                    (parts.scales[group], parts.minima[group]) = (s, m);
                }
            }
        }
        total += least;
    }
    (total, parts)
}

/// The factors that fit what was chosen best.
fn fitted<'v, const G: usize, V: Iterator<Item = &'v [f32]>>(
    groups: impl Fn() -> V,
    parts: &Parts<G>,
    ranges: &Ranges,
) -> [f32; 2] {
    let (d, dmin) = (parts.d.to_f32(), parts.dmin.to_f32());
    // x = D a - M b, by least squares in D and M.
    let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
    let mut quants = [0.0; SUPER];
    for (group, values) in groups().enumerate() {
        let (scale, minimum) = (parts.scales[group], parts.minima[group]);
        let quants = &mut quants[..values.len()];
        integers(values, d * scale, dmin * minimum, ranges.quants, quants);
        let (mut q, mut qq, mut qx, mut x) = (0.0f32, 0.0f32, 0.0f32, 0.0f32);
        for (quant, value) in quants.iter().zip(values) {
            (q, qq, qx, x) = (q + quant, qq + quant * quant, qx + quant * value, x + value);
        }
        let (scale, minimum) = (f64::from(scale), f64::from(minimum));
        aa += scale * scale * f64::from(qq);
        ab += scale * minimum * f64::from(q);
        bb += minimum * minimum * values.len() as f64;
        ax += scale * f64::from(qx);
        bx += minimum * f64::from(x);
    }
    let determinant = aa * bb - ab * ab;
    let solved = match determinant > 1e-9 * aa * bb {
        true => [(ax * bb - ab * bx) / determinant, (ab * ax - aa * bx) / determinant],
        false if aa > 0.0 => [(ax + ab * f64::from(dmin)) / aa, f64::from(dmin)],
        false => [f64::from(d), f64::from(dmin)],
    };
    // A minimum is subtracted, never added.
    match solved[1] >= 0.0 {
        true => solved.map(|factor| factor as f32),
        false => [d, dmin],
    }
}

/// A scale and the indices of [`LEVELS`] for a block of 32.
pub(super) fn levels(values: &[f32]) -> (f32, [u8; BLOCK]) {
    let most = largest(values);
    if most.abs() < NOTHING {
        return (0.0, [8; BLOCK]);
    }
    if most.abs() > TOO_MUCH {
        return (f32::INFINITY, [8; BLOCK]);
    }
    let mut best = (0.0, 0.0);
    // The largest comes to one end or the other, or somewhat inside or outside.
    for step in 0..14 {
        let end = [-127.0, 113.0][step % 2] * (0.85 + 0.05 * (step / 2) as f32);
        let (gain, scale) = fitted_levels(values, &at_levels(values, end / most));
        if gain > best.0 {
            best = (gain, scale);
        }
    }
    let scale = f16::from_f32(best.1).to_f32();
    let by = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let index = |level: f32| LEVELS.iter().position(|&other| f32::from(other) == level).unwrap_or(8) as u8;
    (scale, at_levels(values, by).map(index))
}

/// The levels that are nearest to values times `by`.
fn at_levels(values: &[f32], by: f32) -> [f32; BLOCK] {
    let scaled: [f32; BLOCK] = std::array::from_fn(|i| values[i] * by);
    let mut found = [f32::from(LEVELS[0]); BLOCK];
    // A level more for every midpoint that lies below.
    for pair in LEVELS.windows(2) {
        let [low, high] = [pair[0], pair[1]].map(f32::from);
        let (middle, step) = ((low + high) / 2.0, high - low);
        found.iter_mut().zip(&scaled).for_each(|(level, &value)| *level += if value > middle { step } else { 0.0 });
    }
    found
}

/// What the squared error of a scale that fits best is less than the sum of squares, and that scale.
fn fitted_levels(values: &[f32], levels: &[f32; BLOCK]) -> (f32, f32) {
    let pairs = || levels.iter().zip(values);
    let qq: f32 = pairs().map(|(q, _)| q * q).sum();
    let qx: f32 = pairs().map(|(q, x)| q * x).sum();
    (qx * qx / qq, qx / qq)
}
