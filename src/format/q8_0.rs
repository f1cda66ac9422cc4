//! Q8_0: blocks of 32, an f16 scale `d` and signed bytes `q`; a value is `d * q`.

use super::quants::{Block, BlockFormat, half_bits, inverse, largest, put_half};

pub(super) static Q8_0: BlockFormat = BlockFormat {
    name: "Q8_0",
    bytes: 34,
    bits: 8,
    high: 0,
    scale_bits: 16,
    most: 128.0,
    open,
    value: |q, d, _| d * f32::from(q as i8),
    close,
    decoders: [
        include_str!("../../shaders/common/rows_q8_0.wgsl"),
        include_str!("../../shaders/common/columns_q8_0.wgsl"),
    ],
};

fn open(block: &[u8]) -> Block {
    Block { quants: std::array::from_fn(|i| block[2 + i]), scale: half_bits(block, 0).into() }
}

fn close(values: &[f32], out: &mut Vec<u8>) {
    let scale = largest(values).abs() / 127.0;
    put_half(out, scale);
    // A half way between two goes away from zero.
    out.extend(values.iter().map(|value| (value * inverse(scale)).round() as i8 as u8));
}
