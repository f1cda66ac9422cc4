//! The device: adapter choice, buffers, pipelines, one recorded list of commands per submission, read-back.
//!
//! Invariants: nothing outside this module talks to wgpu; every buffer fits one binding of the device; every failure of
//! the device (validation, memory, loss) surfaces as an [`Error`] at the next [`Gpu::check`], never as a panic; what waits for
//! the device has an `async` form, for a browser lets nobody wait.

mod buffer;
mod cache;
mod fetch;
#[cfg(not(target_arch = "wasm32"))]
mod limit;
mod matrix;
#[cfg(target_arch = "wasm32")]
mod page;
mod pipeline;
mod recorder;
mod shader;

pub use buffer::{Buffer, Contents, Pending};
#[cfg(not(target_arch = "wasm32"))]
pub use cache::cache_folder;
pub use fetch::{Fetched, Stretches};
#[cfg(not(target_arch = "wasm32"))]
pub use limit::{MEGABYTE, memory_limit};
pub use matrix::{MATRIX_SUBGROUPS, MatrixUnits, matrix_units_refused};
pub use pipeline::{Access, Kernel, PipelineKey};
pub use recorder::{Grid, Recorder};
pub use shader::{ShaderSource, Substitution, element_words, resolve};

use crate::error::{Error, Result};
use pipeline::Pipelines;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What to ask of a device.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// Part of an adapter's name, or its index in [`adapters`]; `None` = the fastest kind found.
    pub adapter: Option<String>,
    /// Ask for WebGPU's default limits instead of the adapter's own.
    pub default_limits: bool,
    /// Pretend that a storage binding holds no more bytes than this (tests of sharding).
    pub max_binding: Option<u64>,
    /// Take no more bytes than this of the device's memory, whatever is free.
    pub memory: Option<u64>,
    /// Use the kernel shapes of this family instead of those that suit the adapter (tests of both).
    pub tier: Option<Tier>,
    /// Keep compiled pipelines and measured kernel shapes in this folder; `None` = keep and measure nothing.
    pub cache: Option<PathBuf>,
    /// Compile shaders with every check on, as a browser would (tests; slower).
    pub checked_shaders: bool,
    /// Leave the adapter's matrix units alone.
    pub no_matrix_units: bool,
    /// Pretend that subgroups may have so many invocations (tests of matrix units with more subgroups than there is work for).
    pub matrix_subgroup: Option<u32>,
}

/// An adapter as [`adapters`] lists it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdapterInfo {
    /// Position in the list; accepted by [`GpuOptions::adapter`].
    pub index: usize,
    /// The driver's name of the device.
    pub name: String,
    /// "Vulkan", "Metal", "Dx12" or "BrowserWebGpu".
    pub backend: String,
    /// "DiscreteGpu", "IntegratedGpu", "VirtualGpu", "Cpu" or "Other".
    pub kind: String,
    /// The driver and its version.
    pub driver: String,
    /// Largest storage binding, bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Workgroup memory, bytes.
    pub max_workgroup_bytes: u32,
    /// Whether shaders may use 16-bit floats.
    pub shader_f16: bool,
    /// Whether shaders may use subgroup operations.
    pub subgroups: bool,
    /// Matrix units that kernels could use.
    pub matrix_units: Option<MatrixUnits>,
}

/// Which family of kernel shapes suits the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Hardware GPUs: many lanes, coalesced loads.
    Gpu,
    /// Software rasterisers: few lanes, loads from storage one lane after the other; reuse in registers decides, and weights and activations are
    /// fetched from textures.
    Software,
}

/// An open device with its caches. Cheap to share by `Arc`.
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: AdapterInfo,
    tier: Tier,
    max_binding: u64,
    memory: Option<u64>,
    /// Bytes of a graphics card's own memory.
    #[cfg(not(target_arch = "wasm32"))]
    card_memory: Option<u64>,
    max_workgroups: u32, // in each dimension of a grid
    checked_shaders: bool,
    matrix_units: Option<MatrixUnits>,
    scratch: Mutex<Option<Arc<Buffer>>>,
    /// The textures of [`Recorder::fetch`].
    fetched: Mutex<[Option<Arc<Buffer>>; fetch::KINDS]>,
    pipelines: Pipelines,
    store: Option<cache::PipelineStore>,
    failure: Arc<Mutex<Option<String>>>,
    ledger: Arc<buffer::Ledger>,
    readbacks: AtomicU64,
    submissions: AtomicU64,
    dispatches: AtomicU64,
    arena: Mutex<recorder::Arena>,
    /// Dispatches times rows that were done in a second, when it was last looked at.
    pace: AtomicU64,
    /// Where facts about this adapter are kept.
    facts: Option<PathBuf>,
    choices: [AtomicUsize; CHOICES],
}

/// Choices between kernel shapes that a device can hold.
const CHOICES: usize = 8;

/// Waits for what a device is to tell. A browser lets nobody wait; what may run there asks with `await`.
fn wait_for<T>(told: impl Future<Output = Result<T>>) -> Result<T> {
    #[cfg(not(target_arch = "wasm32"))]
    return pollster::block_on(told);
    #[cfg(target_arch = "wasm32")]
    {
        drop(told);
        Err(Error::Unsupported {
            what: "in a browser, what is done by",
            name: "reading measurements back from the device".into(),
            supported: "dense, full-batch and pp".into(),
        })
    }
}

/// Of several failures the first is told: the others follow from it.
fn keep_first(slot: &Mutex<Option<String>>, text: String) {
    let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    slot.get_or_insert(text);
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

fn describe(index: usize, adapter: &wgpu::Adapter) -> AdapterInfo {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    AdapterInfo {
        index,
        name: info.name,
        backend: format!("{:?}", info.backend),
        kind: format!("{:?}", info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        shader_f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        matrix_units: MatrixUnits::of(adapter),
    }
}

#[cfg(target_arch = "wasm32")]
async fn enumerate(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    // A page is told of one adapter.
    let wish = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..wgpu::RequestAdapterOptions::default()
    };
    instance.request_adapter(&wish).await.into_iter().collect()
}

#[cfg(not(target_arch = "wasm32"))]
async fn enumerate(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    // The best kind first, so that index 0 is what a run without --device uses.
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

/// Every adapter of the machine, the one used by default first.
#[cfg(not(target_arch = "wasm32"))]
pub fn adapters() -> Vec<AdapterInfo> {
    pollster::block_on(adapters_async())
}

/// [`adapters`] where nothing can be waited for.
pub async fn adapters_async() -> Vec<AdapterInfo> {
    let found = enumerate(&instance()).await;
    found.iter().enumerate().map(|(index, adapter)| describe(index, adapter)).collect()
}

/// Bytes of main memory that the system could still give; `None` where it does not say.
#[cfg(not(target_arch = "wasm32"))]
pub fn system_memory_available() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    // Where the system does not say, it says 0.
    Some(system.available_memory()).filter(|&bytes| bytes > 0)
}

impl Gpu {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] when nothing fits `options.adapter`, [`Error::Device`] when the driver refuses.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(options: &GpuOptions) -> Result<Arc<Gpu>> {
        pollster::block_on(Gpu::open_async(options))
    }

    /// `Gpu::open` where nothing can be waited for.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] when nothing fits `options.adapter`, [`Error::Device`] when the driver refuses.
    pub async fn open_async(options: &GpuOptions) -> Result<Arc<Gpu>> {
        let found = enumerate(&instance()).await;
        let wanted = options.adapter.as_deref();
        let position = match wanted {
            None => (!found.is_empty()).then_some(0),
            Some(text) => text.parse::<usize>().ok().filter(|&i| i < found.len()).or_else(|| {
                let text = text.to_lowercase();
                found.iter().position(|adapter| adapter.get_info().name.to_lowercase().contains(&text))
            }),
        };
        let Some(position) = position else {
            let names: Vec<String> = found.iter().map(|adapter| adapter.get_info().name).collect();
            let detail = wanted.map_or(String::new(), |text| {
                format!(
                    " that matches `{text}` (present: {})",
                    if names.is_empty() { "none".into() } else { names.join(", ") }
                )
            });
            return Err(Error::NoAdapter { detail });
        };
        let adapter = &found[position];
        #[cfg_attr(not(target_arch = "wasm32"), expect(unused_mut, reason = "a browser's adapters are named apart"))]
        let mut info = describe(position, adapter);
        #[cfg(target_arch = "wasm32")]
        if info.name.is_empty() {
            info.name = page::adapter_name().await;
        }
        let required_limits = if options.default_limits { wgpu::Limits::default() } else { adapter.limits() };
        let software = adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        let tier = options.tier.unwrap_or(if software { Tier::Software } else { Tier::Gpu });
        // A browser has no such units, and those of a software adapter are loops.
        let wanted = tier == Tier::Gpu && !options.no_matrix_units && !options.default_limits;
        let sized =
            |units: MatrixUnits| MatrixUnits { subgroup: options.matrix_subgroup.unwrap_or(units.subgroup), ..units };
        let matrix_units = info.matrix_units.filter(|_| wanted).map(sized);
        let (matrix_features, experimental_features) = match matrix_units {
            None => (wgpu::Features::empty(), wgpu::ExperimentalFeatures::disabled()),
            // SAFETY: the one experimental feature that is asked for is that of matrix units. The kernels that use it keep to
            // what its specification allows (uniform control flow, aligned rows inside one array), tests sweep them, and
            // none is used before its results on this very device agreed with the plain kernels' (`kernels::shapes`).
            Some(_) => (matrix::FEATURES, unsafe { wgpu::ExperimentalFeatures::enabled() }),
        };
        let opened = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("secateur"),
                required_features: adapter.features() & wgpu::Features::PIPELINE_CACHE | matrix_features,
                required_limits,
                experimental_features,
                memory_hints: wgpu::MemoryHints::Performance,
                trace: wgpu::Trace::Off,
            })
            .await;
        let (device, queue) = match opened {
            Ok(opened) => opened,
            Err(error) if matrix_units.is_some() => {
                tracing::warn!("`{}` refused to open with its matrix units: {error}", info.name);
                let without = GpuOptions { no_matrix_units: true, ..options.clone() };
                return Box::pin(Gpu::open_async(&without)).await;
            }
            Err(error) => return Err(Error::Device(format!("`{}` refused to open: {error}", info.name))),
        };
        let failure = Arc::new(Mutex::new(None));
        let slot = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| keep_first(&slot, error.to_string())));
        let slot = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                keep_first(&slot, format!("the device was lost ({message}); restart the session, with a smaller --context if it happens again"));
            }
        });
        let limits = device.limits();
        let mut max_binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        if tier == Tier::Software {
            max_binding = max_binding.min(fetch::largest(limits.max_texture_dimension_2d));
        }
        if let Some(cap) = options.max_binding {
            max_binding = max_binding.min(cap);
        }
        let store = options.cache.as_ref().and_then(|folder| cache::PipelineStore::open(&device, adapter, folder));
        let arena = Mutex::new(recorder::Arena::new(&device));
        Ok(Arc::new(Gpu {
            device,
            queue,
            info,
            tier,
            max_binding,
            memory: options.memory,
            #[cfg(not(target_arch = "wasm32"))]
            card_memory: limit::card_memory(adapter),
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            checked_shaders: options.checked_shaders,
            matrix_units,
            scratch: Mutex::new(None),
            fetched: Mutex::default(),
            pipelines: Pipelines::default(),
            store,
            failure,
            ledger: Arc::default(),
            readbacks: AtomicU64::new(0),
            submissions: AtomicU64::new(0),
            dispatches: AtomicU64::new(0),
            arena,
            pace: AtomicU64::new(0),
            facts: options.cache.clone(),
            choices: Default::default(),
        }))
    }

    /// The adapter behind this device.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// Which kernel shapes suit it.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Matrix units that kernels may use.
    pub fn matrix_units(&self) -> Option<MatrixUnits> {
        self.matrix_units
    }

    /// A buffer of at least so many bytes for what one dispatch leaves to the next of the same list of commands; whoever comes
    /// after writes over it.
    ///
    /// # Errors
    /// As [`Gpu::buffer`].
    pub fn scratch(&self, bytes: u64) -> Result<Arc<Buffer>> {
        let mut slot = self.scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match slot.as_ref().filter(|buffer| buffer.bytes() >= bytes) {
            Some(buffer) => Ok(buffer.clone()),
            None => Ok(slot.insert(Arc::new(self.buffer("scratch", Contents::Zeroed(bytes))?)).clone()),
        }
    }

    /// What was chosen for slot `slot`; 0 until then. Kernels know what slots and choices mean.
    pub fn choice(&self, slot: usize) -> usize {
        self.choices[slot].load(Ordering::Relaxed)
    }

    /// Makes a choice that holds from the next recorded dispatch on.
    pub fn choose(&self, slot: usize, choice: usize) {
        self.choices[slot].store(choice, Ordering::Relaxed);
    }

    /// Largest storage binding that may be made, bytes.
    pub fn max_binding(&self) -> u64 {
        self.max_binding
    }

    /// Bytes held in buffers of this device now.
    pub fn allocated(&self) -> u64 {
        self.ledger.allocated.load(Ordering::Relaxed)
    }

    /// How often anything was read back so far.
    pub fn readbacks(&self) -> u64 {
        self.readbacks.load(Ordering::Relaxed)
    }

    /// How many submissions were made so far.
    pub fn submissions(&self) -> u64 {
        self.submissions.load(Ordering::Relaxed)
    }

    /// How many dispatches those submissions held.
    pub fn dispatches(&self) -> u64 {
        self.dispatches.load(Ordering::Relaxed)
    }

    /// Bytes of memory that this device may still take: what the system has free where it shares the system's memory, what this program
    /// has left of a graphics card's where the driver says how much that has, and no more than was allowed. `None` where nobody knows,
    /// as in a browser.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn memory_available(&self) -> Option<u64> {
        let allowed = self.memory_allowed();
        if !matches!(self.info.kind.as_str(), "Cpu" | "IntegratedGpu") {
            let left = self.card_memory.map(|bytes| bytes.saturating_sub(self.allocated()));
            return [left, allowed].into_iter().flatten().min();
        }
        [system_memory_available(), allowed].into_iter().flatten().min()
    }

    #[cfg(target_arch = "wasm32")]
    #[expect(missing_docs, reason = "as above")]
    pub fn memory_available(&self) -> Option<u64> {
        self.memory_allowed()
    }

    /// What is left of a limit that was set.
    fn memory_allowed(&self) -> Option<u64> {
        self.memory.map(|limit| limit.saturating_sub(self.allocated()))
    }

    /// Gives the device up, as a driver does that crashes: everything after fails. For tests of what follows.
    pub fn lose(&self) {
        keep_first(&self.failure, "the device was given up".into());
        self.device.destroy();
    }

    /// The first failure that the device reported since it was opened, if any.
    ///
    /// # Errors
    /// [`Error::Device`] with the driver's words.
    pub fn check(&self) -> Result<()> {
        let failure = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        failure.as_ref().map_or(Ok(()), |text| Err(Error::Device(text.clone())))
    }

    /// Waits until everything submitted so far is done.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails; [`Error::Unsupported`] in a browser, which lets nobody wait.
    pub fn wait(&self) -> Result<()> {
        wait_for(self.idle())
    }

    /// Done when everything submitted so far is; of a native device, the first look at it waits.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub async fn idle(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| Error::Device(error.to_string()))?;
        #[cfg(target_arch = "wasm32")]
        {
            let (done, told) = async_channel::bounded(1);
            self.queue.on_submitted_work_done(move || {
                // Whoever waited may have given up.
                let _ = done.try_send(());
            });
            told.recv().await.map_err(|_| Error::Device("the device gave up its work".into()))?;
        }
        self.check()
    }
}
