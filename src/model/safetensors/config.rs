//! `config.json` of a model in Hugging Face's format.
//!
//! Invariant: a setting that would change what the network computes is either honoured or refused by name.

use super::parse_json;
use crate::config::{Blocks, Family, MlpKind, ModelConfig, Norms, RopeLayout, RopeScaling, SlidingLayers};
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer};
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
    /// OPT's name is the second.
    #[serde(alias = "ffn_dim")]
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
    /// OPT's name is the second.
    #[serde(alias = "activation_function")]
    hidden_act: Option<String>,
    do_layer_norm_before: Option<bool>,
    #[serde(rename = "_remove_final_layer_norm")]
    remove_final_layer_norm: Option<bool>,
    layer_norm_elementwise_affine: Option<bool>,
    enable_bias: Option<bool>,
    word_embed_proj_dim: Option<usize>,
    use_sliding_window: Option<bool>,
    /// Told apart: not there, and there as null, which means none.
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<usize>>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    /// 1 = the layer has rope.
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<usize>,
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

/// A field that is there, whatever it holds.
fn present<'de, D: Deserializer<'de>>(field: D) -> std::result::Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(field).map(Some)
}

/// Reads the bytes of a `config.json`; `path` is for errors.
pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<ModelConfig> {
    let raw: RawConfig = parse_json(bytes, path)?;
    let family = family(&raw)?;
    refuse_variants(&raw, family)?;
    let defaults = family.defaults;
    let rope = raw.rope_parameters.as_ref().or(raw.rope_scaling.as_ref());
    let head_dim = match raw.head_dim.or(defaults.head_dim) {
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
    let blocks = blocks(&raw, family, path)?;
    Ok(ModelConfig {
        architecture: family.model_type.into(),
        name: raw.name.filter(|name| !name.is_empty()),
        hidden_size: raw.hidden_size,
        intermediate_size: raw.intermediate_size,
        num_hidden_layers: raw.num_hidden_layers,
        num_attention_heads: raw.num_attention_heads,
        num_key_value_heads: match raw.num_key_value_heads {
            Some(heads) => heads,
            None => defaults.num_key_value_heads.unwrap_or(raw.num_attention_heads),
        },
        head_dim,
        vocab_size: raw.vocab_size,
        rms_norm_eps: raw.rms_norm_eps.unwrap_or(defaults.rms_norm_eps),
        rope_theta: rope.and_then(|rope| rope.rope_theta).or(raw.rope_theta).unwrap_or(defaults.rope_theta),
        rope_scaling: rope.map(|rope| rope_scaling(rope, path)).transpose()?.flatten(),
        rope_layout: RopeLayout::Halves,
        max_position_embeddings: raw.max_position_embeddings.unwrap_or(defaults.max_position_embeddings),
        tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(defaults.tie_word_embeddings),
        position_offset: family.position_offset,
        word_embed_proj_dim: raw.word_embed_proj_dim.filter(|&width| width != raw.hidden_size),
        blocks,
    })
}

fn family(raw: &RawConfig) -> Result<&'static Family> {
    let class = raw.architectures.as_ref().and_then(|names| names.first()).map(String::as_str);
    let model_type = raw.model_type.as_deref();
    Family::by_class(class, model_type).ok_or_else(|| Error::Unsupported {
        what: "architecture",
        name: class.or(model_type).unwrap_or("(none named)").to_owned(),
        supported: Family::class_names(),
    })
}

/// What the family's blocks have in this model: which layers have rope, which a window, as transformers reads the file.
fn blocks(raw: &RawConfig, family: &Family, path: &Path) -> Result<Blocks> {
    let bad = |what: String| Err(Error::bad_file(path, what));
    // `validate` refuses more layers than this afterwards; a list of them is short until then.
    let layers = raw.num_hidden_layers.min(1 << 16);
    let mut blocks = family.blocks(layers);
    if blocks.norms == Norms::LayerBefore && raw.do_layer_norm_before == Some(false) {
        blocks.norms = Norms::LayerBehind;
    }
    if family.no_rope_layer_interval.is_some() {
        let listed = |list: &[u8]| (0..layers).filter(|&layer| list[layer] == 0).collect();
        match (&raw.no_rope_layers, raw.no_rope_layer_interval) {
            (Some(list), _) if list.len() < layers => {
                return bad(format!("no_rope_layers has {} items for {layers} layers", list.len()));
            }
            (Some(list), _) => blocks.no_rope_layers = listed(list),
            (None, Some(0)) => return bad("no_rope_layer_interval is 0; it must be positive".into()),
            (None, Some(interval)) => {
                blocks.no_rope_layers = (0..layers).filter(|layer| (layer + 1).is_multiple_of(interval)).collect();
            }
            (None, None) => {}
        }
    }
    let by_choice = matches!(family.sliding_layers, SlidingLayers::From(_) | SlidingLayers::WithoutRope);
    let wanted = family.sliding_layers == SlidingLayers::All || (by_choice && raw.use_sliding_window == Some(true));
    let window = raw.sliding_window.unwrap_or(family.defaults.sliding_window).filter(|_| wanted);
    let Some(window) = window else { return Ok(blocks) };
    blocks.full_attention_layers = match (family.sliding_layers, &raw.layer_types) {
        (SlidingLayers::None | SlidingLayers::All, _) => Vec::new(),
        (_, Some(types)) => full_layers(types, layers, path)?,
        (SlidingLayers::From(first), None) => (0..layers.min(raw.max_window_layers.unwrap_or(first))).collect(),
        (SlidingLayers::WithoutRope, None) => (0..layers).filter(|&layer| blocks.has_rope(layer)).collect(),
    };
    if blocks.full_attention_layers.len() < layers {
        blocks.sliding_window = Some(window);
    } else {
        blocks.full_attention_layers.clear();
    }
    Ok(blocks)
}

/// The layers that `layer_types` gives full attention.
fn full_layers(types: &[String], layers: usize, path: &Path) -> Result<Vec<usize>> {
    if types.len() != layers {
        return Err(Error::bad_file(path, format!("layer_types has {} items for {layers} layers", types.len())));
    }
    let mut full = Vec::new();
    for (layer, kind) in types.iter().enumerate() {
        match kind.as_str() {
            "full_attention" => full.push(layer),
            "sliding_attention" => {}
            other => {
                return Err(Error::Unsupported {
                    what: "layer type",
                    name: other.to_owned(),
                    supported: "full_attention, sliding_attention".into(),
                });
            }
        }
    }
    Ok(full)
}

fn refuse_variants(raw: &RawConfig, family: &Family) -> Result<()> {
    let refuse = |name: String, supported: &str| {
        Err(Error::Unsupported { what: "model setting", name, supported: supported.into() })
    };
    if raw.attention_bias == Some(true) {
        return refuse("attention_bias = true".into(), "projections without biases");
    }
    if raw.mlp_bias == Some(true) {
        return refuse("mlp_bias = true".into(), "projections without biases");
    }
    let activation = match family.mlp {
        MlpKind::SwiGlu => "silu",
        MlpKind::Relu => "relu",
    };
    if let Some(other) = raw.hidden_act.as_deref().filter(|&name| name != activation) {
        return refuse(format!("hidden_act = {other}"), activation);
    }
    // Of OPT's relatives, such as Galactica.
    if raw.remove_final_layer_norm == Some(true) {
        return refuse("_remove_final_layer_norm = true".into(), "a last norm");
    }
    if raw.layer_norm_elementwise_affine == Some(false) {
        return refuse("layer_norm_elementwise_affine = false".into(), "norms with scale and shift");
    }
    if raw.enable_bias == Some(false) {
        return refuse("enable_bias = false".into(), "projections with biases");
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
