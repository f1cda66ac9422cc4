//! A weight on the GPU: its planes, cut by outputs into shards that each fit one binding of the device.

use super::{COLUMN_BLOCK, Layout, Planes, WeightFormat};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu, Tier, element_words};

/// Some consecutive outputs of a weight.
pub struct Shard {
    /// How its values are stored.
    pub format: WeightFormat,
    /// Its first output.
    pub first_row: u32,
    /// Its outputs.
    pub rows: u32,
    /// Values or quants.
    pub quants: Buffer,
    /// Scales and minima (16 unused bytes for floats).
    pub scales: Buffer,
    /// Elements of the two planes that 32 outputs take where they lie by themselves, columns on software adapters; 0 elsewhere.
    pub block: [u32; 2],
    /// What no value's magnitude exceeds; looked for where the device has matrix units, 0 elsewhere.
    pub largest: f32,
}

impl Shard {
    /// The power of two by which matrix units have this shard's values divided: their largest comes near 2^14, so that 16 bits hold
    /// all of them and lose nothing to speak of to the smallest.
    pub fn exponent(&self) -> i32 {
        // The exponent field, 0 below the normal numbers.
        ((self.largest.to_bits() >> 23) as i32 - 127 - 14).max(-100)
    }
}

/// A matrix `[rows (outputs), cols (inputs)]` on the GPU.
pub struct Weight {
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

impl<'a> HostTensor<'a> {
    /// The bytes of some rows, if none of their values is NaN or infinite.
    fn check_finite(&self, rows: std::ops::Range<usize>) -> Result<&'a [u8]> {
        let (elements, size) = self.format.block();
        let row_bytes = self.cols / elements * size;
        let part = &self.bytes[rows.start * row_bytes..rows.end * row_bytes];
        match self.format.first_not_finite(part) {
            None => Ok(part),
            Some((index, value)) => {
                let index = rows.start * self.cols + index;
                Err(Error::TensorNotFinite { name: self.name.to_string(), index, value })
            }
        }
    }
}

/// Whether every 32 outputs of a weight lie by themselves, one block's planes behind those of the one before: columns on software adapters.
/// What an invocation reads of its block is a stream then, whichever channels are kept; hardware reads the blocks of neighbours together.
pub(crate) fn lies_in_blocks(tier: Tier, layout: Layout) -> bool {
    (tier, layout) == (Tier::Software, Layout::Columns)
}

/// [`Shard::block`] of a weight of `cols` inputs.
pub(super) fn block_elements(gpu: &Gpu, format: WeightFormat, layout: Layout, cols: usize) -> [u32; 2] {
    if !lies_in_blocks(gpu.tier(), layout) {
        return [0; 2];
    }
    let (bytes, words) = (format.plane_bytes(layout, COLUMN_BLOCK, cols), element_words(format.decoder(layout)));
    std::array::from_fn(|plane| bytes[plane] as u32 / 4 / words[plane])
}

/// The planes of some rows as they lie on devices of a tier.
fn planes(tier: Tier, (format, layout): (WeightFormat, Layout), bytes: &[u8], rows: usize, cols: usize) -> Planes {
    if !lies_in_blocks(tier, layout) {
        return format.pack(layout, bytes, rows, cols);
    }
    let (elements, size) = format.block();
    let mut planes = Planes { quants: Vec::new(), scales: Vec::new() };
    for block in bytes.chunks_exact(COLUMN_BLOCK * (cols / elements * size)) {
        let Planes { quants, scales } = format.pack(layout, block, COLUMN_BLOCK, cols);
        planes.quants.extend(quants);
        planes.scales.extend(scales);
    }
    planes
}

/// Outputs that one shard may hold on `gpu`.
pub fn rows_per_shard(gpu: &Gpu, format: WeightFormat, layout: Layout, cols: usize) -> usize {
    let rows = gpu.max_binding() as usize / format.plane_bytes_per_row(layout, cols).max(1);
    match layout {
        Layout::Rows => rows,
        Layout::Columns => rows / COLUMN_BLOCK * COLUMN_BLOCK,
    }
}

/// Refuses a tensor of which not even one output fits a binding.
pub(super) fn check_shard(
    gpu: &Gpu,
    name: &str,
    (format, layout): (WeightFormat, Layout),
    cols: usize,
    rows_per_shard: usize,
) -> Result<()> {
    if rows_per_shard > 0 {
        return Ok(());
    }
    Err(Error::DeviceLimit {
        what: format!("a row of `{name}`"),
        needed: format.plane_bytes_per_row(layout, cols) as u64,
        available: gpu.max_binding(),
        limit: "max_storage_buffer_binding_size",
        adapter: gpu.info().name.clone(),
    })
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
        check_shard(gpu, name, (format, layout), cols, rows_per_shard)?;
        let [quants, scales] = element_words(format.decoder(layout));
        let block = block_elements(gpu, format, layout, cols);
        let mut shards = Vec::new();
        for first in (0..rows).step_by(rows_per_shard) {
            let count = rows_per_shard.min(rows - first);
            let part = tensor.check_finite(first..first + count)?;
            let planes = planes(gpu.tier(), (format, layout), part, count, cols);
            shards.push(Shard {
                format,
                first_row: first as u32,
                rows: count as u32,
                quants: gpu.fetched(name, &planes.quants, quants)?,
                scales: gpu.fetched(name, &planes.scales, scales)?,
                block,
                largest: if gpu.matrix_units().is_some() { format.largest(part) } else { 0.0 },
            });
        }
        Ok(Weight { layout, rows, cols, shards })
    }

    /// Uploads tensors with the same inputs as one weight, the outputs of each behind those of the one before: neighbours of one
    /// format that fit into a shard together become one.
    ///
    /// # Errors
    /// As [`Weight::upload`].
    pub fn stack(gpu: &Gpu, tensors: &[HostTensor<'_>], layout: Layout) -> Result<Weight> {
        let mut whole =
            Weight { layout, rows: 0, cols: tensors.first().map_or(0, |tensor| tensor.cols), shards: Vec::new() };
        let alike = tensors.windows(2).all(|pair| pair[0].format == pair[1].format);
        let rows: usize = tensors.iter().map(|tensor| tensor.rows).sum();
        let together =
            tensors.first().filter(|first| alike && rows <= rows_per_shard(gpu, first.format, layout, first.cols));
        if let Some(first) = together {
            for tensor in tensors {
                tensor.check_finite(0..tensor.rows)?;
            }
            let bytes = tensors.iter().map(|tensor| tensor.bytes).collect::<Vec<&[u8]>>().concat();
            return Weight::upload(gpu, HostTensor { rows, bytes: &bytes, ..*first }, layout, rows);
        }
        for tensor in tensors {
            let part = Weight::upload(gpu, *tensor, layout, rows_per_shard(gpu, tensor.format, layout, tensor.cols))?;
            let behind = |shard: Shard| Shard { first_row: shard.first_row + whole.rows as u32, ..shard };
            whole.shards.extend(part.shards.into_iter().map(behind));
            whole.rows += part.rows;
        }
        Ok(whole)
    }

    /// Bytes on the device of some of its outputs, as if every output of a shard had the same.
    pub fn bytes_of(&self, outputs: std::ops::Range<usize>) -> f64 {
        let share = |shard: &Shard| {
            let (first, end) = (shard.first_row as usize, (shard.first_row + shard.rows) as usize);
            let inside = outputs.end.min(end).saturating_sub(outputs.start.max(first));
            (shard.quants.bytes() + shard.scales.bytes()) as f64 * inside as f64 / f64::from(shard.rows)
        };
        self.shards.iter().map(share).sum()
    }
}
