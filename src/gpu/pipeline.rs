//! Pipelines by typed key, made once per device.

use super::shader::is_image;
use super::{Gpu, ShaderSource, Substitution, Tier, resolve};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How a kernel uses a storage binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
    /// `#fetch` and `#lookup`: as `Read`, but on software adapters a texture.
    Fetch,
    /// `#store`: the mirror of a buffer that the kernel writes as well. Bound in variants that keep it, and only there.
    Store,
}

/// A compute shader with one entry point `main`: storage buffers in group 0 in this order, its uniform parameters at
/// group 1, binding 0. Tests hold the two against what naga reads from the shader.
#[derive(Debug)]
pub struct Kernel {
    /// The shader's text.
    pub source: ShaderSource,
    /// Its storage bindings in order.
    pub bindings: &'static [Access],
    /// Names of its parameters in order, four bytes each.
    pub params: &'static [&'static str],
}

/// What names a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PipelineKey {
    /// The op.
    pub kernel: &'static str,
    /// What fills its text.
    pub variant: Substitution,
}

pub(super) struct Pipeline {
    pub raw: wgpu::ComputePipeline,
    pub stores: bool,
    pub storage_layout: wgpu::BindGroupLayout,
    pub id: u64,
    pub name: &'static str,
}

#[derive(Default)]
pub(super) struct Pipelines(Mutex<HashMap<PipelineKey, Arc<Pipeline>>>);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

pub(super) fn params_layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("parameters"),
        entries: &[wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: true,
                min_binding_size: None,
            },
            count: None,
        }],
    })
}

impl Gpu {
    pub(super) fn pipeline(&self, kernel: &'static Kernel, variant: &Substitution) -> Result<Arc<Pipeline>> {
        let key = PipelineKey { kernel: kernel.source.name, variant: variant.clone() };
        let mut made = self.pipelines.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = made.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(self.compile(kernel, variant)?);
        made.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(&self, kernel: &'static Kernel, variant: &Substitution) -> Result<Pipeline> {
        let name = kernel.source.name;
        let text = resolve(kernel.source, variant, self.tier).map_err(Error::Internal)?;
        dump(name, variant, &text);
        let device = &self.device;
        let entries: Vec<wgpu::BindGroupLayoutEntry> = kernel
            .bindings
            .iter()
            .zip(0..)
            .filter(|(access, _)| **access != Access::Store || variant.stores())
            .map(|(access, binding)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: match (access, self.tier) {
                    (Access::Fetch, Tier::Software) if is_image(&text, binding) => wgpu::BindingType::StorageTexture {
                        access: wgpu::StorageTextureAccess::ReadOnly,
                        format: wgpu::TextureFormat::Rgba32Uint,
                        view_dimension: wgpu::TextureViewDimension::D2,
                    },
                    (Access::Fetch, Tier::Software) => wgpu::BindingType::Texture {
                        sample_type: wgpu::TextureSampleType::Uint,
                        view_dimension: wgpu::TextureViewDimension::D2,
                        multisampled: false,
                    },
                    (Access::Store, _) => wgpu::BindingType::StorageTexture {
                        access: wgpu::StorageTextureAccess::WriteOnly,
                        format: wgpu::TextureFormat::Rgba32Uint,
                        view_dimension: wgpu::TextureViewDimension::D2,
                    },
                    _ => wgpu::BindingType::Buffer {
                        ty: wgpu::BufferBindingType::Storage { read_only: *access != Access::Write },
                        has_dynamic_offset: false,
                        min_binding_size: None,
                    },
                },
                count: None,
            })
            .collect();
        // What the driver's compiler refuses is this shader's failure, not the device's.
        let refused = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let storage_layout =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(name), entries: &entries });
        let params = params_layout(device);
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(&storage_layout), Some(&params)],
            immediate_size: 0,
        });
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(text.into()) };
        let module = if self.checked_shaders {
            device.create_shader_module(descriptor)
        } else {
            // SAFETY: the checks that are left out guard against indices past a buffer, endless loops and zero divisors.
            // The sweep in tests/kernels runs every kernel without them and with them (GpuOptions::checked_shaders)
            // against its CPU twin over odd shapes, beside values that must not be read; every loop is bounded by a
            // parameter or a constant, every divisor is positive.
            unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let started = web_time::Instant::now();
        let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: false,
            },
            cache: self.store.as_ref().map(|store| &store.raw),
        });
        if let Some(store) = &self.store {
            store.compiled();
        }
        tracing::debug!(kernel = name, variant = ?variant.numbers, ms = started.elapsed().as_millis() as u64, "pipeline");
        let broken = move |error| Error::Internal(format!("the shader `{name}` does not compile: {error}"));
        let invalid = self.expect_none(scope, broken);
        // Both scopes end, whatever the first says.
        let refused = self.expect_none(refused, broken);
        invalid.and(refused)?;
        Ok(Pipeline {
            raw,
            stores: variant.stores(),
            storage_layout,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name,
        })
    }
}

/// Writes the shader as compiled to the folder named by `DUMP_WGSL`.
fn dump(name: &str, variant: &Substitution, text: &str) {
    let Some(folder) = std::env::var_os("DUMP_WGSL") else { return };
    let numbers: String = variant.numbers.iter().map(|(key, value)| format!("-{key}{value}")).collect();
    let decoder = variant.weights.first().and_then(|text| text.lines().next()).unwrap_or("");
    let format: String = decoder.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let path = std::path::Path::new(&folder).join(format!("{name}{numbers}{format}.wgsl"));
    if let Err(error) = std::fs::write(&path, text) {
        tracing::warn!("cannot write {}: {error}", path.display());
    }
}
