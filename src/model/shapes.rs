//! Shapes of known models, for measurements without their files.

use crate::config::{Family, ModelConfig};
use crate::error::{Error, Result};

/// Names of the shapes that [`by_name`] knows.
pub const NAMES: [&str; 6] = ["smollm2-135m", "tinyllama-1.1b", "llama-2-7b", "llama-3-8b", "opt-125m", "opt-13b"];

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
        "opt-125m" => opt(768, 12, 12),
        "opt-13b" => opt(5120, 40, 40),
        _ => {
            let known = NAMES.join(", ");
            return Err(Error::Setting(format!("there is no shape `{name}`; shapes: {known}")));
        }
    };
    let family = match name.starts_with("opt-") {
        true => "opt",
        false => "llama",
    };
    let family = Family::by_gguf(family).ok_or_else(|| Error::Internal(format!("no family of the shape `{name}`")))?;
    Ok(ModelConfig {
        architecture: family.model_type.into(),
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
        rope_layout: family.gguf_layout,
        max_position_embeddings: sizes.context,
        tie_word_embeddings: sizes.tied,
        position_offset: family.position_offset,
        word_embed_proj_dim: None,
        blocks: family.blocks(sizes.layers),
    })
}

/// All of OPT but the 350M one are alike: as many key/value heads as query heads, MLPs four times as wide as the state.
fn opt(hidden: usize, layers: usize, heads: usize) -> Sizes {
    Sizes {
        hidden,
        channels: 4 * hidden,
        layers,
        heads,
        kv_heads: heads,
        vocab: 50_272,
        context: 2048,
        rope_theta: 1e4,
        tied: true,
    }
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
            let layer = attention + (1 + config.blocks.mlp.matrices()) * hidden * config.intermediate_size;
            let heads = if config.tie_word_embeddings { 1 } else { 2 };
            (config.num_hidden_layers * layer + heads * config.vocab_size * hidden) as f64
        };
        let millions = NAMES.map(|name| (parameters(name) / 1e6).round());
        assert_eq!(millions, [134.0, 1100.0, 6738.0, 8030.0, 124.0, 12840.0]);
    }

    #[test]
    fn an_unknown_shape_is_told_those_that_are_known() {
        let said = by_name("gpt-5").unwrap_err().to_string();
        assert!(said.contains("no shape `gpt-5`") && said.contains("llama-2-7b"), "{said}");
    }
}
