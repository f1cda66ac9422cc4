//! The device that tests share, tiny models on it, and how far its results may lie from the reference's.
//! Without an adapter every test that asks for it fails.

use super::gguf_writer::GgufWriter;
use super::reference::Reference;
use super::tiny_model::TinySpec;
use secateur::config::ModelConfig;
use secateur::engine::Engine;
use secateur::gpu::{Gpu, GpuOptions};
use secateur::model::ModelFiles;
use std::sync::{Arc, LazyLock};

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(|| open(&GpuOptions::default()));

/// The shared device; its pipelines are compiled once.
pub fn gpu() -> Arc<Gpu> {
    GPU.clone()
}

/// A device of its own.
pub fn open(options: &GpuOptions) -> Arc<Gpu> {
    Gpu::open(options).unwrap_or_else(|error| panic!("these tests need a GPU adapter: {error}"))
}

/// A model in memory.
pub fn files(gguf: &GgufWriter) -> ModelFiles {
    ModelFiles::from_gguf_bytes("tiny.gguf", gguf.to_bytes()).expect("a well-formed model")
}

/// A model on a device.
pub fn load(gpu: &Arc<Gpu>, files: &ModelFiles) -> Arc<Engine> {
    Engine::load(gpu.clone(), files, &mut |_| Ok(())).expect("a model that fits the device")
}

/// A model on the shared device, beside its reference.
pub fn pair(files: &ModelFiles) -> (Arc<Engine>, Reference) {
    (load(&gpu(), files), Reference::new(files))
}

/// [`pair`] of a GGUF file.
pub fn tiny(spec: &TinySpec) -> (Arc<Engine>, Reference) {
    pair(&files(&spec.gguf()))
}

/// Numbers that look random (splitmix64), the same for ever.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as usize % limit
    }

    pub fn ids(&mut self, count: usize, vocab: usize) -> Vec<u32> {
        (0..count).map(|_| self.below(vocab) as u32).collect()
    }

    /// Samples of the given lengths.
    pub fn batch(&mut self, lengths: &[usize], vocab: usize) -> Vec<Vec<u32>> {
        lengths.iter().map(|&length| self.ids(length, vocab)).collect()
    }

    /// `count` of `0..total`, ascending.
    pub fn some_of(&mut self, count: usize, total: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..total as u32).collect();
        while all.len() > count {
            all.remove(self.below(all.len()));
        }
        all
    }
}

/// How far states and logits may lie from exact ones, relative to the largest.
///
/// With u = 2^-24, the rounding errors of a sum of n products add up like a random walk, to u sqrt(n) of the terms' norm,
/// whatever their order. A layer is a chain of eight such sums (two norms; q or k; scores; mixing; o; gate or up; down),
/// each of which adds an error of its own, independent of the others, to the stream; norm and head follow. That is
/// u sqrt(n) sqrt(8 L + 2), of which kernels that keep several partial sums need a third at most.
/// Decoding a weight is exact to one rounding in every format, as it is on the CPU, so that the tolerance is the same
/// for all: `every_format_from_either_file_gives_what_the_file_says` shows no format nearer to it than another.
pub fn tolerance(config: &ModelConfig, tokens: usize) -> f64 {
    let width = config.num_attention_heads * config.head_dim;
    let n = config.hidden_size.max(config.intermediate_size).max(width).max(tokens) as f64;
    let sums = 8.0 * config.num_hidden_layers as f64 + 2.0;
    2f64.powi(-24) * (n * sums).sqrt()
}

/// Largest difference, relative to the largest exact value.
pub fn difference(found: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(found.len(), exact.len());
    let scale = exact.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    found.iter().zip(exact).map(|(found, exact)| worst((f64::from(*found) - exact).abs())).fold(0.0, f64::max) / scale
}

/// NaN is lost by `max`; as infinity it is not.
fn worst(value: f64) -> f64 {
    if value.is_nan() { f64::INFINITY } else { value }
}

/// Fails with the first element that differs too much.
#[track_caller]
pub fn assert_close(found: &[f32], exact: &[f64], tolerance: f64, case: &str) {
    if difference(found, exact) <= tolerance {
        return;
    }
    let scale = exact.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let far = |&i: &usize| worst((f64::from(found[i]) - exact[i]).abs()) > tolerance * scale;
    let at = (0..exact.len()).find(far).expect("a difference");
    let (found_at, exact_at) = (found[at], exact[at]);
    panic!("{case}: element {at} is {found_at}, should be {exact_at}; tolerance {tolerance:.2e} of {scale}");
}
