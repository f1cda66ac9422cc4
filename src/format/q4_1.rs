//! Q4_1: blocks of 32, an f16 scale `d`, an f16 minimum `m` and nibbles `q`; a value is `d * q + m`.

use super::quants::{BLOCK, Block, Packer, above, half_pair, half_value, nibbles, put_half, put_nibbles};
use super::{Format, Layout, Planes, first_bad};

const BYTES: usize = 20;
const PACKER: Packer = Packer { bits: 4, high: 0, scale_bits: 32 };

pub(super) struct Q4_1;

fn blocks(bytes: &[u8]) -> impl Fn(usize) -> Block + '_ {
    move |index| {
        let block = &bytes[index * BYTES..][..BYTES];
        Block { quants: nibbles(&block[4..]), scale: half_pair(block, 0) }
    }
}

impl Format for Q4_1 {
    fn name(&self) -> &'static str {
        "Q4_1"
    }

    fn block(&self) -> (usize, usize) {
        (BLOCK, BYTES)
    }

    fn dequantise(&self, bytes: &[u8], out: &mut Vec<f32>) {
        for block in bytes.chunks_exact(BYTES) {
            let (d, m) = (half_value(block, 0), half_value(block, 2));
            out.extend(nibbles(&block[4..]).iter().map(|&q| d * f32::from(q) + m));
        }
    }

    fn quantise(&self, values: &[f32], out: &mut Vec<u8>) {
        for values in values.chunks_exact(BLOCK) {
            let (scale, least, quants) = above(values, 15.0);
            put_half(out, scale);
            put_half(out, least);
            put_nibbles(out, &quants);
        }
    }

    fn first_not_finite(&self, bytes: &[u8]) -> Option<(usize, f32)> {
        first_bad(bytes.chunks_exact(BYTES).map(|block| half_value(block, 0) + half_value(block, 2)), BLOCK)
    }

    fn largest(&self, bytes: &[u8]) -> f32 {
        let bounds =
            bytes.chunks_exact(BYTES).map(|block| half_value(block, 0).abs() * 15.0 + half_value(block, 2).abs());
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
            Layout::Rows => include_str!("../../shaders/common/rows_q4_1.wgsl"),
            Layout::Columns => include_str!("../../shaders/common/columns_q4_1.wgsl"),
        }
    }
}
