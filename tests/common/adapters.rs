//! Adapters with random factors for tiny models.

use super::device::Random;
use secateur::config::ModelConfig;
use secateur::model::adapter::{Adapter, Factors, FactorsByMatrix};
use secateur::model::{LayerTensor, ModelFiles};
use std::path::Path;

/// Rows and columns of a matrix.
pub fn shape(config: &ModelConfig, tensor: LayerTensor) -> [usize; 2] {
    let query = config.num_attention_heads * config.head_dim;
    let key = config.num_key_value_heads * config.head_dim;
    match tensor {
        LayerTensor::Q => [query, config.hidden_size],
        LayerTensor::K | LayerTensor::V => [key, config.hidden_size],
        LayerTensor::O => [config.hidden_size, query],
        LayerTensor::Down => [config.hidden_size, config.intermediate_size],
        _ => [config.intermediate_size, config.hidden_size],
    }
}

fn values(random: &mut Random, count: usize, size: f32) -> Vec<f32> {
    (0..count).map(|_| size * (random.below(1 << 16) as f32 / (1 << 15) as f32 - 1.0)).collect()
}

/// Factors of these matrices, large enough to matter. What is one matrix in a folder has one `a`.
pub fn factors(config: &ModelConfig, rank: usize, matrices: &[(usize, LayerTensor)]) -> FactorsByMatrix {
    let of = |&(layer, tensor): &(usize, LayerTensor)| {
        let [rows, cols] = shape(config, tensor);
        let first = match tensor {
            LayerTensor::K | LayerTensor::V if config.blocks.fused => LayerTensor::Q,
            LayerTensor::Up if config.blocks.fused => LayerTensor::Gate,
            other => other,
        };
        let a = values(&mut Random((100 * layer + first as usize) as u64), rank * cols, (1.0 / cols as f32).sqrt());
        let b = values(&mut Random((9000 + 100 * layer + tensor as usize) as u64), rows * rank, 0.8);
        ((layer, tensor), Factors { a, b })
    };
    matrices.iter().map(of).collect()
}

/// Every matrix of a model.
pub fn matrices(config: &ModelConfig) -> Vec<(usize, LayerTensor)> {
    let there = |tensor: &LayerTensor| tensor.is_in(&config.blocks);
    (0..config.num_hidden_layers)
        .flat_map(|layer| LayerTensor::MATRICES.into_iter().filter(there).map(move |tensor| (layer, tensor)))
        .collect()
}

/// An adapter of every matrix.
pub fn adapter(config: &ModelConfig) -> Adapter {
    Adapter::new(config, 3, 5.0, factors(config, 3, &matrices(config))).expect("an adapter that fits")
}

/// Writes an adapter of a model.
pub fn save_adapter(folder: &Path, files: &ModelFiles, adapter: &Adapter) {
    adapter.save(folder, "tiny", &files.base_sha256().expect("a hash")).expect("a folder that can be written");
}
