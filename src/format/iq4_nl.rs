//! IQ4_NL: blocks of 32, an f16 scale `d` and nibbles `q`; a value is `d * level[q]`. Laid out as Q4_0.

use super::quants::{Block, BlockFormat, half_bits, nibbles, put_half, put_nibbles};
use super::search;

pub(super) static IQ4_NL: BlockFormat = BlockFormat {
    name: "IQ4_NL",
    bytes: 18,
    bits: 4,
    high: 0,
    scale_bits: 16,
    most: 127.0,
    open,
    value: |q, d, _| d * f32::from(LEVELS[usize::from(q)]),
    close,
    decoders: [
        include_str!("../../shaders/common/rows_iq4_nl.wgsl"),
        include_str!("../../shaders/common/columns_iq4_nl.wgsl"),
    ],
};

/// What nibbles stand for: levels that lie closer around zero, after GGML.
pub(crate) const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn open(block: &[u8]) -> Block {
    Block { quants: nibbles(&block[2..]), scale: half_bits(block, 0).into() }
}

fn close(values: &[f32], out: &mut Vec<u8>) {
    let (scale, quants) = search::levels(values);
    put_half(out, scale);
    put_nibbles(out, &quants);
}
