//! Q8_0: blocks of 32, an f16 scale `d` and signed bytes `q`; a value is `d * q`.

use super::quants::{BLOCK, Block, Packer, half_bits, half_value, inverse, largest, put_half};
use super::{Format, Layout, Planes, first_bad};

const BYTES: usize = 34;
const PACKER: Packer = Packer { bits: 8, high: 0, scale_bits: 16 };

pub(super) struct Q8_0;

fn blocks(bytes: &[u8]) -> impl Fn(usize) -> Block + '_ {
    move |index| {
        let block = &bytes[index * BYTES..][..BYTES];
        Block { quants: std::array::from_fn(|i| block[2 + i]), scale: half_bits(block, 0).into() }
    }
}

impl Format for Q8_0 {
    fn name(&self) -> &'static str {
        "Q8_0"
    }

    fn block(&self) -> (usize, usize) {
        (BLOCK, BYTES)
    }

    fn dequantise(&self, bytes: &[u8], out: &mut Vec<f32>) {
        for block in bytes.chunks_exact(BYTES) {
            let d = half_value(block, 0);
            out.extend(block[2..].iter().map(|&q| d * f32::from(q as i8)));
        }
    }

    fn quantise(&self, values: &[f32], out: &mut Vec<u8>) {
        for values in values.chunks_exact(BLOCK) {
            let scale = largest(values).abs() / 127.0;
            put_half(out, scale);
            // A half way between two goes away from zero.
            out.extend(values.iter().map(|value| (value * inverse(scale)).round() as i8 as u8));
        }
    }

    fn first_not_finite(&self, bytes: &[u8]) -> Option<(usize, f32)> {
        first_bad(bytes.chunks_exact(BYTES).map(|block| half_value(block, 0)), BLOCK)
    }

    fn largest(&self, bytes: &[u8]) -> f32 {
        bytes.chunks_exact(BYTES).map(|block| half_value(block, 0).abs()).fold(0.0, f32::max) * 128.0
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
            Layout::Rows => include_str!("../../shaders/common/rows_q8_0.wgsl"),
            Layout::Columns => include_str!("../../shaders/common/columns_q8_0.wgsl"),
        }
    }
}
