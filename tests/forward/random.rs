//! Models of random weights: a real shape without a file.

use super::{open, sequences};
use crate::common::device::{Random, gpu};
use secateur::config::{ModelConfig, Norms};
use secateur::engine::{Engine, Scorer};
use secateur::format::WeightFormat;
use secateur::gpu::GpuOptions;
use secateur::model::shapes;
use secateur::prune::Dense;

/// A known shape, made small.
fn small() -> ModelConfig {
    ModelConfig {
        hidden_size: 128,
        intermediate_size: 320,
        num_hidden_layers: 12,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        vocab_size: 512,
        tie_word_embeddings: false,
        ..shapes::by_name("llama-3-8b").unwrap()
    }
}

/// The shape with rows of whole blocks.
fn filled(config: ModelConfig, format: WeightFormat) -> ModelConfig {
    let block = format.block().0;
    let head_dim = config.head_dim.next_multiple_of(block / config.num_attention_heads.min(block));
    let [hidden_size, intermediate_size] =
        [config.hidden_size, config.intermediate_size].map(|width| width.next_multiple_of(block));
    ModelConfig { head_dim, hidden_size, intermediate_size, ..config }
}

#[test]
fn a_format_whose_blocks_do_not_fill_the_rows_is_refused() {
    let refused = Engine::random(gpu(), &small(), WeightFormat::Q4K, &mut |_| panic!("nothing may be made"));
    let said = refused.err().expect("a refusal").to_string();
    for part in ["Q4_K", "blocks of 256", "hidden size of 128", "Q4_1", "Q5_0"] {
        assert!(said.contains(part), "{part} in: {said}");
    }
    assert!(!said.contains("Q6_K"), "{said}");
}

#[test]
fn states_neither_vanish_nor_explode() {
    let ids = Random(3).ids(9, small().vocab_size);
    for format in WeightFormat::ALL {
        let config = filled(small(), format);
        let mut shares = Vec::new();
        let engine = Engine::random(gpu(), &config, format, &mut |share| {
            shares.push(share);
            Ok(())
        });
        let engine = engine.unwrap();
        assert!(shares.len() == 12 && shares.last() == Some(&1.0), "{shares:?}");
        let bytes = secateur::model::ModelWeights::random_bytes(&config, format);
        let weights = engine.weights();
        let layers = weights.layers.iter().map(|layer| {
            let attention = layer.qkv.bytes() + layer.o.bytes();
            attention + layer.mlp.bytes() + layer.down.bytes()
        });
        let made = layers.sum::<u64>() + weights.embedding.bytes() + weights.head().bytes();
        // Floats have no scales, but every plane is a buffer of 16 bytes at least.
        assert!((bytes..=bytes + 16 * (2 + 7 * 12)).contains(&made), "{made} for {bytes} of {}", format.name());

        let mut scorer = Scorer::new(&engine, 1, ids.len()).unwrap();
        scorer.nll(std::slice::from_ref(&ids), &mut Dense).unwrap();
        let residual = scorer.residual(ids.len()).unwrap();
        let size = (residual.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / residual.len() as f64).sqrt();
        assert!((0.05..50.0).contains(&size), "{}: a residual stream of size {size}", format.name());
        let logits = sequences(&engine, 1, 16).prefill(std::slice::from_ref(&ids)).unwrap().remove(0);
        let spread = logits.iter().copied().fold(f32::MIN, f32::max) - logits.iter().copied().fold(f32::MAX, f32::min);
        assert!(logits.iter().all(|logit| logit.is_finite()) && spread > 0.5, "{}: {spread}", format.name());
    }
}

/// OPT's shapes run too, before and behind, with embeddings of another width.
#[test]
fn shapes_of_opt_run() {
    let opt = ModelConfig {
        hidden_size: 128,
        intermediate_size: 320,
        num_hidden_layers: 12,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: 32,
        vocab_size: 512,
        max_position_embeddings: 64,
        ..shapes::by_name("opt-13b").unwrap()
    };
    let mut behind = ModelConfig { word_embed_proj_dim: Some(64), ..opt.clone() };
    behind.blocks.norms = Norms::LayerBehind;
    for config in [opt, behind] {
        let engine = Engine::random(gpu(), &config, WeightFormat::F16, &mut |_| Ok(())).unwrap();
        let weights = engine.weights();
        let layers = weights.layers.iter();
        let layers = layers.map(|layer| layer.qkv.bytes() + layer.o.bytes() + layer.mlp.bytes() + layer.down.bytes());
        let projections =
            [&weights.project_in, &weights.project_out].into_iter().flatten().map(|weight| weight.bytes());
        let positions = weights.positions.as_ref().unwrap().bytes();
        let made = layers.sum::<u64>() + weights.embedding.bytes() + projections.sum::<u64>() + positions;
        let bytes = secateur::model::ModelWeights::random_bytes(&config, WeightFormat::F16);
        assert!((bytes..=bytes + 16 * (3 + 4 * 12)).contains(&made), "{made} for {bytes}");
        let logits = sequences(&engine, 1, 16).prefill(&[vec![1, 2, 3]]).unwrap().remove(0);
        let spread = logits.iter().copied().fold(f32::MIN, f32::max) - logits.iter().copied().fold(f32::MAX, f32::min);
        assert!(logits.iter().all(|logit| logit.is_finite()) && spread > 0.5, "{spread}");
    }
}

#[test]
fn a_model_is_the_same_whenever_it_is_made() {
    let (config, ids) = (small(), Random(4).ids(6, 512));
    let logits = || {
        let engine = Engine::random(gpu(), &config, WeightFormat::Q4_0, &mut |_| Ok(())).unwrap();
        sequences(&engine, 1, 8).prefill(std::slice::from_ref(&ids)).unwrap()
    };
    assert_eq!(logits(), logits());
}

#[test]
fn weights_larger_than_a_binding_are_cut() {
    let narrow = open(&GpuOptions { max_binding: Some(40_000), ..GpuOptions::default() });
    let engine = Engine::random(narrow, &small(), WeightFormat::F16, &mut |_| Ok(())).unwrap();
    let weights = engine.weights();
    let halves: Vec<usize> = weights.layers[0].mlp.matrices().iter().map(|weight| weight.shards.len()).collect();
    assert!(weights.embedding.shards.len() > 1 && halves[0] > 1);
    assert_eq!(halves, [halves[0]; 2]);
    let logits = sequences(&engine, 1, 8).prefill(&[vec![1, 2, 3]]).unwrap();
    assert!(logits[0].iter().all(|logit| logit.is_finite()));
}

#[test]
fn a_shape_beyond_the_memory_is_refused_before_it_is_made() {
    let Some(available) = gpu().memory_available() else {
        eprintln!("skipped: this device does not say how much memory is left");
        return;
    };
    let huge = ModelConfig { num_hidden_layers: 1 << 20, ..shapes::by_name("llama-2-7b").unwrap() };
    let needed = secateur::model::ModelWeights::random_bytes(&huge, WeightFormat::F32);
    assert!(needed > available);
    let refused = Engine::random(gpu(), &huge, WeightFormat::F32, &mut |_| panic!("nothing may be made"));
    let said = refused.err().expect("a refusal").to_string();
    assert!(said.contains(&needed.to_string()) && said.contains("free memory"), "{said}");
}
