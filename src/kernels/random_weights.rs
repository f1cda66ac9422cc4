//! Weights without a file: planes of hashed bits that decode to small finite values, of about the spread that a trained
//! matrix has. Speed does not depend on values; shapes, formats and sizes are what is real about them.

use super::{lanes, lanes_variant, wide_grid};
use crate::error::Result;
use crate::format::{Layout, Weight, WeightFormat};
use crate::gpu::{Buffer, Gpu, Recorder};
use half::f16;

super::kernel! {
    /// The op.
    random_weights [Write] { words: u32, row: u32, seed: u32, mask: u32, pattern: u32 }
}

/// Which bits of a plane's words are drawn, and what the others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits {
    /// Drawn.
    pub mask: u32,
    /// Set beside them.
    pub pattern: u32,
}

/// The bits of the two planes (quants or floats, and scales) of a weight with `cols` inputs.
///
/// Values have a mean of about zero and a standard deviation of about `1 / sqrt(cols)`, so that a normed state keeps its
/// size through a matmul. Floats have a random sign and mantissa below one exponent: sizes within an octave. Integers are
/// uniform, under one scale; where they are not symmetric around zero, the signs of scales are random, or the minimum is
/// minus half their range.
pub fn bits(format: WeightFormat, cols: usize) -> [Bits; 2] {
    let deviation = 1.0 / (cols as f64).sqrt();
    let bits = |mask, pattern| Bits { mask, pattern };
    // The root of the mean square of numbers between 1 and 2.
    let exponent = (deviation / (7.0f64 / 3.0).sqrt()).log2().round() as i32;
    let twice = |half: u32| half | half << 16;
    // Of `levels` integers, one apart.
    let scale = |levels: f64| f16::from_f64(deviation / ((levels * levels - 1.0) / 12.0).sqrt());
    let signed = |scale: f16| bits(0x8000_8000, twice(scale.to_bits().into()));
    let none = bits(0, 0);
    match format {
        WeightFormat::F32 => [bits(0x807f_ffff, ((exponent + 127) as u32) << 23), none],
        WeightFormat::F16 => [bits(0x83ff_83ff, twice(((exponent + 15) as u32) << 10)), none],
        WeightFormat::Bf16 => [bits(0x807f_807f, twice(((exponent + 127) as u32) << 7)), none],
        WeightFormat::Q8_0 => [bits(u32::MAX, 0), signed(scale(256.0))],
        WeightFormat::Q4_0 => [bits(u32::MAX, 0), signed(scale(16.0))],
        WeightFormat::Q4_1 => {
            let (scale, minimum) = (scale(16.0), f16::from_f64(-7.5 * scale(16.0).to_f64()));
            [bits(u32::MAX, 0), bits(0, u32::from(scale.to_bits()) | u32::from(minimum.to_bits()) << 16)]
        }
    }
}

/// What no magnitude of such a weight exceeds.
pub fn largest(format: WeightFormat, cols: usize) -> f32 {
    let [values, scales] = bits(format, cols).map(|bits| bits.mask | bits.pattern);
    let half = |bits: u32| f16::from_bits(bits as u16 & 0x7fff).to_f32();
    match format {
        WeightFormat::F32 => f32::from_bits(values & 0x7fff_ffff),
        WeightFormat::F16 => half(values),
        WeightFormat::Bf16 => f32::from_bits(values << 16 & 0x7fff_ffff),
        WeightFormat::Q8_0 => 128.0 * half(scales),
        WeightFormat::Q4_0 => 8.0 * half(scales),
        WeightFormat::Q4_1 => 15.0 * half(scales) + half(scales >> 16),
    }
}

/// Records the filling of the first `words` words of a plane.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(rec: &mut Recorder<'_>, plane: &Buffer, words: usize, seed: u32, bits: Bits) -> Result<()> {
    let tier = rec.gpu().tier();
    let (grid, row) = wide_grid(words.div_ceil(lanes(tier) as usize));
    let params = Params { words: words as u32, row, seed, mask: bits.mask, pattern: bits.pattern };
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[plane], grid)
}

fn hash(value: u32) -> u32 {
    let state = value.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// The naive CPU twin.
pub fn twin(words: usize, seed: u32, bits: Bits) -> Vec<u32> {
    (0..words as u32).map(|i| hash(i.wrapping_add(hash(seed))) & bits.mask | bits.pattern).collect()
}

impl Weight {
    /// Makes random weights on the device, cut as [`Weight::upload`] cuts a tensor's. Every shard draws from `seed` on.
    ///
    /// # Errors
    /// Those of [`Weight::empty`] and of [`Recorder::dispatch`].
    pub fn random(
        gpu: &Gpu,
        name: &str,
        (format, layout): (WeightFormat, Layout),
        (rows, cols): (usize, usize),
        rows_per_shard: usize,
        seed: u32,
    ) -> Result<Weight> {
        let weight = Weight::empty(gpu, name, (format, layout), (rows, cols), rows_per_shard, largest(format, cols))?;
        let [quants, scales] = bits(format, cols);
        for (index, shard) in (0..).zip(&weight.shards) {
            let mut rec = gpu.record();
            let seed = seed.wrapping_add(2 * index);
            record(&mut rec, &shard.quants, shard.quants.bytes() as usize / 4, seed, quants)?;
            record(&mut rec, &shard.scales, shard.scales.bytes() as usize / 4, seed.wrapping_add(1), scales)?;
            rec.submit()?;
        }
        Ok(weight)
    }
}
