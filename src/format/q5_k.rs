//! Q5_K: blocks of 256, f16 `d` and `dmin`, for every 32 a scale `s` and a minimum `m` of six bits, five-bit integers `q`; a value
//! is `d * s * q - dmin * m`.
//!
//! As many bytes on the device as in a file; scales as Q4_K's, fifth bits behind the nibbles of a block (of 32 channels by columns).

use super::quants::half_pair;
use super::search::{self, Parts, Ranges};
use super::super_blocks::{SuperBlock, SuperFormat, put_scales_and_minima, scales_and_minima, sixes};

pub(super) static Q5_K: SuperFormat = SuperFormat {
    name: "Q5_K",
    bytes: 176,
    d_at: 0,
    bits: [4, 1],
    fields: 2,
    field_bits: [4, 2],
    d_bits: 32,
    most: [1953.0, 63.0],
    sub: 32,
    middle: 0.0,
    open,
    scales: |block, group| [0, 1].map(|field| f32::from(block.fields[field][group])),
    close: |values, out| put(&search::block::<8>(values, &RANGES), out),
    row_scales: sixes,
    row_scale_words: |blocks| 4 * blocks,
    decoders: [
        include_str!("../../shaders/common/rows_q5_k.wgsl"),
        include_str!("../../shaders/common/columns_q5_k.wgsl"),
    ],
};

fn open(block: &[u8]) -> SuperBlock {
    let [scales, minima] = scales_and_minima(&block[4..16]);
    let (fifth, quants) = block[16..].split_at(32);
    let low = |i: usize| quants[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
    SuperBlock {
        quants: std::array::from_fn(|i| low(i) | (fifth[i % 32] >> (i / 32) & 1) << 4),
        fields: [scales, minima, [0; 8], [0; 8]],
        d: half_pair(block, 0),
    }
}

const RANGES: Ranges = Ranges {
    quants: [0.0, 31.0],
    scales: [0.0, 63.0],
    minima: 63.0,
    tries: &[0.88, 0.91, 0.94, 0.97, 1.0, 1.03, 1.06, 1.09],
};

/// The block of bytes that [`open`] reads.
fn put(parts: &Parts<8>, out: &mut Vec<u8>) {
    out.extend([parts.d, parts.dmin].iter().flat_map(|factor| factor.to_le_bytes()));
    put_scales_and_minima(out, [&parts.scales, &parts.minima]);
    let q = parts.quants.map(|quant| quant as u8);
    out.extend((0..32).map(|i| (0..8).fold(0, |byte, part| byte | q[part * 32 + i] >> 4 << part)));
    out.extend((0..128).map(|i| q[i / 32 * 64 + i % 32] & 15 | q[i / 32 * 64 + 32 + i % 32] << 4));
}
