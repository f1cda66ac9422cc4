//! Q2_K: blocks of 256, f16 `d` and `dmin`, for every 16 a scale `s` and a minimum `m` of four bits, two-bit integers `q`; a value
//! is `d * s * q - dmin * m`.
//!
//! As many bytes on the device as in a file. Two scales and two minima of 32 elements are more than a row decoder is handed from its
//! scales, so it reads their byte itself; by columns they stay packed until they are used.

use super::quants::half_pair;
use super::search::{self, Parts, Ranges};
use super::super_blocks::{SuperBlock, SuperFormat};

pub(super) static Q2_K: SuperFormat = SuperFormat {
    name: "Q2_K",
    bytes: 84,
    d_at: 80,
    bits: [2, 0],
    fields: 4,
    field_bits: [4, 0],
    d_bits: 32,
    most: [45.0, 15.0],
    sub: 16,
    middle: 0.0,
    open,
    scales: |block, sub| [0, 2].map(|field| f32::from(block.fields[field + sub % 2][sub / 2])),
    close: |values, out| put(&search::block::<16>(values, &RANGES), out),
    row_scales,
    row_scale_words: |blocks| 5 * blocks,
    decoders: [
        include_str!("../../shaders/common/rows_q2_k.wgsl"),
        include_str!("../../shaders/common/columns_q2_k.wgsl"),
    ],
};

fn open(block: &[u8]) -> SuperBlock {
    let (subs, quants) = block[..80].split_at(16);
    let fields = |from: usize, shift: usize| std::array::from_fn(|group| subs[2 * group + from] >> shift & 15);
    SuperBlock {
        quants: std::array::from_fn(|i| quants[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3),
        fields: [fields(0, 0), fields(1, 0), fields(0, 4), fields(1, 4)],
        d: half_pair(block, 80),
    }
}

/// Sub-scales as a file has them, then `d` and `dmin`.
fn row_scales(row: &[SuperBlock], words: &mut Vec<u32>) {
    for SuperBlock { fields, d, .. } in row {
        let byte = |sub: usize| fields[sub % 2][sub / 2] | fields[2 + sub % 2][sub / 2] << 4;
        words.extend((0..4).map(|step| u32::from_le_bytes(std::array::from_fn(|i| byte(4 * step + i)))));
        words.push(*d);
    }
}

const RANGES: Ranges =
    Ranges { quants: [0.0, 3.0], scales: [0.0, 15.0], minima: 15.0, tries: &[0.8, 1.0, 1.1, 1.25, 1.4] };

/// The block of bytes that [`open`] reads.
fn put(parts: &Parts<16>, out: &mut Vec<u8>) {
    out.extend(parts.scales.iter().zip(&parts.minima).map(|(&scale, &minimum)| scale as u8 | (minimum as u8) << 4));
    let q = parts.quants.map(|quant| quant as u8);
    out.extend((0..64).map(|i| (0..4).fold(0, |byte, part| byte | q[i / 32 * 128 + part * 32 + i % 32] << (2 * part))));
    out.extend([parts.d, parts.dmin].iter().flat_map(|factor| factor.to_le_bytes()));
}
