//! Shapes of known models, for measurements without their files.

use crate::config::{ModelConfig, RopeLayout};
use crate::error::{Error, Result};

/// Names of the shapes that [`by_name`] knows.
pub const NAMES: [&str; 4] = ["smollm2-135m", "tinyllama-1.1b", "llama-2-7b", "llama-3-8b"];

/// What sets a shape apart: the fields of the published `config.json`.
struct Sizes {
    hidden: usize,
    channels: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    vocab: usize,
    context: usize,
    rope_theta: f32,
    tied: bool,
}

/// The configuration of a known model.
///
/// # Errors
/// [`Error::Setting`] for a name that is not among [`NAMES`], with those that are.
pub fn by_name(name: &str) -> Result<ModelConfig> {
    let sizes = match name {
        "smollm2-135m" => Sizes {
            hidden: 576,
            channels: 1536,
            layers: 30,
            heads: 9,
            kv_heads: 3,
            vocab: 49_152,
            context: 8192,
            rope_theta: 1e5,
            tied: true,
        },
        "tinyllama-1.1b" => Sizes {
            hidden: 2048,
            channels: 5632,
            layers: 22,
            heads: 32,
            kv_heads: 4,
            vocab: 32_000,
            context: 2048,
            rope_theta: 1e4,
            tied: false,
        },
        "llama-2-7b" => Sizes {
            hidden: 4096,
            channels: 11_008,
            layers: 32,
            heads: 32,
            kv_heads: 32,
            vocab: 32_000,
            context: 4096,
            rope_theta: 1e4,
            tied: false,
        },
        "llama-3-8b" => Sizes {
            hidden: 4096,
            channels: 14_336,
            layers: 32,
            heads: 32,
            kv_heads: 8,
            vocab: 128_256,
            context: 8192,
            rope_theta: 5e5,
            tied: false,
        },
        _ => return Err(unknown(name)),
    };
    Ok(ModelConfig {
        architecture: "llama".into(),
        name: Some(name.into()),
        hidden_size: sizes.hidden,
        intermediate_size: sizes.channels,
        num_hidden_layers: sizes.layers,
        num_attention_heads: sizes.heads,
        num_key_value_heads: sizes.kv_heads,
        head_dim: sizes.hidden / sizes.heads,
        vocab_size: sizes.vocab,
        rms_norm_eps: 1e-5,
        rope_theta: sizes.rope_theta,
        rope_scaling: None,
        rope_layout: RopeLayout::Adjacent,
        max_position_embeddings: sizes.context,
        tie_word_embeddings: sizes.tied,
        blocks: Default::default(),
    })
}

fn unknown(name: &str) -> Error {
    let known = NAMES.join(", ");
    Error::Setting(match name.starts_with("opt-") {
        true => format!(
            "the shape `{name}` cannot run yet: OPT's blocks (LayerNorm, biases, learned positions, an MLP with ReLU) are not in the engine, they come later; shapes that run: {known}"
        ),
        false => format!("there is no shape `{name}`; shapes: {known}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_valid_and_have_the_sizes_in_their_names() {
        let parameters = |name: &str| {
            let config = by_name(name).unwrap();
            config.validate().unwrap();
            let (hidden, d) = (config.hidden_size, config.head_dim);
            let attention = 2 * hidden * d * (config.num_attention_heads + config.num_key_value_heads);
            let layer = attention + 3 * hidden * config.intermediate_size;
            let heads = if config.tie_word_embeddings { 1 } else { 2 };
            (config.num_hidden_layers * layer + heads * config.vocab_size * hidden) as f64
        };
        let millions = NAMES.map(|name| (parameters(name) / 1e6).round());
        assert_eq!(millions, [134.0, 1100.0, 6738.0, 8030.0]);
    }

    #[test]
    fn shapes_that_cannot_run_are_told_apart_from_unknown_ones() {
        let said = |name: &str| by_name(name).unwrap_err().to_string();
        assert!(said("opt-13b").contains("OPT's blocks") && said("opt-13b").contains("later"));
        assert!(said("gpt-5").contains("no shape `gpt-5`") && said("gpt-5").contains("llama-2-7b"));
    }
}
