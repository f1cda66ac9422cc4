//! The `config.json` of a model whose GGUF file is written as a Hugging Face folder.
//!
//! Invariant: what is written is read back and says the same as the GGUF file; what cannot be said is refused by name.

use crate::config::{FAMILIES, Family, ModelConfig, RopeLayout, RopeScaling, SlidingLayers};
use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::model::ModelFiles;
use crate::model::safetensors::parse_config;
use serde_json::{Value, json};
use std::path::Path;

/// Factors of LLaMA-3's scaling that published models have; GGUF files hold only what follows from them.
const LLAMA3_FACTORS: [f32; 2] = [8.0, 32.0];

/// The file's text, for matrices of this format.
pub(super) fn write(files: &ModelFiles, format: WeightFormat) -> Result<String> {
    let config = &files.config;
    let refuse = |name: String| {
        Err(Error::Unsupported {
            what: "in a Hugging Face folder made of a GGUF file",
            name,
            supported: "what a config.json of the family says; `secateur convert --lora` writes a GGUF file".into(),
        })
    };
    let Some(family) = folder_family(config) else { return refuse(config.family_name().to_owned()) };
    let scaling = match &config.rope_scaling {
        Some(RopeScaling::Factors(factors)) => match llama3(config, factors) {
            Some(scaling) => Some(scaling),
            None => return refuse("rope_freqs.weight of no known scaling".into()),
        },
        other => other.clone(),
    };
    let type_name = match format {
        WeightFormat::F32 => "float32",
        WeightFormat::Bf16 => "bfloat16",
        _ => "float16",
    };
    let mut value = json!({
        "architectures": [family.class],
        "model_type": family.model_type,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": shortest(config.rms_norm_eps),
        "rope_theta": shortest(config.rope_theta),
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": files.text.bos_token_id,
        "eos_token_id": files.text.eos_token_ids,
        "pad_token_id": null,
        "torch_dtype": type_name,
    });
    if let Some(scaling) = &scaling {
        value["rope_scaling"] = scaling_json(scaling);
    }
    if family.sliding_layers == SlidingLayers::All {
        value["sliding_window"] = json!(config.blocks.sliding_window);
    }
    if family.no_rope_layer_interval.is_some() {
        let flag = |layer| u8::from(config.blocks.has_rope(layer));
        value["no_rope_layers"] = (0..config.num_hidden_layers).map(flag).collect();
    }
    let text = format!("{value:#}\n");
    let read = parse_config(text.as_bytes(), Path::new("config.json"))?;
    let expected = ModelConfig {
        architecture: family.model_type.into(),
        name: None,
        rope_layout: RopeLayout::Halves,
        rope_scaling: scaling,
        ..config.clone()
    };
    match read == expected {
        true => Ok(text),
        false => refuse(format!("this {}: its config.json would say something else", config.family_name())),
    }
}

/// The family by whose class a folder goes; OPT's folders say more than its files.
fn folder_family(config: &ModelConfig) -> Option<&'static Family> {
    let family = config.family().filter(|family| family.model_type != "opt")?;
    // Mistral's files call themselves LLaMA's.
    let windowed = family.sliding_layers == SlidingLayers::None && config.blocks.sliding_window.is_some();
    if windowed { FAMILIES.iter().find(|family| family.model_type == "mistral") } else { Some(family) }
}

/// The scaling that has these factors, if it is a known one.
fn llama3(config: &ModelConfig, factors: &[f32]) -> Option<RopeScaling> {
    LLAMA3_FACTORS.into_iter().find_map(|factor| {
        let scaling = RopeScaling::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192.0,
        };
        let made = ModelConfig { rope_scaling: Some(scaling.clone()), ..config.clone() }.rope_factors()?;
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs();
        (made.len() == factors.len() && made.iter().zip(factors).all(near)).then_some(scaling)
    })
}

fn scaling_json(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": shortest(*factor)}),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => json!({
            "rope_type": "llama3",
            "factor": shortest(*factor),
            "low_freq_factor": shortest(*low_freq_factor),
            "high_freq_factor": shortest(*high_freq_factor),
            // transformers wants a whole number.
            "original_max_position_embeddings": *original_max_position_embeddings as u64,
        }),
        RopeScaling::Factors(_) => Value::Null,
    }
}

/// A number of 32 bits in as few digits as tell it apart: 1e-5, and not 9.99999974e-6.
fn shortest(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}
