//! `config.json` of a LLaMA in Hugging Face's format.
//!
//! Invariant: a setting that would change what the network computes is either honoured or refused by name.

use super::parse_json;
use crate::config::{ModelConfig, RopeLayout, RopeScaling};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The fields that matter; `None` where absent or null.
#[derive(Deserialize)]
struct RawConfig {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    #[serde(rename = "_name_or_path")]
    name: Option<String>,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    rms_norm_eps: Option<f32>,
    rope_theta: Option<f32>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    partial_rotary_factor: Option<f32>,
    max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    hidden_act: Option<String>,
    quantization_config: Option<Value>,
}

/// `rope_scaling`, or the newer `rope_parameters`, which holds the base too.
#[derive(Deserialize)]
struct RawRope {
    /// The kind, in files of today.
    rope_type: Option<String>,
    /// The kind, in older files.
    #[serde(rename = "type")]
    old_type: Option<String>,
    rope_theta: Option<f32>,
    partial_rotary_factor: Option<f32>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<f32>,
}

/// Defaults of `LlamaConfig` in transformers, which leaves them out of the file.
const DEFAULT_EPS: f32 = 1e-6;
const DEFAULT_THETA: f32 = 10_000.0;
const DEFAULT_POSITIONS: usize = 2048;

/// Reads the bytes of a `config.json`; `path` is for errors.
pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<ModelConfig> {
    let raw: RawConfig = parse_json(bytes, path)?;
    let architecture = architecture(&raw)?;
    refuse_variants(&raw)?;
    let rope = raw.rope_parameters.as_ref().or(raw.rope_scaling.as_ref());
    let head_dim = match raw.head_dim {
        Some(head_dim) => head_dim,
        None if raw.num_attention_heads == 0 || !raw.hidden_size.is_multiple_of(raw.num_attention_heads) => {
            return Err(Error::bad_file(
                path,
                format!(
                    "a hidden_size of {} cannot be shared by {} heads, and there is no head_dim",
                    raw.hidden_size, raw.num_attention_heads
                ),
            ));
        }
        None => raw.hidden_size / raw.num_attention_heads,
    };
    Ok(ModelConfig {
        architecture,
        name: raw.name.filter(|name| !name.is_empty()),
        hidden_size: raw.hidden_size,
        intermediate_size: raw.intermediate_size,
        num_hidden_layers: raw.num_hidden_layers,
        num_attention_heads: raw.num_attention_heads,
        num_key_value_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
        head_dim,
        vocab_size: raw.vocab_size,
        rms_norm_eps: raw.rms_norm_eps.unwrap_or(DEFAULT_EPS),
        rope_theta: rope.and_then(|rope| rope.rope_theta).or(raw.rope_theta).unwrap_or(DEFAULT_THETA),
        rope_scaling: rope.map(|rope| rope_scaling(rope, path)).transpose()?.flatten(),
        rope_layout: RopeLayout::Halves,
        max_position_embeddings: raw.max_position_embeddings.unwrap_or(DEFAULT_POSITIONS),
        tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(false),
    })
}

fn architecture(raw: &RawConfig) -> Result<String> {
    let class = raw.architectures.as_ref().and_then(|names| names.first());
    match (class.map(String::as_str), raw.model_type.as_deref()) {
        (Some("LlamaForCausalLM"), _) | (None, Some("llama")) => Ok("llama".into()),
        (class, model_type) => Err(Error::Unsupported {
            what: "architecture",
            name: class.or(model_type).unwrap_or("(none named)").to_owned(),
            supported: "LlamaForCausalLM".into(),
        }),
    }
}

fn refuse_variants(raw: &RawConfig) -> Result<()> {
    let refuse = |name: String, supported: &str| {
        Err(Error::Unsupported { what: "model setting", name, supported: supported.into() })
    };
    if raw.attention_bias == Some(true) {
        return refuse("attention_bias = true".into(), "projections without biases");
    }
    if raw.mlp_bias == Some(true) {
        return refuse("mlp_bias = true".into(), "projections without biases");
    }
    if let Some(activation) = raw.hidden_act.as_deref().filter(|&name| name != "silu") {
        return refuse(format!("hidden_act = {activation}"), "silu");
    }
    if let Some(quantization) = &raw.quantization_config {
        let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
        return refuse(format!("quantization_config ({method})"), "F32, F16 or BF16 weights, or a GGUF file");
    }
    let in_rope = raw.rope_parameters.as_ref().or(raw.rope_scaling.as_ref());
    let share = raw.partial_rotary_factor.or(in_rope.and_then(|rope| rope.partial_rotary_factor));
    match share {
        Some(share) if share != 1.0 => refuse(format!("partial_rotary_factor = {share}"), "1"),
        _ => Ok(()),
    }
}

fn rope_scaling(raw: &RawRope, path: &Path) -> Result<Option<RopeScaling>> {
    let positive = |name: &str, value: Option<f32>| match value {
        Some(value) if value > 0.0 && value.is_finite() => Ok(value),
        Some(value) => Err(Error::bad_file(path, format!("rope {name} is {value}; it must be positive and finite"))),
        None => Err(Error::bad_file(path, format!("rope scaling lacks `{name}`"))),
    };
    match raw.rope_type.as_deref().or(raw.old_type.as_deref()) {
        None | Some("default") => Ok(None),
        Some("linear") => Ok(Some(RopeScaling::Linear { factor: positive("factor", raw.factor)? })),
        Some("llama3") => {
            let low_freq_factor = positive("low_freq_factor", raw.low_freq_factor)?;
            let high_freq_factor = positive("high_freq_factor", raw.high_freq_factor)?;
            if low_freq_factor >= high_freq_factor {
                return Err(Error::bad_file(
                    path,
                    format!("rope low_freq_factor {low_freq_factor} is not below high_freq_factor {high_freq_factor}"),
                ));
            }
            Ok(Some(RopeScaling::Llama3 {
                factor: positive("factor", raw.factor)?,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: positive(
                    "original_max_position_embeddings",
                    raw.original_max_position_embeddings,
                )?,
            }))
        }
        Some(other) => Err(Error::Unsupported {
            what: "rope scaling",
            name: other.to_owned(),
            supported: "default, linear, llama3".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with(extra: &str) -> Result<ModelConfig> {
        let text = format!(
            r#"{{"architectures":["LlamaForCausalLM"],"hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,
            "num_attention_heads":4,"vocab_size":300{extra}}}"#
        );
        parse(text.as_bytes(), Path::new("config.json"))
    }

    #[test]
    fn absent_fields_take_the_defaults_of_transformers() {
        let config = parse_with("").unwrap();
        assert_eq!((config.num_key_value_heads, config.head_dim, config.tie_word_embeddings), (4, 16, false));
        assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 10_000.0));
        assert_eq!(config.rope_scaling, None);
    }

    #[test]
    fn rope_scaling_is_read_in_its_three_spellings() {
        let linear = Some(RopeScaling::Linear { factor: 2.0 });
        for text in [
            r#","rope_scaling":{"type":"linear","factor":2.0}"#,
            r#","rope_scaling":{"rope_type":"linear","factor":2}"#,
            r#","rope_parameters":{"rope_type":"linear","factor":2.0,"rope_theta":10000}"#,
        ] {
            assert_eq!(parse_with(text).unwrap().rope_scaling, linear, "{text}");
        }
        let llama3 = parse_with(
            r#","rope_parameters":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
            "original_max_position_embeddings":8192,"rope_theta":500000.0}"#,
        )
        .unwrap();
        assert_eq!(llama3.rope_theta, 500_000.0);
        assert_eq!(
            llama3.rope_scaling,
            Some(RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192.0
            })
        );
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (text, word) in [
            (r#","attention_bias":true"#, "attention_bias"),
            (r#","mlp_bias":true"#, "mlp_bias"),
            (r#","hidden_act":"gelu""#, "gelu"),
            (r#","partial_rotary_factor":0.5"#, "partial_rotary_factor"),
            (r#","quantization_config":{"quant_method":"gptq"}"#, "gptq"),
            (r#","rope_scaling":{"rope_type":"yarn","factor":2.0}"#, "yarn"),
        ] {
            let error = parse_with(text).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
        for text in [
            r#","rope_scaling":{"rope_type":"linear"}"#,
            r#","rope_scaling":{"rope_type":"linear","factor":-1}"#,
            r#","rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4}"#,
            r#","num_key_value_heads":-1"#,
        ] {
            assert!(matches!(parse_with(text), Err(Error::BadFile { .. })), "{text}");
        }
    }
}
