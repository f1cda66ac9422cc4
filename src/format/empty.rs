//! Weights of a shape that are given their values on the device.

use super::weight::{block_elements, check_shard};
use super::{Layout, Shard, Weight, WeightFormat};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Contents, Gpu, element_words};

impl WeightFormat {
    /// Bytes of `rows` outputs of `cols` inputs on the device.
    pub fn bytes(self, layout: Layout, rows: usize, cols: usize) -> u64 {
        self.plane_bytes(layout, rows, cols).iter().sum()
    }
}

impl Weight {
    /// Makes planes for `rows` outputs of `cols` inputs, in shards of at most `rows_per_shard` outputs: `fill` gets the index and the
    /// outputs of every shard, and its planes, zeros yet. No value may exceed `largest` in magnitude.
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] when not even one output fits a binding, [`Error::Internal`] for columns that are no whole
    /// blocks, and those of [`Gpu::buffer`] and of `fill`.
    pub fn filled<F>(
        gpu: &Gpu,
        name: &str,
        (format, layout): (WeightFormat, Layout),
        (rows, cols): (usize, usize),
        (rows_per_shard, largest): (usize, f32),
        mut fill: F,
    ) -> Result<Weight>
    where
        F: FnMut(u32, usize, [&Buffer; 2]) -> Result<()>,
    {
        if !cols.is_multiple_of(format.block().0) {
            return Err(Error::Internal(format!("`{name}`: {cols} columns of {}", format.name())));
        }
        check_shard(gpu, name, (format, layout), cols, rows_per_shard)?;
        let elements = element_words(format.decoder(layout));
        let block = block_elements(gpu, format, layout, cols);
        let mut shards = Vec::new();
        for (index, first) in (0..).zip((0..rows).step_by(rows_per_shard)) {
            let count = rows_per_shard.min(rows - first);
            let [quants, scales] = format.plane_bytes(layout, count, cols);
            let planes = [gpu.buffer(name, Contents::Zeroed(quants))?, gpu.buffer(name, Contents::Zeroed(scales))?];
            fill(index, count, [&planes[0], &planes[1]])?;
            let [quants, scales] = planes;
            shards.push(Shard {
                format,
                first_row: first as u32,
                rows: count as u32,
                quants: gpu.into_fetched(name, quants, elements[0])?,
                scales: gpu.into_fetched(name, scales, elements[1])?,
                block,
                largest,
            });
        }
        Ok(Weight { layout, rows, cols, shards })
    }
}
