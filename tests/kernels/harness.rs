//! What every sweep uses: random values, buffers with poison around them, bounds of rounding, the one comparison.

use secateur::gpu::{Buffer, Gpu, Recorder};
use std::fmt::Debug;
use std::sync::Arc;

/// How shaders are compiled and what is asked of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As the application does: no checks at run time, the adapter's limits.
    Trusted,
    /// As a browser does: all checks, WebGPU's default limits. Sweeps are thinner.
    Browser,
}

/// A device with the manner in which it runs.
pub struct Device {
    pub gpu: Arc<Gpu>,
    pub manner: Manner,
    /// Whether matmuls of many tokens run on matrix units.
    pub matrix: bool,
}

/// What buffers hold, and what marks the parts of them that nobody may read, or write.
pub trait Element: bytemuck::Pod + Into<f64> + Debug {
    /// Must not be read: it would show in any result.
    const POISON: Self;
    /// Must not be written.
    const UNTOUCHED: Self;
}

impl Element for f32 {
    const POISON: f32 = f32::NAN;
    const UNTOUCHED: f32 = 12345.0;
}

impl Element for u32 {
    const POISON: u32 = 0x7fff_ffff;
    const UNTOUCHED: u32 = 0xdead_beef;
}

/// Elements beyond an input's or output's own, to notice an index past the end.
const MARGIN: usize = 64;

impl Device {
    /// Fewer of the cases in a browser's manner, the first and the last among them.
    pub fn thin<T>(&self, cases: Vec<T>) -> Vec<T> {
        let (step, last) = (if self.manner == Manner::Browser { 6 } else { 1 }, cases.len().saturating_sub(1));
        let kept = cases.into_iter().enumerate().filter(|(index, _)| index % step == 0 || *index == last);
        kept.map(|(_, case)| case).collect()
    }

    /// A buffer with `values` from element `before` on and poison around them.
    pub fn input<T: Element>(&self, values: &[T], before: usize) -> Buffer {
        self.surrounded(T::POISON, values, before)
    }

    /// A buffer for `len` results from element `before` on.
    pub fn output<T: Element>(&self, len: usize, before: usize) -> Buffer {
        self.surrounded(T::UNTOUCHED, &vec![T::UNTOUCHED; len], before)
    }

    /// A buffer with values to be changed, from element `before` on.
    pub fn in_out<T: Element>(&self, values: &[T], before: usize) -> Buffer {
        self.surrounded(T::UNTOUCHED, values, before)
    }

    fn surrounded<T: Element>(&self, around: T, values: &[T], before: usize) -> Buffer {
        let mut all = vec![around; before];
        all.extend_from_slice(values);
        all.resize((all.len() + MARGIN).next_multiple_of(4), around);
        self.gpu.upload("test", &all).expect("an upload")
    }

    /// Pairs, such as positions and slots.
    pub fn pairs<T: bytemuck::Pod>(&self, values: &[[T; 2]]) -> Buffer {
        self.gpu.upload("test", values.as_flattened()).expect("an upload")
    }

    /// Records and submits.
    pub fn run(&self, case: &dyn Debug, record: impl FnOnce(&mut Recorder<'_>) -> secateur::Result<()>) {
        let mut recorder = self.gpu.record();
        record(&mut recorder)
            .and_then(|()| recorder.submit())
            .unwrap_or_else(|error| panic!("{case:?} ({:?}, {:?}): {error}", self.gpu.tier(), self.manner));
    }

    /// Fails unless `buffer` holds, from element `before` on, what is expected up to the tolerance of each element, and
    /// is untouched elsewhere.
    pub fn compare<T: Element>(
        &self,
        case: &dyn Debug,
        what: &str,
        (buffer, before): (&Buffer, usize),
        expected: &[T],
        tolerance: impl Fn(usize) -> f64,
    ) {
        let place = format!("{what} of {case:?} ({:?}, {:?})", self.gpu.tier(), self.manner);
        let found: Vec<T> =
            self.gpu.read(buffer, buffer.bytes() as usize / 4).unwrap_or_else(|error| panic!("{place}: {error}"));
        let own = before..before + expected.len();
        let wrong = |&at: &usize| {
            if !own.contains(&at) {
                return found[at].into() != T::UNTOUCHED.into();
            }
            let (a, b): (f64, f64) = (found[at].into(), expected[at - before].into());
            let close = a == b || (a - b).abs() <= tolerance(at - before) || (a.is_nan() && b.is_nan());
            !close
        };
        let mut differing = (0..found.len()).filter(wrong);
        let Some(first) = differing.next() else { return };
        let others = differing.count();
        if own.contains(&first) {
            let index = first - before;
            let (expected, tolerance) = (expected[index], tolerance(index));
            panic!(
                "{place}: element {index} is {:?}, the twin has {expected:?}, the tolerance is {tolerance:e}; \
                 {others} more differ",
                found[first]
            );
        }
        panic!("{place}: wrote {:?} at {first} outside of elements {own:?}; {others} more differ", found[first]);
    }
}

/// The tolerance of ops that only move values.
pub fn exact(_: usize) -> f64 {
    0.0
}

/// Two to the -23: the distance of floats next to 1. A rounding errs by half of it at most, relatively.
pub const EPS: f64 = f32::EPSILON as f64;

/// What squares and quotients may lose when results below the smallest normal number are flushed to zero.
pub const TINY: f64 = f32::MIN_POSITIVE as f64;

/// Times the sum of the magnitudes of `n` products: by how much two 32-bit sums of them may differ. Each of the 2n
/// roundings of products and partial sums is at most EPS / 2 of what that sum bounds; independent ones add up like the
/// root of their count, so one side errs by sqrt(2n) EPS / 2, both by 1.42 sqrt(n) EPS.
pub fn summing(n: usize) -> f64 {
    1.5 * (n as f64).sqrt() * EPS
}

/// WGSL's bound of the relative error of `exp(x)`, and one rounding of its argument.
pub fn exp_error(x: f64) -> f64 {
    (3.0 + 3.0 * x.abs()) * EPS
}

/// WGSL's bound of a square root's relative error: that of 1 / inverseSqrt, 2.5 and 2 units.
pub const ROOT: f64 = 4.5 * EPS;

/// WGSL's bound of a quotient's relative error.
pub const QUOTIENT: f64 = 2.5 * EPS;

/// Splitmix64: the same values on every machine.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number from 0 to `end - 1`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number between -1 and 1.
    pub fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `n` numbers between `-magnitude` and `magnitude`.
    pub fn values(&mut self, n: usize, magnitude: f32) -> Vec<f32> {
        (0..n).map(|_| self.signed() * magnitude).collect()
    }

    /// `n` numbers between 0 and `magnitude`.
    pub fn positive(&mut self, n: usize, magnitude: f32) -> Vec<f32> {
        self.values(n, magnitude).into_iter().map(f32::abs).collect()
    }

    /// Some of the numbers below `end`, at least one, as [`Random::subset`] gives them.
    pub fn some(&mut self, end: usize) -> Vec<u32> {
        let count = 1 + self.below(end);
        self.subset(end, count)
    }

    /// `count` of the numbers below `end`, ascending; the first and the last among them where there is room.
    pub fn subset(&mut self, end: usize, count: usize) -> Vec<u32> {
        let mut rest: Vec<u32> = (1..end.saturating_sub(1) as u32).collect();
        let mut chosen: Vec<u32> = vec![0, end as u32 - 1];
        chosen.dedup();
        if count == 1 {
            chosen = vec![self.below(end) as u32];
        }
        while chosen.len() < count {
            chosen.push(rest.swap_remove(self.below(rest.len())));
        }
        chosen.sort_unstable();
        chosen
    }
}

/// Rows of `width` values as rows of `stride`, the rest of each filled up.
pub fn widen<T: Copy>(values: &[T], width: usize, stride: usize, fill: T) -> Vec<T> {
    let rows = values.chunks_exact(width);
    rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(fill, stride - width))).collect()
}

/// The magnitudes of `values`.
pub fn magnitudes(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| value.abs()).collect()
}
