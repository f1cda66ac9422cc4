//! Rows of activations as 16-bit floats, each divided by the power of two that suits its largest value: what matrix units multiply.
//!
//! Why so: a cast alone would turn what is past 65,504 into infinities, which activations in front of down reach in some models. A
//! power of two is exact, and with one for every row nothing overflows. The other way, `x` as the sum of two 16-bit floats, would be
//! nearly exact and cost twice the multiplications; what the cast loses, 2^-11 of a value, is less than weights of 8 bits or fewer
//! have lost already, and what 16-bit inference does everywhere. Doing it once, before the product, halves what every tile of it reads.

use super::{Rows, lanes_variant, wide_grid};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};
use half::f16;
use std::sync::Arc;

super::kernel! {
    /// The op.
    half_rows [Read, Write] { rows: u32, row: u32, columns: u32, first: u32, stride: u32, quads: u32 }
}

/// Values in front of a row's: its exponent, and what keeps rows apart by whole 16 bytes.
pub const HEAD: usize = 8;

/// Values of a row of `columns`, those in front and the zeros behind included.
pub fn width(columns: usize) -> usize {
    HEAD + columns.next_multiple_of(32)
}

/// Records the rows `x [rows][stride]`, of which `columns` values count, as `h [rows]` of [`width`] 16-bit values.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    x: Rows<'_>,
    (columns, stride): (usize, usize),
    h: &Buffer,
    rows: usize,
) -> Result<()> {
    let (grid, row) = wide_grid(rows);
    let params = Params {
        rows: rows as u32,
        row,
        columns: columns as u32,
        first: x.first,
        stride: (stride / 4) as u32,
        quads: (columns.next_multiple_of(32) / 4) as u32,
    };
    let variant = lanes_variant(rec.gpu().tier());
    rec.dispatch(&KERNEL, &variant, &params, &[x.buffer, h], grid)
}

/// The rows of one product, made when the first of its dispatches needs them.
#[derive(Default)]
pub(super) struct Halves(Option<Arc<Buffer>>);

impl Halves {
    /// Those of `x`, as [`record`] has them; they hold until the next product's.
    pub(super) fn of(
        &mut self,
        rec: &mut Recorder<'_>,
        x: Rows<'_>,
        shape: (usize, usize),
        rows: usize,
    ) -> Result<Arc<Buffer>> {
        if let Some(made) = &self.0 {
            return Ok(made.clone());
        }
        let h = rec.gpu().scratch((rows * width(shape.0) * 2) as u64)?;
        record(rec, x, shape, &h, rows)?;
        Ok(self.0.insert(h).clone())
    }
}

/// The exponent of a row.
pub fn exponent(row: &[f32]) -> i32 {
    match row.iter().fold(0, |most, value| most.max(value.to_bits() & 0x7fff_ffff)) >> 23 {
        255 => 0,
        field => (field as i32 - 127 - 14).max(-100),
    }
}

/// The naive CPU twin: two values a word, `x [rows][columns]`.
pub fn twin(x: &[f32], columns: usize) -> Vec<u32> {
    let halves = x.chunks_exact(columns).flat_map(|row| {
        let exponent = exponent(row);
        let factor = 2f32.powi(-exponent);
        let mut half = vec![f16::ZERO; width(columns)];
        half[0] = f16::from_f32(exponent as f32);
        row.iter().zip(&mut half[HEAD..]).for_each(|(value, half)| *half = f16::from_f32(value * factor));
        half
    });
    let halves: Vec<f16> = halves.collect();
    halves.chunks_exact(2).map(|pair| u32::from(pair[0].to_bits()) | u32::from(pair[1].to_bits()) << 16).collect()
}
