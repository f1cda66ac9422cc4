//! Where a backward pass runs: burn's CPU backend, or burn's wgpu backend on an adapter of ours.

use crate::error::Result;
use crate::gpu::{AdapterInfo, Gpu, system_memory_available};
use crate::llama::device;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// Which of burn's backends runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// `burn-flex`: plain CPU code.
    Cpu,
    /// `burn-wgpu`: shaders on an adapter.
    Wgpu,
}

impl Backend {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Cpu => "cpu",
            Backend::Wgpu => "wgpu",
        }
    }

    /// What suits an adapter: shaders on hardware, plain code where the adapter is software, or none is there.
    pub fn suited_to(adapter: Option<&AdapterInfo>) -> Backend {
        match adapter {
            Some(adapter) if adapter.kind != "Cpu" => Backend::Wgpu,
            _ => Backend::Cpu,
        }
    }
}

/// A device of burn's.
#[derive(Debug, Clone)]
pub struct Processor {
    pub(super) device: Device,
    backend: Backend,
    name: String,
    memory: Option<u64>,
    pub(super) max_binding: Option<u64>,
}

impl Processor {
    /// burn's CPU backend.
    pub fn cpu() -> Processor {
        Processor {
            device: Device::flex(),
            backend: Backend::Cpu,
            name: "the CPU".into(),
            memory: system_memory_available(),
            max_binding: None,
        }
    }

    /// burn's wgpu backend on the adapter that `gpu` runs on.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for an adapter that burn has no name for, [`crate::Error::NoAdapter`] where burn does not
    /// find it, [`crate::Error::Device`] when the driver refuses.
    pub fn of_adapter(gpu: &Gpu) -> Result<Processor> {
        Ok(Processor {
            device: device::open(gpu.info())?,
            backend: Backend::Wgpu,
            name: gpu.info().name.clone(),
            memory: gpu.memory_available(),
            max_binding: Some(gpu.info().max_binding_bytes),
        })
    }

    /// Which backend it is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The adapter's name, or "the CPU".
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that it could still be given when it was opened; `None` where the system does not say.
    pub fn memory_available(&self) -> Option<u64> {
        self.memory
    }
}
