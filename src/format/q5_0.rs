//! Q5_0: blocks of 32, an f16 scale `d` and five-bit integers `q`; a value is `d * (q - 16)`.
//!
//! As many bytes on the device as in a file. The fifth bits lie apart from the nibbles: by rows among the scales, by columns behind
//! the nibbles of 32 channels. Both keep the nibbles of 32 elements one aligned load.

use super::quants::{Block, BlockFormat, around, fives, half_bits, put_fives, put_half};

pub(super) static Q5_0: BlockFormat = BlockFormat {
    name: "Q5_0",
    bytes: 22,
    bits: 4,
    high: 1,
    scale_bits: 16,
    most: 16.0,
    open,
    value: |q, d, _| d * (f32::from(q) - 16.0),
    close,
    decoders: [
        include_str!("../../shaders/common/rows_q5_0.wgsl"),
        include_str!("../../shaders/common/columns_q5_0.wgsl"),
    ],
};

fn open(block: &[u8]) -> Block {
    Block { quants: fives(&block[2..]), scale: half_bits(block, 0).into() }
}

fn close(values: &[f32], out: &mut Vec<u8>) {
    let (scale, quants) = around(values, 16.0);
    put_half(out, scale);
    put_fives(out, &quants);
}
