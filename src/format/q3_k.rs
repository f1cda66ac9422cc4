//! Q3_K: blocks of 256, an f16 `d`, for every 16 a scale `s` of six bits, three-bit integers `q`; a value is
//! `d * (s - 32) * (q - 4)`.
//!
//! By columns as many bytes as in a file. By rows the scales of a block and its `d` are one aligned load of 16 bytes where the file
//! has 14: 112 bytes for 110. Third bits lie behind the others of a block (of 32 channels by columns).

use super::quants::half_bits;
use super::search::{self, Parts, Ranges};
use super::super_blocks::{SuperBlock, SuperFormat, sixes};

pub(super) static Q3_K: SuperFormat = SuperFormat {
    name: "Q3_K",
    bytes: 110,
    d_at: 108,
    bits: [2, 1],
    fields: 2,
    field_bits: [4, 2],
    d_bits: 16,
    most: [128.0, 0.0],
    sub: 16,
    middle: 4.0,
    open,
    scales: |block, sub| [f32::from(block.fields[sub % 2][sub / 2]) - 32.0, 0.0],
    close: |values, out| put(&search::block::<16>(values, &RANGES), out),
    row_scales: sixes,
    row_scale_words: |blocks| 4 * blocks,
    decoders: [
        include_str!("../../shaders/common/rows_q3_k.wgsl"),
        include_str!("../../shaders/common/columns_q3_k.wgsl"),
    ],
};

fn open(block: &[u8]) -> SuperBlock {
    let (third, quants, subs) = (&block[..32], &block[32..96], &block[96..108]);
    let low = |i: usize| quants[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    let scale = |i: usize| subs[i % 8] >> (i / 8 * 4) & 15 | (subs[8 + i % 4] >> (i / 4 * 2) & 3) << 4;
    SuperBlock {
        quants: std::array::from_fn(|i| low(i) | (third[i % 32] >> (i / 32) & 1) << 2),
        fields: [
            std::array::from_fn(|group| scale(2 * group)),
            std::array::from_fn(|group| scale(2 * group + 1)),
            [0; 8],
            [0; 8],
        ],
        d: half_bits(block, 108).into(),
    }
}

const RANGES: Ranges =
    Ranges { quants: [-4.0, 3.0], scales: [-32.0, 31.0], minima: 0.0, tries: &[0.8, 1.0, 1.1, 1.25, 1.4] };

/// The block of bytes that [`open`] reads.
fn put(parts: &Parts<16>, out: &mut Vec<u8>) {
    let q = parts.quants.map(|quant| (quant + 4.0) as u8);
    let s = parts.scales.map(|scale| (scale + 32.0) as u8);
    out.extend((0..32).map(|i| (0..8).fold(0, |byte, part| byte | (q[part * 32 + i] >> 2) << part)));
    let two = |i: usize, part: usize| q[i / 32 * 128 + part * 32 + i % 32] & 3;
    out.extend((0..64).map(|i| (0..4).fold(0, |byte, part| byte | two(i, part) << (2 * part))));
    out.extend((0..8).map(|i| s[i] & 15 | s[8 + i] << 4));
    out.extend((0..4).map(|i| (0..4).fold(0, |byte, part| byte | s[part * 4 + i] >> 4 << (2 * part))));
    out.extend(parts.d.to_le_bytes());
}
