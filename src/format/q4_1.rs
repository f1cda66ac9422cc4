//! Q4_1: blocks of 32, an f16 scale `d`, an f16 minimum `m` and nibbles `q`; a value is `d * q + m`.

use super::quants::{Block, BlockFormat, above, half_pair, nibbles, put_half, put_nibbles};

pub(super) static Q4_1: BlockFormat = BlockFormat {
    name: "Q4_1",
    bytes: 20,
    bits: 4,
    high: 0,
    scale_bits: 32,
    most: 15.0,
    open,
    value: |q, d, m| d * f32::from(q) + m,
    close,
    decoders: [
        include_str!("../../shaders/common/rows_q4_1.wgsl"),
        include_str!("../../shaders/common/columns_q4_1.wgsl"),
    ],
};

fn open(block: &[u8]) -> Block {
    Block { quants: nibbles(&block[4..]), scale: half_pair(block, 0) }
}

fn close(values: &[f32], out: &mut Vec<u8>) {
    let (scale, least, quants) = above(values, 15.0);
    put_half(out, scale);
    put_half(out, least);
    put_nibbles(out, &quants);
}
