//! Q5_1: blocks of 32, an f16 scale `d`, an f16 minimum `m` and five-bit integers `q`; a value is `d * q + m`.
//!
//! Laid out as Q5_0, in as many bytes as in a file; by rows the scales, minima and fifth bits of two blocks are one aligned load.

use super::quants::{Block, BlockFormat, above, fives, half_pair, put_fives, put_half};

pub(super) static Q5_1: BlockFormat = BlockFormat {
    name: "Q5_1",
    bytes: 24,
    bits: 4,
    high: 1,
    scale_bits: 32,
    most: 31.0,
    open,
    value: |q, d, m| d * f32::from(q) + m,
    close,
    decoders: [
        include_str!("../../shaders/common/rows_q5_1.wgsl"),
        include_str!("../../shaders/common/columns_q5_1.wgsl"),
    ],
};

fn open(block: &[u8]) -> Block {
    Block { quants: fives(&block[4..]), scale: half_pair(block, 0) }
}

fn close(values: &[f32], out: &mut Vec<u8>) {
    let (scale, least, quants) = above(values, 31.0);
    put_half(out, scale);
    put_half(out, least);
    put_fives(out, &quants);
}
