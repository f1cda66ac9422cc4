//! What kernels only fetch from (`#fetch`): storage buffers, but textures on software adapters.
//!
//! Why textures: llvmpipe loads from storage in a loop over the lanes, which puts every value into a vector by way of memory and
//! waits for it each time. A texel comes with one load a lane and a transposition, which makes matmuls four times as fast.

use super::buffer::{Contents, NEXT_ID, Raw};
use super::shader::TEXELS;
use super::{Buffer, Gpu, Recorder, Tier};
use crate::error::{Error, Result};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Bytes of the largest such texture with four words to a texel, where a texture may be `side` wide and high.
pub(super) fn largest(side: u32) -> u64 {
    u64::from(TEXELS.min(side)) * u64::from(side) * 16
}

/// A part of a buffer that goes into a texture, from the start of a row of it on.
pub(super) struct Copy {
    from: wgpu::Buffer,
    offset: u64,
    texels: u32,
    texel_bytes: u32,
    to: wgpu::Texture,
    row: u32,
}

/// What textures stand in for at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// Activations.
    Activations,
    /// Keys.
    Keys,
    /// Values.
    Values,
    /// A list of kept units.
    Kept,
    /// Where units went that were chosen among.
    Places,
}

/// Parts of a buffer, counted in texels of four words.
#[derive(Debug, Clone, Copy)]
pub struct Stretches {
    /// Where the first begins.
    pub first: u64,
    /// How many there are.
    pub count: u32,
    /// Texels of each.
    pub texels: u32,
    /// From the start of one to the start of the next, a multiple of `unit`.
    pub apart: u32,
    /// Where they come to lie they are a multiple of this apart.
    pub unit: u32,
}

impl Stretches {
    /// A single one.
    pub fn one(first: u64, texels: u32) -> Stretches {
        Stretches { first, count: 1, texels, apart: texels, unit: 1 }
    }

    /// Bytes of the texture that holds them.
    pub fn bytes(self) -> u64 {
        self.placed().bytes()
    }

    /// How they come to lie in a texture.
    fn placed(self) -> Placed {
        if self.count == 1 || self.texels == self.apart {
            // They lie one behind the other, and may go on doing so.
            let texels = (self.count - 1) * self.apart + self.texels;
            return Placed { count: 1, texels, apart: self.apart, rows: texels.div_ceil(TEXELS) };
        }
        let apart = self.texels.next_multiple_of(common_multiple(self.unit, TEXELS));
        Placed { count: self.count, texels: self.texels, apart, rows: apart / TEXELS }
    }
}

/// Stretches in a texture.
struct Placed {
    /// How many are copied.
    count: u32,
    /// Texels of each.
    texels: u32,
    /// From the start of one of the [`Stretches`] to the start of the next.
    apart: u32,
    /// Rows of texels that each of the copied takes.
    rows: u32,
}

impl Placed {
    fn bytes(&self) -> u64 {
        u64::from(self.count) * u64::from(self.rows) * u64::from(TEXELS) * 16
    }
}

fn common_multiple(a: u32, b: u32) -> u32 {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    a / divisor * b
}

/// The whole rows of so many texels and what is left of another row, each as its first row, its width and its height.
fn parts(texels: u32) -> impl Iterator<Item = (u32, u32, u32)> {
    let (rows, rest) = (texels / TEXELS, texels % TEXELS);
    [(0, TEXELS, rows), (rows, rest, 1)].into_iter().filter(|&(_, width, height)| width > 0 && height > 0)
}

fn place(texture: &wgpu::Texture, row: u32) -> wgpu::TexelCopyTextureInfo<'_> {
    let origin = wgpu::Origin3d { x: 0, y: row, z: 0 };
    wgpu::TexelCopyTextureInfo { origin, ..texture.as_image_copy() }
}

fn extent(width: u32, height: u32) -> wgpu::Extent3d {
    wgpu::Extent3d { width, height, depth_or_array_layers: 1 }
}

/// Rows of texels that lie one behind the other from a byte on.
fn layout(texel_bytes: u32, offset: u64, first_row: u32) -> wgpu::TexelCopyBufferLayout {
    let row_bytes = TEXELS * texel_bytes;
    let offset = offset + u64::from(first_row) * u64::from(row_bytes);
    wgpu::TexelCopyBufferLayout { offset, bytes_per_row: Some(row_bytes), rows_per_image: None }
}

impl Copy {
    pub(super) fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        // One copy of whole rows in place of two where the buffer goes on for as long.
        let whole = self.texels.next_multiple_of(TEXELS);
        let is_long = self.offset + u64::from(whole * self.texel_bytes) <= self.from.size();
        for (row, width, height) in parts(if self.texels > TEXELS && is_long { whole } else { self.texels }) {
            let layout = layout(self.texel_bytes, self.offset, row);
            let from = wgpu::TexelCopyBufferInfo { buffer: &self.from, layout };
            encoder.copy_buffer_to_texture(from, place(&self.to, self.row + row), extent(width, height));
        }
    }
}

impl Gpu {
    /// Words to fetch from, 1, 2 or 4 to an `element`.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn fetched(&self, label: &str, words: &[u32], element: u32) -> Result<Buffer> {
        if self.tier == Tier::Gpu {
            return self.buffer(label, Contents::Bytes(bytemuck::cast_slice(words)));
        }
        let made = self.texture(label, words.len() as u64, element)?;
        if let Raw::Texture { texture, .. } = &made.raw {
            let bytes: &[u8] = bytemuck::cast_slice(words);
            for (row, width, height) in parts(words.len() as u32 / element) {
                let layout = layout(4 * element, 0, row);
                self.queue.write_texture(place(texture, row), bytes, layout, extent(width, height));
            }
            // Nothing else may be submitted for long, and what is written waits in memory till then.
            self.queue.submit([]);
        }
        Ok(made)
    }

    /// The words of a buffer, to fetch from: the buffer itself where kernels fetch from storage.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn into_fetched(&self, label: &str, buffer: Buffer, element: u32) -> Result<Buffer> {
        if self.tier == Tier::Gpu {
            return Ok(buffer);
        }
        let words = buffer.bytes() / 4;
        let made = self.texture(label, words, element)?;
        if let Raw::Texture { texture, .. } = &made.raw {
            let (from, to, texels) = (buffer.storage()?.clone(), texture.clone(), words as u32 / element);
            let mut encoder =
                self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("fetched") });
            Copy { from, offset: 0, texels, texel_bytes: 4 * element, to, row: 0 }.encode(&mut encoder);
            self.queue.submit([encoder.finish()]);
        }
        self.check()?;
        Ok(made)
    }

    /// A texture for so many words.
    fn texture(&self, label: &str, words: u64, element: u32) -> Result<Buffer> {
        let bytes = (words * 4).max(16).next_multiple_of(16);
        let texels = (words / u64::from(element)).max(1);
        let rows = texels.div_ceil(TEXELS.into());
        let limit = self.device.limits().max_texture_dimension_2d;
        if rows > limit.into() {
            return Err(Error::DeviceLimit {
                what: format!("the texture `{label}`"),
                needed: rows,
                available: limit.into(),
                limit: "max_texture_dimension_2d",
                adapter: self.info.name.clone(),
            });
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let texture = self.device.create_texture(&wgpu::TextureDescriptor {
            label: Some(label),
            size: extent(TEXELS.min(texels as u32), rows as u32),
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: match element {
                1 => wgpu::TextureFormat::R32Uint,
                2 => wgpu::TextureFormat::Rg32Uint,
                _ => wgpu::TextureFormat::Rgba32Uint,
            },
            usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        });
        let (what, allocated, adapter) = (label.to_string(), self.allocated(), self.info.name.clone());
        self.expect_none(scope, move |_| Error::OutOfMemory { what, bytes, allocated, adapter })?;
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        self.ledger.allocated.fetch_add(bytes, Ordering::Relaxed);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Buffer { raw: Raw::Texture { texture, view }, id, bytes, ledger: self.ledger.clone() })
    }
}

impl Recorder<'_> {
    /// What dispatches are to fetch from in place of parts of `buffer`, and how many texels apart the parts lie in it: a copy that is
    /// made when it is the next dispatch's turn, and holds until the next of its kind. `None` where kernels fetch from storage.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn fetch(&mut self, kind: Fetched, buffer: &Buffer, parts: Stretches) -> Result<Option<(Arc<Buffer>, u32)>> {
        let gpu = self.gpu();
        if gpu.tier == Tier::Gpu {
            return Ok(None);
        }
        let placed = parts.placed();
        let mut slots = gpu.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[kind as usize];
        let texture = match slot.as_ref().filter(|texture| texture.bytes() >= placed.bytes()) {
            Some(texture) => texture.clone(),
            None => slot.insert(Arc::new(gpu.texture("fetched", placed.bytes() / 4, 4)?)).clone(),
        };
        if let Raw::Texture { texture: to, .. } = &texture.raw {
            for index in 0..placed.count {
                let (from, to) = (buffer.storage()?.clone(), to.clone());
                let offset = (parts.first + u64::from(index) * u64::from(parts.apart)) * 16;
                self.before_next(Copy {
                    from,
                    offset,
                    texels: placed.texels,
                    texel_bytes: 16,
                    to,
                    row: index * placed.rows,
                });
            }
        }
        Ok(Some((texture, placed.apart)))
    }
}
