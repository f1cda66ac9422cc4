//! Buffers: an id for cache keys, a length for bounds, a count of the bytes alive.

use super::{Access, Gpu};
use crate::error::{Error, Result};
use async_channel::{Receiver, TryRecvError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub(super) static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A storage buffer on the device, or a texture that kernels fetch from (see [`Gpu::fetched`] and [`Gpu::mirrored`]). Freed when dropped.
pub struct Buffer {
    pub(super) raw: Raw,
    pub(super) id: u64,
    pub(super) bytes: u64,
    /// The texture beside a buffer that kernels fetch from in its place.
    pub(super) mirror: Option<Box<Buffer>>,
    pub(super) ledger: Arc<Ledger>,
}

/// What a [`Buffer`] is on the device.
pub(super) enum Raw {
    Storage(wgpu::Buffer),
    Texture { texture: wgpu::Texture, view: wgpu::TextureView },
}

/// What a device's buffers report to: how many bytes live, and which buffers are gone since the last look.
#[derive(Default)]
pub(super) struct Ledger {
    pub allocated: AtomicU64,
    /// Ids whose bind groups must be forgotten, or the groups would keep the memory.
    pub dropped: Mutex<Vec<u64>>,
}

/// What a new buffer starts with.
pub enum Contents<'a> {
    /// Zeros.
    Zeroed(u64),
    /// A copy of these bytes, padded with zeros to a multiple of 16.
    Bytes(&'a [u8]),
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.ledger.allocated.fetch_sub(self.bytes, Ordering::Relaxed);
        self.ledger.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
    }
}

impl Buffer {
    /// Size in bytes, a multiple of 16.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a texture is beside it.
    pub fn is_mirrored(&self) -> bool {
        self.mirror.is_some()
    }

    /// What a kernel binds of it.
    pub(super) fn binding(&self, access: Access) -> wgpu::BindingResource<'_> {
        let beside = matches!(access, Access::Fetch | Access::Store);
        let bound = self.mirror.as_deref().filter(|_| beside).unwrap_or(self);
        match &bound.raw {
            Raw::Storage(buffer) => buffer.as_entire_binding(),
            Raw::Texture { view, .. } => wgpu::BindingResource::TextureView(view),
        }
    }

    /// The buffer, which a texture is none.
    pub(super) fn storage(&self) -> Result<&wgpu::Buffer> {
        match &self.raw {
            Raw::Storage(buffer) => Ok(buffer),
            Raw::Texture { .. } => Err(Error::Internal("a texture in place of a buffer".into())),
        }
    }
}

impl Gpu {
    /// Makes a storage buffer.
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] when it would not fit one binding, [`Error::OutOfMemory`] when the device has no room.
    pub fn buffer(&self, label: &str, contents: Contents<'_>) -> Result<Buffer> {
        let wanted = match contents {
            Contents::Zeroed(bytes) => bytes,
            Contents::Bytes(bytes) => bytes.len() as u64,
        };
        let bytes = wanted.max(16).next_multiple_of(16);
        if bytes > self.max_binding {
            return Err(Error::DeviceLimit {
                what: format!("the buffer `{label}`"),
                needed: bytes,
                available: self.max_binding,
                limit: "max_storage_buffer_binding_size",
                adapter: self.info.name.clone(),
            });
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: matches!(contents, Contents::Bytes(_)),
        });
        let (what, allocated, adapter) = (label.to_string(), self.allocated(), self.info.name.clone());
        self.expect_none(scope, move |_| Error::OutOfMemory { what, bytes, allocated, adapter })?;
        if let Contents::Bytes(data) = contents {
            self.fill_mapped(&raw, data)?;
        }
        self.ledger.allocated.fetch_add(bytes, Ordering::Relaxed);
        let raw = Raw::Storage(raw);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Buffer { raw, id, bytes, mirror: None, ledger: self.ledger.clone() })
    }

    /// Ends an error scope, and fails if an error was met in it. A browser tells that later: it is then the device's failure.
    pub(super) fn expect_none(
        &self,
        scope: wgpu::ErrorScopeGuard,
        explain: impl FnOnce(wgpu::Error) -> Error + 'static,
    ) -> Result<()> {
        let met = scope.pop();
        #[cfg(not(target_arch = "wasm32"))]
        return pollster::block_on(met).map_or(Ok(()), |error| Err(explain(error)));
        #[cfg(target_arch = "wasm32")]
        {
            let failure = self.failure.clone();
            wasm_bindgen_futures::spawn_local(async move {
                if let Some(error) = met.await {
                    super::keep_first(&failure, explain(error).to_string());
                }
            });
            Ok(())
        }
    }

    fn fill_mapped(&self, raw: &wgpu::Buffer, data: &[u8]) -> Result<()> {
        {
            let mut mapped = raw
                .get_mapped_range_mut(..)
                .map_err(|error| Error::Device(format!("a new buffer could not be filled: {error}")))?;
            mapped.slice(..data.len()).copy_from_slice(data);
        }
        raw.unmap();
        Ok(())
    }

    /// A buffer of zeros for `len` 32-bit values.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn zeros(&self, label: &str, len: usize) -> Result<Buffer> {
        self.buffer(label, Contents::Zeroed(len as u64 * 4))
    }

    /// A buffer with the given values.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn upload<T: bytemuck::NoUninit>(&self, label: &str, values: &[T]) -> Result<Buffer> {
        self.buffer(label, Contents::Bytes(bytemuck::cast_slice(values)))
    }

    /// Overwrites `buffer` from byte `offset` on, in order with later submissions.
    ///
    /// # Errors
    /// [`Error::Internal`] when it would not fit.
    pub fn write<T: bytemuck::NoUninit>(&self, buffer: &Buffer, offset: u64, values: &[T]) -> Result<()> {
        let data: &[u8] = bytemuck::cast_slice(values);
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > buffer.bytes) {
            return Err(Error::Internal(format!("{} bytes at {offset} into a buffer of {}", data.len(), buffer.bytes)));
        }
        self.queue.write_buffer(buffer.storage()?, offset, data);
        Ok(())
    }

    /// Copies the first `len` 32-bit values of every buffer, as everything submitted before leaves them, and returns at
    /// once: [`Pending::take`] has the values when the device got there.
    ///
    /// # Errors
    /// [`Error::Internal`] when a buffer is shorter, [`Error::Device`] when the device failed.
    pub fn read_later(&self, parts: &[(&Buffer, usize)]) -> Result<Pending> {
        if let Some((buffer, len)) = parts.iter().find(|(buffer, len)| *len as u64 * 4 > buffer.bytes) {
            return Err(Error::Internal(format!("reading {len} values of a buffer of {} bytes", buffer.bytes)));
        }
        let lengths: Vec<usize> = parts.iter().map(|(_, len)| *len).collect();
        let bytes = 4 * lengths.iter().sum::<usize>() as u64;
        self.readbacks.fetch_add(1, Ordering::Relaxed);
        let staging = self.staging(bytes.max(4));
        let mut encoder =
            self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("read-back") });
        let mut at = 0;
        for (buffer, len) in parts.iter().filter(|(_, len)| *len > 0) {
            encoder.copy_buffer_to_buffer(buffer.storage()?, 0, &staging, at, *len as u64 * 4);
            at += *len as u64 * 4;
        }
        let _submission = self.queue.submit([encoder.finish()]);
        let (sender, mapped) = async_channel::bounded(1);
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver is gone only when nobody wants the values any more.
            let _ = sender.try_send(result);
        });
        self.check()?;
        Ok(Pending {
            staging,
            lengths,
            mapped,
            #[cfg(not(target_arch = "wasm32"))]
            submission: _submission,
        })
    }

    /// The values of a read-back, when they are there; nothing that was submitted after it is waited for.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub async fn finish(&self, pending: &Pending) -> Result<Vec<Vec<u32>>> {
        #[cfg(not(target_arch = "wasm32"))]
        {
            let wait = wgpu::PollType::Wait { submission_index: Some(pending.submission.clone()), timeout: None };
            self.device.poll(wait).map_err(|error| Error::Device(error.to_string()))?;
        }
        self.check()?;
        // Another thread that polls may be the one that tells.
        let result = pending.mapped.recv().await.map_err(|_| Error::Device("a read-back was dropped".into()))?;
        self.check()?;
        pending.values(result)
    }

    fn staging(&self, bytes: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// Reads `len` 32-bit values from the start of `buffer`: waits for everything submitted before.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails, [`Error::Internal`] when the buffer is shorter.
    pub fn read<T: bytemuck::Pod>(&self, buffer: &Buffer, len: usize) -> Result<Vec<T>> {
        super::wait_for(self.read_async(buffer, len))
    }

    /// The first `len` 32-bit values of `buffer`, as everything submitted before leaves them.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails, [`Error::Internal`] when the buffer is shorter.
    pub async fn read_async<T: bytemuck::Pod>(&self, buffer: &Buffer, len: usize) -> Result<Vec<T>> {
        const { assert!(size_of::<T>() == 4) };
        if len == 0 {
            return Ok(Vec::new());
        }
        let pending = self.read_later(&[(buffer, len)])?;
        let words = self.finish(&pending).await?.swap_remove(0);
        Ok(bytemuck::pod_collect_to_vec(&words))
    }
}

/// Values on their way back from the device.
pub struct Pending {
    staging: wgpu::Buffer,
    /// Values of every part.
    lengths: Vec<usize>,
    mapped: Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
    /// What has the values once it is done.
    #[cfg(not(target_arch = "wasm32"))]
    submission: wgpu::SubmissionIndex,
}

impl Pending {
    /// The values of every part, in 32-bit words, once they are there; never waits. They come with whatever makes the
    /// device's queue move on, such as the next [`Gpu::read`].
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn take(&self) -> Result<Option<Vec<Vec<u32>>>> {
        match self.mapped.try_recv() {
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Closed) => Err(Error::Device("a read-back was dropped".into())),
            Ok(result) => self.values(result).map(Some),
        }
    }

    fn values(&self, result: std::result::Result<(), wgpu::BufferAsyncError>) -> Result<Vec<Vec<u32>>> {
        result.map_err(|error| Error::Device(format!("a read-back failed: {error}")))?;
        let mapped =
            self.staging.get_mapped_range(..).map_err(|error| Error::Device(format!("a read-back failed: {error}")))?;
        let mut at = 0;
        let part = |&len: &usize| {
            let bytes = &mapped[at..at + len * 4];
            at += len * 4;
            bytemuck::pod_collect_to_vec(bytes)
        };
        Ok(self.lengths.iter().map(part).collect())
    }
}
