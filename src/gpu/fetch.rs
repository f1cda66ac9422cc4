//! What kernels only fetch from (`#fetch`, `#lookup`): storage buffers, but textures on software adapters.
//!
//! Why textures: llvmpipe loads from storage in a loop over the lanes, which puts every value into a vector by way of memory and
//! waits for it each time. A texel comes with one load a lane and a transposition, which makes matmuls four times as fast. Of a
//! sampled texture the driver looks after the level of detail besides, so inner loops fetch from storage textures.
//!
//! Weights are textures alone. What outlives a pass (keys and values, kept lists, a token's activations) has a mirror, a texture beside its
//! buffer: what changed is copied into it, or the kernel that writes keeps it. Whatever else is fetched is copied in front of
//! the dispatch, which ends a compute pass and costs about as much as a dispatch: nothing for a prompt, much for a token.

use super::buffer::{Contents, NEXT_ID, Raw};
use super::shader::TEXELS;
use super::{Buffer, Gpu, Recorder, Tier};
use crate::error::{Error, Result};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// What every such texture is for; those of four words to a texel are storage textures too.
const FETCHED: wgpu::TextureUsages = wgpu::TextureUsages::TEXTURE_BINDING.union(wgpu::TextureUsages::COPY_DST);

/// Bytes of the largest such texture with four words to a texel, where a texture may be `side` wide and high.
pub(super) fn largest(side: u32) -> u64 {
    u64::from(TEXELS.min(side)) * u64::from(side) * 16
}

/// A part of a buffer that goes into a texture.
pub(super) struct Copy {
    from: wgpu::Buffer,
    offset: u64,
    texels: u32,
    texel_bytes: u32,
    to: wgpu::Texture,
    /// The texel that it begins at.
    first: u32,
}

/// What textures stand in for at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// Activations.
    Activations,
    /// Keys and values.
    Cache,
    /// A list of kept units.
    Kept,
    /// Where units went that were chosen among.
    Places,
}

/// Kinds of what textures stand in for.
pub(super) const KINDS: usize = 4;

/// Parts of a buffer, counted in texels of four words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretches {
    /// Where the first begins.
    pub first: u32,
    /// How many there are.
    pub count: u32,
    /// Texels of each.
    pub texels: u32,
    /// From the start of one to the start of the next.
    pub apart: u32,
}

impl Stretches {
    /// A single one.
    pub fn one(first: u32, texels: u32) -> Stretches {
        Stretches { first, count: 1, texels, apart: texels }
    }

    /// Bytes of the texture that holds a copy of them.
    pub fn bytes(self) -> u64 {
        let Stretches { count, texels, apart, .. } = self.placed();
        u64::from(((count - 1) * apart + texels).next_multiple_of(TEXELS)) * 16
    }

    /// How they come to lie in a texture of their own: one behind the other if they are so already, else each from the start of a row on.
    fn placed(self) -> Stretches {
        let Stretches { count, texels, apart, .. } = self;
        if count == 1 || texels == apart {
            return Stretches { first: 0, count: 1, texels: (count - 1) * apart + texels, apart };
        }
        Stretches { first: 0, count, texels, apart: texels.next_multiple_of(TEXELS) }
    }
}

/// What a texture holds a copy of, as far as a list of commands goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    texture: u64,
    /// The buffer that the parts are of.
    pub(super) buffer: u64,
    parts: Stretches,
}

/// A rectangle of a texture, and the texels that come before it.
struct Part {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    before: u32,
}

/// What so many texels from the `first` on take: the end of a row, whole rows, and the start of another.
fn parts(first: u32, texels: u32) -> impl Iterator<Item = Part> {
    let (x, y) = (first % TEXELS, first / TEXELS);
    let head = if x == 0 { 0 } else { texels.min(TEXELS - x) };
    let below = y + u32::from(x > 0);
    let (rows, rest) = ((texels - head) / TEXELS, (texels - head) % TEXELS);
    let parts = [
        Part { x, y, width: head, height: 1, before: 0 },
        Part { x: 0, y: below, width: TEXELS, height: rows, before: head },
        Part { x: 0, y: below + rows, width: rest, height: 1, before: head + rows * TEXELS },
    ];
    parts.into_iter().filter(|part| part.width > 0 && part.height > 0)
}

impl Part {
    fn place<'t>(&self, texture: &'t wgpu::Texture) -> wgpu::TexelCopyTextureInfo<'t> {
        let origin = wgpu::Origin3d { x: self.x, y: self.y, z: 0 };
        wgpu::TexelCopyTextureInfo { origin, ..texture.as_image_copy() }
    }

    fn extent(&self) -> wgpu::Extent3d {
        extent(self.width, self.height)
    }

    /// Where it lies behind a byte from which texels follow one another.
    fn layout(&self, texel_bytes: u32, offset: u64) -> wgpu::TexelCopyBufferLayout {
        let offset = offset + u64::from(self.before) * u64::from(texel_bytes);
        wgpu::TexelCopyBufferLayout { offset, bytes_per_row: Some(TEXELS * texel_bytes), rows_per_image: None }
    }
}

fn extent(width: u32, height: u32) -> wgpu::Extent3d {
    wgpu::Extent3d { width, height, depth_or_array_layers: 1 }
}

impl Copy {
    pub(super) fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        // One copy of whole rows in place of two where the buffer goes on for as long: a copy costs more than what it moves.
        let whole = self.texels.next_multiple_of(TEXELS);
        let is_long = self.offset + u64::from(whole) * u64::from(self.texel_bytes) <= self.from.size();
        let rounded = self.texels > TEXELS && self.first.is_multiple_of(TEXELS) && is_long;
        for part in parts(self.first, if rounded { whole } else { self.texels }) {
            let layout = part.layout(self.texel_bytes, self.offset);
            let from = wgpu::TexelCopyBufferInfo { buffer: &self.from, layout };
            encoder.copy_buffer_to_texture(from, part.place(&self.to), part.extent());
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
            for part in parts(0, words.len() as u32 / element) {
                self.queue.write_texture(part.place(texture), bytes, part.layout(4 * element, 0), part.extent());
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
            Copy { from, offset: 0, texels, texel_bytes: 4 * element, to, first: 0 }.encode(&mut encoder);
            self.queue.submit([encoder.finish()]);
        }
        self.check()?;
        Ok(made)
    }

    /// A buffer that kernels write and others fetch from: on software adapters with a texture beside it, which [`Recorder::mirror`] keeps,
    /// or the kernel that writes ([`Access::Store`](super::Access::Store)). What is in the texture before is undefined.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn mirrored(&self, label: &str, contents: Contents<'_>) -> Result<Buffer> {
        let mut made = self.buffer(label, contents)?;
        if self.tier == Tier::Software {
            made.mirror = Some(Box::new(self.texture(label, made.bytes / 4, 4)?));
        }
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
            usage: if element == 4 { FETCHED | wgpu::TextureUsages::STORAGE_BINDING } else { FETCHED },
            view_formats: &[],
        });
        let (what, allocated, adapter) = (label.to_string(), self.allocated(), self.info.name.clone());
        self.expect_none(scope, move |_| Error::OutOfMemory { what, bytes, allocated, adapter })?;
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        self.ledger.allocated.fetch_add(bytes, Ordering::Relaxed);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Buffer { raw: Raw::Texture { texture, view }, id, bytes, mirror: None, ledger: self.ledger.clone() })
    }
}

impl Recorder<'_> {
    /// What dispatches are to fetch from in place of parts of `buffer`, and how many texels apart the parts lie in it: a copy that is
    /// made when it is the next dispatch's turn, and holds until the next of its kind. `None` where kernels fetch from storage, or from the
    /// buffer's mirror.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn fetch(&mut self, kind: Fetched, buffer: &Buffer, parts: Stretches) -> Result<Option<(Arc<Buffer>, u32)>> {
        let gpu = self.gpu();
        if gpu.tier == Tier::Gpu || buffer.mirror.is_some() {
            return Ok(None);
        }
        let (placed, bytes) = (parts.placed(), parts.bytes());
        let mut slots = gpu.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[kind as usize];
        let texture = match slot.as_ref().filter(|texture| texture.bytes() >= bytes) {
            Some(texture) => texture.clone(),
            None => slot.insert(Arc::new(gpu.texture("fetched", bytes / 4, 4)?)).clone(),
        };
        // Two dispatches often fetch the same, and nobody wrote it between them.
        let held = Held { texture: texture.id, buffer: buffer.id, parts };
        if self.held[kind as usize] != Some(held) {
            self.copy(buffer, parts, &texture, placed)?;
            // A browser is given lists in pieces, between which others may fetch.
            self.held[kind as usize] = cfg!(not(target_arch = "wasm32")).then_some(held);
        }
        Ok(Some((texture, placed.apart)))
    }

    /// Has parts of a buffer copied to its mirror, where it has one: before the next dispatch, or behind the last.
    ///
    /// # Errors
    /// [`Error::Internal`] for what is no buffer but a texture.
    pub fn mirror(&mut self, buffer: &Buffer, parts: Stretches) -> Result<()> {
        match &buffer.mirror {
            Some(mirror) => self.copy(buffer, parts, mirror, parts),
            None => Ok(()),
        }
    }

    /// [`Recorder::mirror`] of the whole buffer.
    ///
    /// # Errors
    /// As there.
    pub fn mirror_all(&mut self, buffer: &Buffer) -> Result<()> {
        self.mirror(buffer, Stretches::one(0, (buffer.bytes() / 16) as u32))
    }

    fn copy(&mut self, from: &Buffer, parts: Stretches, into: &Buffer, placed: Stretches) -> Result<()> {
        let Raw::Texture { texture, .. } = &into.raw else { return Ok(()) };
        for index in 0..placed.count {
            self.before_next(Copy {
                from: from.storage()?.clone(),
                offset: u64::from(parts.first + index * parts.apart) * 16,
                texels: placed.texels,
                texel_bytes: 16,
                to: texture.clone(),
                first: placed.first + index * placed.apart,
            });
        }
        Ok(())
    }
}
