//! Q6_K: blocks of 256, an f16 `d`, for every 16 a scale `s` of a signed byte, six-bit integers `q`; a value is
//! `d * s * (q - 32)`.
//!
//! As many bytes on the device as in a file, but for half a word by rows of an odd number of blocks. Nibbles lie together, the two
//! bits above them behind them, of a block (of 32 channels by columns).

use super::quants::half_bits;
use super::search::{self, Parts, Ranges};
use super::super_blocks::{SuperBlock, SuperFormat};

pub(super) static Q6_K: SuperFormat = SuperFormat {
    name: "Q6_K",
    bytes: 210,
    d_at: 208,
    bits: [4, 2],
    fields: 2,
    field_bits: [8, 0],
    d_bits: 16,
    most: [4096.0, 0.0],
    sub: 16,
    middle: 32.0,
    open,
    scales: |block, sub| [f32::from(block.fields[sub % 2][sub / 2] as i8), 0.0],
    close: |values, out| put(&search::block::<16>(values, &RANGES), out),
    row_scales,
    row_scale_words: |blocks| 4 * blocks + blocks.div_ceil(2),
    decoders: [
        include_str!("../../shaders/common/rows_q6_k.wgsl"),
        include_str!("../../shaders/common/columns_q6_k.wgsl"),
    ],
};

fn open(block: &[u8]) -> SuperBlock {
    let (quants, high, subs) = (&block[..128], &block[128..192], &block[192..208]);
    let low = |i: usize| quants[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
    let high = |i: usize| high[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    SuperBlock {
        quants: std::array::from_fn(|i| low(i) | high(i) << 4),
        fields: [
            std::array::from_fn(|group| subs[2 * group]),
            std::array::from_fn(|group| subs[2 * group + 1]),
            [0; 8],
            [0; 8],
        ],
        d: half_bits(block, 208).into(),
    }
}

/// Sub-scales as a file has them; behind a row's last the `d` of all its blocks.
fn row_scales(row: &[SuperBlock], words: &mut Vec<u32>) {
    for SuperBlock { fields, .. } in row {
        let [even, odd, ..] = fields;
        words
            .extend((0..4).map(|step| {
                u32::from_le_bytes([even[2 * step], odd[2 * step], even[2 * step + 1], odd[2 * step + 1]])
            }));
    }
    words.extend(row.chunks(2).map(|pair| pair[0].d | pair.get(1).map_or(0, |second| second.d << 16)));
}

const RANGES: Ranges = Ranges {
    quants: [-32.0, 31.0],
    scales: [-128.0, 127.0],
    minima: 0.0,
    tries: &[0.88, 0.91, 0.94, 0.97, 1.0, 1.03, 1.06, 1.09],
};

/// The block of bytes that [`open`] reads.
fn put(parts: &Parts<16>, out: &mut Vec<u8>) {
    let q = parts.quants.map(|quant| (quant + 32.0) as u8);
    out.extend((0..128).map(|i| q[i / 64 * 128 + i % 64] & 15 | q[i / 64 * 128 + 64 + i % 64] << 4));
    let two = |i: usize, part: usize| q[i / 32 * 128 + part * 32 + i % 32] >> 4;
    out.extend((0..64).map(|i| (0..4).fold(0, |byte, part| byte | two(i, part) << (2 * part))));
    out.extend(parts.scales.iter().map(|&scale| scale as i8 as u8));
    out.extend(parts.d.to_le_bytes());
}
