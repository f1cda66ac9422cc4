//! One list of commands, and the one place that executes it: a single compute pass per submission (on software adapters several,
//! between which activations are copied to where matmuls fetch them).

use super::fetch::{Copy, Held, KINDS};
use super::pipeline::{Pipeline, params_layout};
use super::{Access, Buffer, Gpu, Kernel, Substitution};
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Workgroups in x, y and z.
pub type Grid = [u32; 3];

/// Parameters of one dispatch start at multiples of this (WebGPU's largest required alignment).
const PARAMS_STRIDE: usize = 256;
/// Bind groups kept before the cache starts anew; a forward pass of a large model needs some thousands.
const CACHED_GROUPS: usize = 1 << 14;
/// How long a device may be busy with us before a page is drawn.
const PIECE: Duration = Duration::from_millis(30);
/// Dispatches that a piece has at least: some layer's half.
const SHORTEST_PIECE: usize = 4;

/// What outlives a recording: the parameter buffer and the bind groups made so far.
pub(super) struct Arena {
    layout: wgpu::BindGroupLayout,
    params: wgpu::Buffer,
    group: wgpu::BindGroup,
    groups: HashMap<(u64, Vec<u64>), wgpu::BindGroup>,
}

impl Arena {
    pub(super) fn new(device: &wgpu::Device) -> Arena {
        let layout = params_layout(device);
        let (params, group) = Arena::params(device, &layout, 1 << 18);
        Arena { layout, params, group, groups: HashMap::new() }
    }

    fn params(device: &wgpu::Device, layout: &wgpu::BindGroupLayout, bytes: u64) -> (wgpu::Buffer, wgpu::BindGroup) {
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: bytes,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("parameters"),
            layout,
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &params,
                    offset: 0,
                    size: std::num::NonZeroU64::new(PARAMS_STRIDE as u64),
                }),
            }],
        });
        (params, group)
    }
}

struct Dispatch {
    before: Vec<Copy>,
    pipeline: Arc<Pipeline>,
    storage: wgpu::BindGroup,
    grid: Grid,
}

/// Dispatches in order. Later ones see what earlier ones wrote.
pub struct Recorder<'g> {
    gpu: &'g Gpu,
    dispatches: Vec<Dispatch>,
    /// What is copied before the next dispatch, or behind the last.
    before: Vec<Copy>,
    /// What was copied to be fetched and not written since.
    pub(super) held: [Option<Held>; KINDS],
    /// [`PARAMS_STRIDE`] bytes a dispatch.
    params: Vec<u8>,
}

impl Gpu {
    /// An empty list of commands.
    pub fn record(&self) -> Recorder<'_> {
        Recorder { gpu: self, dispatches: Vec::new(), before: Vec::new(), held: [None; KINDS], params: Vec::new() }
    }

    /// Submits a pass without a dispatch, and with it whatever was written before: what a submission itself costs.
    ///
    /// # Errors
    /// [`Error::Device`] when the device reported a failure.
    pub fn submit_empty(&self) -> Result<()> {
        let mut encoder =
            self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("secateur") });
        drop(encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        self.queue.submit([encoder.finish()]);
        self.submissions.fetch_add(1, Ordering::Relaxed);
        self.check()
    }
}

impl<'g> Recorder<'g> {
    /// The device that this list is for.
    pub fn gpu(&self) -> &'g Gpu {
        self.gpu
    }

    /// Dispatches recorded and not yet submitted.
    pub fn len(&self) -> usize {
        self.dispatches.len()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty()
    }

    /// Names of the kernels of those dispatches, in order.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> {
        self.dispatches.iter().map(|dispatch| dispatch.pipeline.name)
    }

    /// Appends a run of `kernel`. `buffers` are its storage bindings in order. An empty grid is left out.
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] for a grid that the device refuses, [`Error::Internal`] for a shader that does not compile.
    pub fn dispatch<P: bytemuck::NoUninit>(
        &mut self,
        kernel: &'static Kernel,
        variant: &Substitution,
        params: &P,
        buffers: &[&Buffer],
        grid: Grid,
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        let limit = self.gpu.max_workgroups;
        if let Some(&needed) = grid.iter().find(|&&count| count > limit) {
            return Err(Error::DeviceLimit {
                what: format!("the grid {grid:?} of `{}`", kernel.source.name),
                needed: needed.into(),
                available: limit.into(),
                limit: "max_compute_workgroups_per_dimension",
                adapter: self.gpu.info.name.clone(),
            });
        }
        debug_assert_eq!(buffers.len(), kernel.bindings.len(), "{}", kernel.source.name);
        debug_assert_eq!(size_of::<P>(), kernel.params.len() * 4, "{}", kernel.source.name);
        let pipeline = self.gpu.pipeline(kernel, variant)?;
        let storage = self.group(&pipeline, kernel, buffers);
        let start = self.params.len();
        self.params.extend_from_slice(bytemuck::bytes_of(params));
        self.params.resize(start + PARAMS_STRIDE, 0);
        let written = |id: u64| {
            buffers.iter().zip(kernel.bindings).any(|(buffer, &access)| buffer.id == id && access == Access::Write)
        };
        for held in &mut self.held {
            *held = held.filter(|held| !written(held.buffer));
        }
        let before = std::mem::take(&mut self.before);
        self.dispatches.push(Dispatch { before, pipeline, storage, grid });
        Ok(())
    }

    /// Has something copied before the next dispatch.
    pub(super) fn before_next(&mut self, copy: Copy) {
        self.before.push(copy);
    }

    fn group(&self, pipeline: &Pipeline, kernel: &Kernel, buffers: &[&Buffer]) -> wgpu::BindGroup {
        let mut arena = self.gpu.arena.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (pipeline.id, buffers.iter().map(|buffer| buffer.id).collect::<Vec<u64>>());
        let gone = std::mem::take(&mut *self.gpu.ledger.dropped.lock().unwrap_or_else(PoisonError::into_inner));
        if !gone.is_empty() {
            let gone: HashSet<u64> = gone.into_iter().collect();
            arena.groups.retain(|(_, buffers), _| buffers.iter().all(|id| !gone.contains(id)));
        }
        if arena.groups.len() >= CACHED_GROUPS {
            arena.groups.clear();
        }
        let make = || {
            let entries: Vec<wgpu::BindGroupEntry> = buffers
                .iter()
                .zip(kernel.bindings)
                .zip(0..)
                .filter(|((_, access), _)| **access != Access::Store || pipeline.stores)
                .map(|((buffer, access), binding)| wgpu::BindGroupEntry { binding, resource: buffer.binding(*access) })
                .collect();
            self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(pipeline.name),
                layout: &pipeline.storage_layout,
                entries: &entries,
            })
        };
        arena.groups.entry(key).or_insert_with(make).clone()
    }

    /// Sends everything recorded so far to the device and starts an empty list. Does not wait.
    ///
    /// # Errors
    /// [`Error::Device`] when the device reported a failure.
    pub fn submit(&mut self) -> Result<()> {
        self.send(self.dispatches.len())
    }

    /// [`Recorder::submit`] of a long list whose dispatches work on some `rows` rows each. In a browser it goes out in pieces of some
    /// 30 ms, each after the one before is done: what draws the page shares the device, and one that is busy for seconds
    /// is reset.
    ///
    /// # Errors
    /// As [`Recorder::submit`].
    pub async fn submit_paced(&mut self, rows: usize) -> Result<()> {
        if cfg!(not(target_arch = "wasm32")) {
            return self.submit();
        }
        let rows = rows.max(1) as f64;
        while !self.dispatches.is_empty() {
            let known = self.gpu.pace.load(Ordering::Relaxed) as f64 * PIECE.as_secs_f64();
            let count = ((known / rows) as usize).clamp(SHORTEST_PIECE, self.dispatches.len().max(SHORTEST_PIECE));
            let count = count.min(self.dispatches.len());
            let started = web_time::Instant::now();
            self.send(count)?;
            self.gpu.idle().await?;
            let pace = count as f64 * rows / started.elapsed().as_secs_f64().max(1e-4);
            self.gpu.pace.store(pace as u64, Ordering::Relaxed);
        }
        self.gpu.check()
    }

    /// Sends the first `count` dispatches, which are then gone from the list.
    fn send(&mut self, count: usize) -> Result<()> {
        if count == 0 && self.before.is_empty() {
            return self.gpu.check();
        }
        // Others may fetch between two submissions.
        self.held = [None; KINDS];
        let device = &self.gpu.device;
        let mut arena = self.gpu.arena.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = count * PARAMS_STRIDE;
        if arena.params.size() < bytes as u64 {
            let (params, group) = Arena::params(device, &arena.layout, (bytes as u64).next_power_of_two());
            (arena.params, arena.group) = (params, group);
        }
        self.gpu.queue.write_buffer(&arena.params, 0, &self.params[..bytes]);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("secateur") });
        let mut dispatches = self.dispatches.iter().take(count).zip(0u32..).peekable();
        while let Some((first, _)) = dispatches.peek() {
            first.before.iter().for_each(|copy| copy.encode(&mut encoder));
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let mut current = 0;
            let mut is_first = true;
            while let Some((dispatch, place)) =
                dispatches.next_if(|(dispatch, _)| std::mem::take(&mut is_first) || dispatch.before.is_empty())
            {
                if dispatch.pipeline.id != current {
                    pass.set_pipeline(&dispatch.pipeline.raw);
                    current = dispatch.pipeline.id;
                }
                pass.set_bind_group(0, &dispatch.storage, &[]);
                pass.set_bind_group(1, &arena.group, &[place * PARAMS_STRIDE as u32]);
                let [x, y, z] = dispatch.grid;
                pass.dispatch_workgroups(x, y, z);
            }
        }
        drop(dispatches);
        if count == self.dispatches.len() {
            self.before.drain(..).for_each(|copy| copy.encode(&mut encoder));
        }
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.submissions.fetch_add(1, Ordering::Relaxed);
        self.gpu.dispatches.fetch_add(count as u64, Ordering::Relaxed);
        self.dispatches.drain(..count);
        self.params.drain(..bytes);
        self.gpu.check()
    }
}
