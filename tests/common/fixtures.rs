//! What the fixtures have in common that Python made: models by transformers' configuration and a seed, values as little-endian
//! floats.

use super::tiny_model::TinySpec;
use secateur::config::{Family, Norms};
use serde_json::{Value, json};

/// The model of `config`, as transformers writes it, with the weights of `seed`; its blocks know no window.
pub fn spec(config: &Value, seed: u64) -> TinySpec {
    let number = |name: &str| config[name].as_u64().map(|value| value as usize);
    let (hidden, heads) = (number("hidden_size").unwrap(), number("num_attention_heads").unwrap());
    let family = Family::by_class(config["architectures"][0].as_str(), None).unwrap();
    let base = TinySpec {
        hidden,
        heads,
        layers: number("num_hidden_layers").unwrap(),
        kv_heads: number("num_key_value_heads").unwrap_or(heads),
        head_dim: number("head_dim").unwrap_or(hidden / heads),
        channels: number("intermediate_size").or(number("ffn_dim")).unwrap(),
        embedded: number("word_embed_proj_dim").filter(|&width| width != hidden),
        vocab: number("vocab_size").unwrap(),
        // What is left out is the default of the class.
        tied: config["tie_word_embeddings"].as_bool().unwrap_or(family.defaults.tie_word_embeddings),
        seed,
        ..TinySpec::default()
    };
    let mut spec = TinySpec::of(family.gguf.unwrap_or("llama"), base);
    if config["do_layer_norm_before"] == json!(false) {
        spec.blocks.norms = Norms::LayerBehind;
    }
    spec
}

/// The floats of a tensor.
pub fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<4>().0.iter().map(|&value| f64::from(f32::from_le_bytes(value))).collect()
}
