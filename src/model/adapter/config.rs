//! `adapter_config.json` of an adapter in PEFT's form.
//!
//! Invariant: a setting that would change what the adapter does is either honoured or refused by name.

use super::Adapter;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// What is honoured. Which matrices have factors is said by the tensors themselves.
#[derive(Deserialize)]
pub(super) struct Settings {
    pub r: usize,
    pub lora_alpha: f64,
    #[serde(default)]
    pub use_rslora: Option<bool>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Settings that have to be left at nothing, and what is supported in their place.
const REFUSED: [(&str, &str); 16] = [
    ("rank_pattern", "one r for all matrices"),
    ("alpha_pattern", "one lora_alpha for all matrices"),
    ("use_dora", "use_dora = false"),
    ("use_qalora", "use_qalora = false"),
    ("use_bdlora", "use_bdlora = null"),
    ("lora_bias", "lora_bias = false"),
    ("fan_in_fan_out", "fan_in_fan_out = false"),
    ("modules_to_save", "modules_to_save = null: factors alone"),
    ("layer_replication", "layer_replication = null"),
    ("trainable_token_indices", "trainable_token_indices = null"),
    ("target_parameters", "target_modules"),
    ("alora_invocation_tokens", "alora_invocation_tokens = null"),
    ("arrow_config", "arrow_config = null"),
    ("kasa_config", "kasa_config = null"),
    ("monteclora_config", "monteclora_config = null"),
    ("megatron_config", "megatron_config = null"),
];

/// Ways to begin that leave the model's own weights as they are; what PEFT calls `true` and `false` too.
const BEGINNINGS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

impl Settings {
    /// Refuses what is not done.
    fn check(&self, path: &Path) -> Result<()> {
        let refuse = |name: String, supported: &str| {
            Err(Error::Unsupported { what: "adapter setting", name, supported: supported.into() })
        };
        match self.others.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            other => return refuse(format!("peft_type = {}", other.unwrap_or("(none)")), "LORA"),
        }
        for (name, only) in [("task_type", "CAUSAL_LM"), ("bias", "none")] {
            let given = self.others.get(name).filter(|value| !value.is_null() && value.as_str() != Some(only));
            if let Some(value) = given {
                return refuse(format!("{name} = {value}"), only);
            }
        }
        for (name, supported) in REFUSED {
            if let Some(value) = self.others.get(name).filter(|value| !is_nothing(value)) {
                return refuse(format!("{name} = {value}"), supported);
            }
        }
        if let Some(Value::String(beginning)) = self.others.get("init_lora_weights")
            && !BEGINNINGS.contains(&beginning.as_str())
        {
            let supported = "true, false, gaussian, eva, orthogonal; for others convert it with PEFT's \
                `save_pretrained(path_initial_model_for_weight_conversion=...)`";
            return refuse(
                format!("init_lora_weights = {beginning}, which changes the model's own weights"),
                supported,
            );
        }
        if self.r == 0 || !self.lora_alpha.is_finite() {
            let what = format!("r is {} and lora_alpha {}: r must be positive, both finite", self.r, self.lora_alpha);
            return Err(Error::bad_file(path, what));
        }
        Ok(())
    }
}

/// Reads the bytes of an `adapter_config.json`; `path` is for errors.
pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Settings> {
    let settings: Settings = serde_json::from_slice(bytes)
        .map_err(|error| Error::bad_file(path, format!("malformed adapter_config.json: {error}")))?;
    settings.check(path)?;
    Ok(settings)
}

/// The file's text; `base` is the name of the model.
pub(super) fn write(adapter: &Adapter, base: &str) -> String {
    let alpha = if adapter.alpha.fract() == 0.0 { json!(adapter.alpha as i64) } else { json!(adapter.alpha) };
    let settings = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": alpha,
        "use_rslora": adapter.root,
        "target_modules": targets(adapter),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "modules_to_save": null,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_dora": false,
    });
    format!("{settings:#}\n")
}

/// The matrices that have factors: by the ends of their names, where every layer has them, else by their whole names.
fn targets(adapter: &Adapter) -> Vec<String> {
    let has = |module: &&super::Module| module.parts.iter().any(|&(tensor, _)| adapter.has(module.layer, tensor));
    let (given, left): (Vec<_>, Vec<_>) = adapter.modules.iter().partition(has);
    let mut targets: Vec<String> = given
        .into_iter()
        .map(|module| match left.iter().any(|other| other.stem() == module.stem()) {
            false => module.stem().to_owned(),
            true => module.name.clone(),
        })
        .collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}
