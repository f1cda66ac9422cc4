//! A weight on the GPU: its planes, cut by outputs into shards that each fit one binding of the device.

use super::{COLUMN_BLOCK, Layout, WeightFormat};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Contents, Gpu};

/// Some consecutive outputs of a weight.
pub struct Shard {
    /// Its first output.
    pub first_row: u32,
    /// Its outputs.
    pub rows: u32,
    /// Values or quants.
    pub quants: Buffer,
    /// Scales and minima (16 unused bytes for floats).
    pub scales: Buffer,
}

/// A matrix `[rows (outputs), cols (inputs)]` on the GPU.
pub struct Weight {
    /// How its values are stored.
    pub format: WeightFormat,
    /// Which way it lies.
    pub layout: Layout,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Its parts, by ascending first row.
    pub shards: Vec<Shard>,
}

/// A tensor in a file's bytes.
#[derive(Clone, Copy)]
pub struct HostTensor<'a> {
    /// Its name, for errors and labels.
    pub name: &'a str,
    /// Its format.
    pub format: WeightFormat,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// `rows` whole rows in the file's layout.
    pub bytes: &'a [u8],
}

/// Outputs that one shard may hold on `gpu`.
pub fn rows_per_shard(gpu: &Gpu, format: WeightFormat, layout: Layout, cols: usize) -> usize {
    let rows = gpu.max_binding() as usize / format.plane_bytes_per_row(cols).max(1);
    match layout {
        Layout::Rows => rows,
        Layout::Columns => rows / COLUMN_BLOCK * COLUMN_BLOCK,
    }
}

impl Weight {
    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.quants.bytes() + shard.scales.bytes()).sum()
    }

    /// Uploads a tensor in shards of at most `rows_per_shard` outputs; weights that one kernel reads together are cut
    /// alike by passing the smaller of their [`rows_per_shard`].
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] when not even one output fits a binding, [`Error::TensorNotFinite`] for NaN or infinite
    /// values or scales, and those of [`Gpu::buffer`].
    pub fn upload(gpu: &Gpu, tensor: HostTensor<'_>, layout: Layout, rows_per_shard: usize) -> Result<Weight> {
        let HostTensor { name, format, rows, cols, bytes } = tensor;
        let (elements, size) = format.block();
        let row_bytes = cols / elements * size;
        if rows * row_bytes != bytes.len() || !cols.is_multiple_of(elements) {
            let what = format!("`{name}`: {} bytes for [{rows}, {cols}] {}", bytes.len(), format.name());
            return Err(Error::Internal(what));
        }
        if rows_per_shard == 0 {
            return Err(Error::DeviceLimit {
                what: format!("a row of `{name}`"),
                needed: format.plane_bytes_per_row(cols) as u64,
                available: gpu.max_binding(),
                limit: "max_storage_buffer_binding_size",
                adapter: gpu.info().name.clone(),
            });
        }
        let mut shards = Vec::new();
        for first in (0..rows).step_by(rows_per_shard) {
            let count = rows_per_shard.min(rows - first);
            let part = &bytes[first * row_bytes..(first + count) * row_bytes];
            if let Some((index, value)) = format.first_not_finite(part) {
                return Err(Error::TensorNotFinite { name: name.to_string(), index: first * cols + index, value });
            }
            let planes = format.pack(layout, part, count, cols);
            shards.push(Shard {
                first_row: first as u32,
                rows: count as u32,
                quants: gpu.buffer(name, Contents::Bytes(bytemuck::cast_slice(&planes.quants)))?,
                scales: gpu.buffer(name, Contents::Bytes(bytemuck::cast_slice(&planes.scales)))?,
            });
        }
        Ok(Weight { format, layout, rows, cols, shards })
    }
}
