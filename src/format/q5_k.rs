//! Q5_K: blocks of 256, f16 `d` and `dmin`, for every 32 a scale `s` and a minimum `m` of six bits, five-bit integers `q`; a value
//! is `d * s * q - dmin * m`.
//!
//! As many bytes on the device as in a file; scales as Q4_K's, fifth bits behind the nibbles of a block (of 32 channels by columns).

use super::quants::{BLOCK, half_pair, half_value};
use super::search::{self, Parts, Ranges};
use super::super_blocks::{SUPER, SuperBlock, SuperPacker, put_scales_and_minima, scales_and_minima, sixes};
use super::{Format, Layout, Planes, first_bad};

const PACKER: SuperPacker = SuperPacker {
    bytes: 176,
    bits: [4, 1],
    fields: 2,
    field_bits: [4, 2],
    d_bits: 32,
    open,
    row_scales: sixes,
    row_scale_words: |blocks| 4 * blocks,
};

pub(super) struct Q5K;

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
fn close(parts: &Parts<8>, out: &mut Vec<u8>) {
    out.extend([parts.d, parts.dmin].iter().flat_map(|factor| factor.to_le_bytes()));
    put_scales_and_minima(out, [&parts.scales, &parts.minima]);
    let q = parts.quants.map(|quant| quant as u8);
    out.extend((0..32).map(|i| (0..8).fold(0, |byte, part| byte | q[part * 32 + i] >> 4 << part)));
    out.extend((0..128).map(|i| q[i / 32 * 64 + i % 32] & 15 | q[i / 32 * 64 + 32 + i % 32] << 4));
}

impl Format for Q5K {
    fn name(&self) -> &'static str {
        "Q5_K"
    }

    fn block(&self) -> (usize, usize) {
        (SUPER, PACKER.bytes)
    }

    fn dequantise(&self, bytes: &[u8], out: &mut Vec<f32>) {
        for bytes in bytes.chunks_exact(PACKER.bytes) {
            let SuperBlock { quants, fields, .. } = open(bytes);
            let (d, dmin) = (half_value(bytes, 0), half_value(bytes, 2));
            for (group, quants) in quants.chunks_exact(BLOCK).enumerate() {
                let (scale, minimum) = (d * f32::from(fields[0][group]), dmin * f32::from(fields[1][group]));
                out.extend(quants.iter().map(|&q| scale * f32::from(q) - minimum));
            }
        }
    }

    fn quantise(&self, values: &[f32], out: &mut Vec<u8>) {
        for values in values.as_chunks::<SUPER>().0 {
            close(&search::block::<8>(values, &RANGES), out);
        }
    }

    fn first_not_finite(&self, bytes: &[u8]) -> Option<(usize, f32)> {
        first_bad(bytes.chunks_exact(PACKER.bytes).map(|block| half_value(block, 0) + half_value(block, 2)), SUPER)
    }

    fn largest(&self, bytes: &[u8]) -> f32 {
        let bounds = bytes
            .chunks_exact(PACKER.bytes)
            .map(|block| half_value(block, 0).abs() * 1953.0 + half_value(block, 2).abs() * 63.0);
        bounds.fold(0.0, f32::max)
    }

    fn pack_rows(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        PACKER.rows(bytes, rows, cols)
    }

    fn pack_columns(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        PACKER.columns(bytes, rows, cols)
    }

    fn plane_words(&self, layout: Layout, rows: usize, cols: usize) -> [usize; 2] {
        PACKER.plane_words(layout, rows, cols)
    }

    fn decoder(&self, layout: Layout) -> &'static str {
        match layout {
            Layout::Rows => include_str!("../../shaders/common/rows_q5_k.wgsl"),
            Layout::Columns => include_str!("../../shaders/common/columns_q5_k.wgsl"),
        }
    }
}
