//! The shape of SmolLM2 135M, for tests that need a real one without its weights.

use secateur::config::{ModelConfig, RopeLayout};

/// As its files say.
pub fn config() -> ModelConfig {
    ModelConfig {
        architecture: "llama".into(),
        name: None,
        hidden_size: 576,
        intermediate_size: 1536,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        head_dim: 64,
        vocab_size: 49152,
        rms_norm_eps: 1e-5,
        rope_theta: 1e5,
        rope_scaling: None,
        rope_layout: RopeLayout::Adjacent,
        max_position_embeddings: 8192,
        tie_word_embeddings: true,
        position_offset: None,
        word_embed_proj_dim: None,
        blocks: Default::default(),
    }
}
