//! Q4_K: blocks of 256, f16 `d` and `dmin`, for every 32 a scale `s` and a minimum `m` of six bits, nibbles `q`; a value is
//! `d * s * q - dmin * m`.
//!
//! As many bytes on the device as in a file. Six-bit fields are cut into nibbles and pairs of bits, so that shaders unpack several at
//! once with one shift, where the file's order needs a branch.

use super::quants::half_pair;
use super::search::{self, Parts, Ranges};
use super::super_blocks::{SuperBlock, SuperFormat, put_scales_and_minima, scales_and_minima, sixes};

pub(super) static Q4_K: SuperFormat = SuperFormat {
    name: "Q4_K",
    bytes: 144,
    d_at: 0,
    bits: [4, 0],
    fields: 2,
    field_bits: [4, 2],
    d_bits: 32,
    most: [945.0, 63.0],
    sub: 32,
    middle: 0.0,
    open,
    scales: |block, group| [0, 1].map(|field| f32::from(block.fields[field][group])),
    close: |values, out| put(&search::block::<8>(values, &RANGES), out),
    row_scales: sixes,
    row_scale_words: |blocks| 4 * blocks,
    decoders: [
        include_str!("../../shaders/common/rows_q4_k.wgsl"),
        include_str!("../../shaders/common/columns_q4_k.wgsl"),
    ],
};

fn open(block: &[u8]) -> SuperBlock {
    let [scales, minima] = scales_and_minima(&block[4..16]);
    let quants = &block[16..];
    SuperBlock {
        quants: std::array::from_fn(|i| quants[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15),
        fields: [scales, minima, [0; 8], [0; 8]],
        d: half_pair(block, 0),
    }
}

const RANGES: Ranges = Ranges {
    quants: [0.0, 15.0],
    scales: [0.0, 63.0],
    minima: 63.0,
    tries: &[0.88, 0.91, 0.94, 0.97, 1.0, 1.03, 1.06, 1.09],
};

/// The block of bytes that [`open`] reads.
fn put(parts: &Parts<8>, out: &mut Vec<u8>) {
    out.extend([parts.d, parts.dmin].iter().flat_map(|factor| factor.to_le_bytes()));
    put_scales_and_minima(out, [&parts.scales, &parts.minima]);
    let q = parts.quants.map(|quant| quant as u8);
    out.extend((0..128).map(|i| q[i / 32 * 64 + i % 32] | q[i / 32 * 64 + 32 + i % 32] << 4));
}
