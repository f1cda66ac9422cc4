//! F32: plain floats.

use super::{Format, Layout, Planes, first_bad, words};

pub(super) struct F32;

impl Format for F32 {
    fn name(&self) -> &'static str {
        "F32"
    }

    fn block(&self) -> (usize, usize) {
        (1, 4)
    }

    fn dequantise(&self, bytes: &[u8], out: &mut Vec<f32>) {
        out.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    }

    fn quantise(&self, values: &[f32], out: &mut Vec<u8>) {
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    fn first_not_finite(&self, bytes: &[u8]) -> Option<(usize, f32)> {
        first_bad(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])), 1)
    }

    fn largest(&self, bytes: &[u8]) -> f32 {
        f32::from_bits(
            bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) & !(1 << 31)).max().unwrap_or(0),
        )
    }

    fn pack_rows(&self, bytes: &[u8], _rows: usize, _cols: usize) -> Planes {
        Planes { quants: words(bytes), scales: Vec::new() }
    }

    fn pack_columns(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        let source = words(bytes);
        let mut quants = vec![0; rows * cols];
        for (row, values) in source.chunks_exact(cols).enumerate() {
            for (column, &value) in values.iter().enumerate() {
                quants[column * rows + row] = value;
            }
        }
        Planes { quants, scales: Vec::new() }
    }

    fn plane_words(&self, _layout: Layout, rows: usize, cols: usize) -> [usize; 2] {
        [rows * cols, 0]
    }

    fn decoder(&self, layout: Layout) -> &'static str {
        match layout {
            Layout::Rows => include_str!("../../shaders/common/rows_f32.wgsl"),
            Layout::Columns => include_str!("../../shaders/common/columns_f32.wgsl"),
        }
    }
}
