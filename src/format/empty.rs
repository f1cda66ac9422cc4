//! Weights of a shape before they have values.

use super::weight::check_shard;
use super::{Layout, Shard, Weight, WeightFormat};
use crate::error::{Error, Result};
use crate::gpu::{Contents, Gpu};

impl WeightFormat {
    /// Bytes of `rows` outputs of `cols` inputs on the device.
    pub fn bytes(self, layout: Layout, rows: usize, cols: usize) -> u64 {
        self.plane_bytes(layout, rows, cols).iter().sum()
    }
}

impl Weight {
    /// Makes planes of zeros for `rows` outputs of `cols` inputs, in shards of at most `rows_per_shard` outputs. No value that they will
    /// hold may exceed `largest` in magnitude.
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] when not even one output fits a binding, [`Error::Internal`] for columns that are no whole
    /// blocks, and those of [`Gpu::buffer`].
    pub fn empty(
        gpu: &Gpu,
        name: &str,
        (format, layout): (WeightFormat, Layout),
        (rows, cols): (usize, usize),
        rows_per_shard: usize,
        largest: f32,
    ) -> Result<Weight> {
        if !cols.is_multiple_of(format.block().0) {
            return Err(Error::Internal(format!("`{name}`: {cols} columns of {}", format.name())));
        }
        check_shard(gpu, name, (format, layout), cols, rows_per_shard)?;
        let mut shards = Vec::new();
        for first in (0..rows).step_by(rows_per_shard) {
            let count = rows_per_shard.min(rows - first);
            let [quants, scales] = format.plane_bytes(layout, count, cols);
            shards.push(Shard {
                format,
                first_row: first as u32,
                rows: count as u32,
                quants: gpu.buffer(name, Contents::Zeroed(quants))?,
                scales: gpu.buffer(name, Contents::Zeroed(scales))?,
                largest,
            });
        }
        Ok(Weight { layout, rows, cols, shards })
    }
}
