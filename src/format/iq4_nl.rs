//! IQ4_NL: blocks of 32, an f16 scale `d` and nibbles `q`; a value is `d * level[q]`. Laid out as Q4_0.

use super::quants::{BLOCK, Block, Packer, half_bits, half_value, nibbles, put_half, put_nibbles};
use super::{Format, Layout, Planes, first_bad, search};

const BYTES: usize = 18;
const PACKER: Packer = Packer { bits: 4, high: 0, scale_bits: 16 };

/// What nibbles stand for: levels that lie closer around zero, after GGML.
pub(crate) const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

pub(super) struct Iq4Nl;

fn blocks(bytes: &[u8]) -> impl Fn(usize) -> Block + '_ {
    move |index| {
        let block = &bytes[index * BYTES..][..BYTES];
        Block { quants: nibbles(&block[2..]), scale: half_bits(block, 0).into() }
    }
}

impl Format for Iq4Nl {
    fn name(&self) -> &'static str {
        "IQ4_NL"
    }

    fn block(&self) -> (usize, usize) {
        (BLOCK, BYTES)
    }

    fn dequantise(&self, bytes: &[u8], out: &mut Vec<f32>) {
        for block in bytes.chunks_exact(BYTES) {
            let d = half_value(block, 0);
            out.extend(nibbles(&block[2..]).iter().map(|&q| d * f32::from(LEVELS[usize::from(q)])));
        }
    }

    fn quantise(&self, values: &[f32], out: &mut Vec<u8>) {
        for values in values.chunks_exact(BLOCK) {
            let (scale, quants) = search::levels(values);
            put_half(out, scale);
            put_nibbles(out, &quants);
        }
    }

    fn first_not_finite(&self, bytes: &[u8]) -> Option<(usize, f32)> {
        first_bad(bytes.chunks_exact(BYTES).map(|block| half_value(block, 0)), BLOCK)
    }

    fn largest(&self, bytes: &[u8]) -> f32 {
        let bounds = bytes.chunks_exact(BYTES).map(|block| half_value(block, 0).abs() * 127.0);
        bounds.fold(0.0, f32::max)
    }

    fn pack_rows(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        PACKER.rows(blocks(bytes), rows, cols)
    }

    fn pack_columns(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        PACKER.columns(blocks(bytes), rows, cols)
    }

    fn plane_words(&self, layout: Layout, rows: usize, cols: usize) -> [usize; 2] {
        PACKER.plane_words(layout, rows, cols)
    }

    fn decoder(&self, layout: Layout) -> &'static str {
        match layout {
            Layout::Rows => include_str!("../../shaders/common/rows_iq4_nl.wgsl"),
            Layout::Columns => include_str!("../../shaders/common/columns_iq4_nl.wgsl"),
        }
    }
}
