//! Q4_0: blocks of 32, an f16 scale `d` and nibbles `q`; a value is `d * (q - 8)`.

use super::quants::{Block, BlockFormat, around, half_bits, nibbles, put_half, put_nibbles};

pub(super) static Q4_0: BlockFormat = BlockFormat {
    name: "Q4_0",
    bytes: 18,
    bits: 4,
    high: 0,
    scale_bits: 16,
    most: 8.0,
    open,
    value: |q, d, _| d * (f32::from(q) - 8.0),
    close,
    decoders: [
        include_str!("../../shaders/common/rows_q4_0.wgsl"),
        include_str!("../../shaders/common/columns_q4_0.wgsl"),
    ],
};

fn open(block: &[u8]) -> Block {
    Block { quants: nibbles(&block[2..]), scale: half_bits(block, 0).into() }
}

fn close(values: &[f32], out: &mut Vec<u8>) {
    let (scale, quants) = around(values, 8.0);
    put_half(out, scale);
    put_nibbles(out, &quants);
}
