//! Weights without a file: planes of hashed bits that decode to small finite values, of about the spread that a trained
//! matrix has. Speed does not depend on values; shapes, formats and sizes are what is real about them.

use super::{lanes, lanes_variant, wide_grid};
use crate::error::Result;
use crate::format::{COLUMN_BLOCK, IQ4_NL_LEVELS, Layout, Weight, WeightFormat, lies_in_blocks};
use crate::gpu::{Buffer, Gpu, Recorder};
use half::f16;

super::kernel! {
    /// The op.
    random_weights [Write] {
        words: u32, row: u32, seed: u32, period: u32, head: u32, mask: u32, pattern: u32, rest_mask: u32, rest_pattern: u32,
    }
}

/// Which bits of a plane's words are drawn, and what the others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits {
    /// Drawn.
    pub mask: u32,
    /// Set beside them.
    pub pattern: u32,
}

/// What the words of a plane are: periods that all begin with the same number of words of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// Words of a period, at least one.
    pub period: u32,
    /// How many of them come first.
    pub head: u32,
    /// What those are.
    pub first: Bits,
    /// What the others are.
    pub rest: Bits,
}

impl From<Bits> for Words {
    fn from(bits: Bits) -> Words {
        Words { period: 1, head: 1, first: bits, rest: bits }
    }
}

/// The words of the two planes (quants or floats, and scales) of a weight of `rows` outputs, which lie beside one another, and `cols`
/// inputs.
///
/// Values have a mean of about zero and a standard deviation of about `1 / sqrt(cols)`, so that a normed state keeps its
/// size through a matmul. Floats have a random sign and mantissa below one exponent: sizes within an octave. Integers are
/// uniform, under one scale; where they are not symmetric around zero, the signs of scales are random, or the minimum is
/// minus half their range. Sub-scales of K-quants are all the same.
pub fn words(format: WeightFormat, layout: Layout, (rows, cols): (usize, usize)) -> [Words; 2] {
    let deviation = 1.0 / (cols as f64).sqrt();
    let bits = |mask, pattern| Bits { mask, pattern };
    // The root of the mean square of numbers between 1 and 2.
    let exponent = (deviation / (7.0f64 / 3.0).sqrt()).log2().round() as i32;
    let twice = |half: u32| half | half << 16;
    // Of integers with a deviation of so much.
    let scale = |spread: f64| f16::from_f64(deviation / spread);
    // The deviation of `levels` integers, one apart.
    let uniform = |levels: f64| ((levels * levels - 1.0) / 12.0).sqrt();
    let signed = |scale: f16| bits(0x8000_8000, twice(scale.to_bits().into()));
    // A scale of integers from 0 on and what makes their mean zero, which is added or subtracted.
    let centred = |levels: f64, sub: f64, sign: f64| {
        let scale = scale(uniform(levels) * sub);
        let minimum = f16::from_f64(sign * (levels - 1.0) / 2.0 * scale.to_f64());
        bits(0, u32::from(scale.to_bits()) | u32::from(minimum.to_bits()) << 16)
    };
    let (none, all) = (bits(0, 0), bits(u32::MAX, 0));
    let drawn = |scales: Words| [all.into(), scales];
    let by_rows = layout == Layout::Rows;
    let (blocks, supers) = ((rows / COLUMN_BLOCK) as u32, (cols / 256) as u32);
    // Of a block of 256, by columns of 256 inputs: words of sub-scales, then of d. Sub-scales of six bits are 21.
    let after = |by_row: [u32; 2], by_column: [u32; 2], pattern: u32, d: Bits| {
        let [head, d_words] = if by_rows { by_row } else { by_column.map(|words| words * blocks) };
        drawn(Words { period: (head + d_words).max(1), head, first: bits(0, pattern), rest: d })
    };
    match format {
        WeightFormat::F32 => [bits(0x807f_ffff, ((exponent + 127) as u32) << 23), none].map(Words::from),
        WeightFormat::F16 => [bits(0x83ff_83ff, twice(((exponent + 15) as u32) << 10)), none].map(Words::from),
        WeightFormat::Bf16 => [bits(0x807f_807f, twice(((exponent + 127) as u32) << 7)), none].map(Words::from),
        WeightFormat::Q8_0 => drawn(signed(scale(uniform(256.0))).into()),
        WeightFormat::Q4_0 => drawn(signed(scale(uniform(16.0))).into()),
        WeightFormat::Q4_1 => drawn(centred(16.0, 1.0, -1.0).into()),
        // By rows two words of fifth bits follow one or two of scales.
        WeightFormat::Q5_0 | WeightFormat::Q5_1 => {
            let (first, head) = match format {
                WeightFormat::Q5_0 => (signed(scale(uniform(32.0))), 1),
                _ => (centred(32.0, 1.0, -1.0), 2),
            };
            drawn(if by_rows { Words { period: head + 2, head, first, rest: all } } else { first.into() })
        }
        WeightFormat::Iq4Nl => {
            let square: f64 = IQ4_NL_LEVELS.iter().map(|&level| f64::from(level).powi(2)).sum();
            drawn(signed(scale((square / IQ4_NL_LEVELS.len() as f64).sqrt())).into())
        }
        WeightFormat::Q2K => after([4, 1], [128, 32], 0x5555_5555, centred(4.0, 5.0, 1.0)),
        WeightFormat::Q3K => after([3, 1], [96, 16], 0x5555_5555, signed(scale(11.0 * uniform(8.0)))),
        WeightFormat::Q4K => after([3, 1], [96, 32], 0x5555_5555, centred(16.0, 21.0, 1.0)),
        WeightFormat::Q5K => after([3, 1], [96, 32], 0x5555_5555, centred(32.0, 21.0, 1.0)),
        WeightFormat::Q6K => {
            after([4 * supers, supers.div_ceil(2)], [128, 16], 0x1010_1010, signed(scale(16.0 * uniform(64.0))))
        }
    }
}

/// What no magnitude of such a weight exceeds: four deviations. Floats lie within an octave, integers are uniform, and the widest of
/// IQ4_NL's levels is two deviations.
pub fn largest(cols: usize) -> f32 {
    4.0 / (cols as f32).sqrt()
}

/// Records the filling of the first `count` words of a plane.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(rec: &mut Recorder<'_>, plane: &Buffer, count: usize, seed: u32, words: Words) -> Result<()> {
    let tier = rec.gpu().tier();
    let (grid, row) = wide_grid(count.div_ceil(lanes(tier) as usize));
    let Words { period, head, first, rest } = words;
    let params = Params {
        words: count as u32,
        row,
        seed,
        period,
        head,
        mask: first.mask,
        pattern: first.pattern,
        rest_mask: rest.mask,
        rest_pattern: rest.pattern,
    };
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[plane], grid)
}

fn hash(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// The naive CPU twin.
pub fn twin(count: usize, seed: u32, words: Words) -> Vec<u32> {
    let bits = |i: u32| if i % words.period < words.head { words.first } else { words.rest };
    (0..count as u32).map(|i| hash(i.wrapping_add(hash(seed))) & bits(i).mask | bits(i).pattern).collect()
}

impl Weight {
    /// Makes random weights on the device, cut as [`Weight::upload`] cuts a tensor's. Every shard draws from `seed` on.
    ///
    /// # Errors
    /// Those of [`Weight::filled`] and of [`Recorder::dispatch`].
    pub fn random(
        gpu: &Gpu,
        name: &str,
        (format, layout): (WeightFormat, Layout),
        (rows, cols): (usize, usize),
        rows_per_shard: usize,
        seed: u32,
    ) -> Result<Weight> {
        Weight::filled(
            gpu,
            name,
            (format, layout),
            (rows, cols),
            (rows_per_shard, largest(cols)),
            |index, rows, planes| {
                let rows = if lies_in_blocks(gpu.tier(), layout) { COLUMN_BLOCK } else { rows };
                let mut rec = gpu.record();
                for ((plane, words), place) in planes.into_iter().zip(words(format, layout, (rows, cols))).zip(0..) {
                    record(&mut rec, plane, plane.bytes() as usize / 4, seed.wrapping_add(2 * index + place), words)?;
                }
                rec.submit()
            },
        )
    }
}
