//! The device of burn's that lies on an adapter of ours.

use super::failure;
use crate::error::{Error, Result};
use crate::gpu::{self, AdapterInfo};
use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{Device, DeviceKind};
use std::sync::{Mutex, PoisonError};

/// Devices that are open already, by index of the adapter: burn opens each once in a process and never closes it.
static OPEN: Mutex<Vec<(usize, Device)>> = Mutex::new(Vec::new());

/// Opens burn's device on `adapter`, or hands out the open one.
///
/// # Errors
/// [`Error::Unsupported`] for an adapter that burn has no name for, [`Error::NoAdapter`] when burn does not find it,
/// [`Error::Device`] when the driver refuses.
pub(crate) fn open(adapter: &AdapterInfo) -> Result<Device> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, device)) = open.iter().find(|(index, _)| *index == adapter.index) {
        return Ok(device.clone());
    }
    let (kind, api) = selector(adapter, &gpu::adapters())?;
    let options = Device::wgpu_options().device_kind(kind).graphics_api(api);
    let (device, setup) = options.init_with_setup().map_err(failure)?;
    let found = setup.adapter.get_info().name;
    if found != adapter.name {
        return Err(Error::NoAdapter { detail: format!(": burn found `{found}` instead of `{}`", adapter.name) });
    }
    open.push((adapter.index, device.clone()));
    Ok(device)
}

/// How burn names one of `all` adapters: a kind, which of that kind, and the graphics API.
fn selector(adapter: &AdapterInfo, all: &[AdapterInfo]) -> Result<(DeviceKind, WgpuBackend)> {
    let alike = |other: &&AdapterInfo| (&other.backend, &other.kind) == (&adapter.backend, &adapter.kind);
    let place = all.iter().filter(alike).position(|other| other.index == adapter.index);
    let kind = match (adapter.kind.as_str(), place) {
        ("DiscreteGpu", Some(place)) => DeviceKind::DiscreteGpu(place),
        ("IntegratedGpu", Some(place)) => DeviceKind::IntegratedGpu(place),
        ("VirtualGpu", Some(place)) => DeviceKind::VirtualGpu(place),
        ("Cpu", Some(0)) => DeviceKind::Cpu,
        _ => return unsupported(adapter),
    };
    let api = match adapter.backend.as_str() {
        "Vulkan" => WgpuBackend::Vulkan,
        "Metal" => WgpuBackend::Metal,
        "Dx12" => WgpuBackend::Dx12,
        _ => return unsupported(adapter),
    };
    Ok((kind, api))
}

fn unsupported<T>(adapter: &AdapterInfo) -> Result<T> {
    Err(Error::Unsupported {
        what: "for burn, the adapter",
        name: format!("{}` ({}, {}) `#{}", adapter.name, adapter.backend, adapter.kind, adapter.index),
        supported: "discrete, integrated and virtual GPUs and the first software adapter, on Vulkan, Metal and DX12; choose one by --device".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(index: usize, kind: &str, backend: &str) -> AdapterInfo {
        AdapterInfo {
            index,
            name: format!("adapter {index}"),
            backend: backend.into(),
            kind: kind.into(),
            driver: String::new(),
            max_binding_bytes: 0,
            max_buffer_bytes: 0,
            max_workgroup_bytes: 0,
            shader_f16: false,
            subgroups: false,
            matrix_units: None,
        }
    }

    #[test]
    fn an_adapter_is_counted_among_its_kind_on_its_api() {
        let all = [
            adapter(0, "DiscreteGpu", "Vulkan"),
            adapter(1, "DiscreteGpu", "Dx12"),
            adapter(2, "DiscreteGpu", "Vulkan"),
            adapter(3, "IntegratedGpu", "Metal"),
            adapter(4, "Cpu", "Vulkan"),
            adapter(5, "Cpu", "Vulkan"),
            adapter(6, "Other", "Vulkan"),
        ];
        let found: Vec<_> = all.iter().map(|adapter| selector(adapter, &all).ok()).collect();
        assert_eq!(
            found,
            [
                Some((DeviceKind::DiscreteGpu(0), WgpuBackend::Vulkan)),
                Some((DeviceKind::DiscreteGpu(0), WgpuBackend::Dx12)),
                Some((DeviceKind::DiscreteGpu(1), WgpuBackend::Vulkan)),
                Some((DeviceKind::IntegratedGpu(0), WgpuBackend::Metal)),
                Some((DeviceKind::Cpu, WgpuBackend::Vulkan)),
                None,
                None,
            ]
        );
        let error = selector(&all[6], &all).unwrap_err().to_string();
        assert!(error.contains("adapter 6") && error.contains("--device"), "{error}");
    }
}
