//! Rows of a table whose units come from a file, and whose weights may have an adapter.

use super::spec::{Arm, named};
use crate::config::{Method, ModelConfig, PruneConfig};
use crate::error::{Error, Result};
use crate::prune::UnitSets;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Units of a file that are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunedSpec {
    /// What it is called in the table; what made the units where left out.
    #[serde(default)]
    pub name: Option<String>,
    /// The file of units.
    pub masks: PathBuf,
    /// The folder of the adapter that runs with them.
    #[serde(default)]
    pub lora: Option<PathBuf>,
}

/// Files that an arm runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunedRecord {
    /// The file of units.
    pub masks: String,
    /// Its SHA-256.
    pub masks_sha256: String,
    /// The adapter's folder; `null` without one.
    pub lora: Option<String>,
    /// SHA-256 of the adapter's scale and factors.
    pub lora_sha256: Option<String>,
}

impl FromStr for TunedSpec {
    type Err = Error;

    /// Reads `[NAME=]MASKS[,ADAPTER]`; a file that exists as it is written is one.
    fn from_str(text: &str) -> Result<TunedSpec> {
        let (masks, lora) = match text.rsplit_once(',').filter(|_| !Path::new(text).exists()) {
            Some((masks, lora)) => (masks, Some(lora)),
            None => (text, None),
        };
        let (stem, path) = named(masks);
        if path.as_os_str().is_empty() || lora.is_some_and(str::is_empty) {
            let what = format!("`{text}` is no file of units with an adapter: [NAME=]MASKS[,ADAPTER] is meant");
            return Err(Error::Setting(what));
        }
        let name = (path.as_os_str() != masks).then_some(stem);
        Ok(TunedSpec { name, masks: path, lora: lora.map(PathBuf::from) })
    }
}

impl TunedSpec {
    /// The arm that runs `units` of `model`, with the other settings of `base`. Its ratio is the one that the units were chosen at, or
    /// where their file does not say it the share that they drop.
    ///
    /// # Errors
    /// [`Error::Setting`] for a ratio outside its range.
    pub fn arm(&self, base: &PruneConfig, units: &UnitSets, model: &ModelConfig, tuned: TunedRecord) -> Result<Arm> {
        let adapter = if tuned.lora.is_some() { " + LoRA" } else { "" };
        let series = self.name.clone().unwrap_or_else(|| format!("{}{adapter}", units.origin.made_by));
        let dropped = units.plan(model).layer_ratio;
        // Kept counts are whole: more digits say nothing.
        let ratio = units.origin.prune.as_ref().map_or((1e4 * dropped).round() / 1e4, |prune| prune.ratio);
        let prune = PruneConfig { method: Method::Masks, ratio, ..base.clone() };
        prune.validate()?;
        Ok(Arm { name: format!("{series} {ratio}"), series, prune, tuned: Some(tuned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_an_adapter_are_told_from_a_file() {
        let of = |text: &str| text.parse::<TunedSpec>().unwrap();
        let spec = |name: Option<&str>, masks: &str, lora: Option<&str>| TunedSpec {
            name: name.map(String::from),
            masks: masks.into(),
            lora: lora.map(PathBuf::from),
        };
        assert_eq!(of("m.safetensors"), spec(None, "m.safetensors", None));
        assert_eq!(of("a/m.safetensors,b/lora"), spec(None, "a/m.safetensors", Some("b/lora")));
        assert_eq!(of("mine=m.safetensors"), spec(Some("mine"), "m.safetensors", None));
        assert_eq!(of("a b=m.safetensors,lora"), spec(Some("a b"), "m.safetensors", Some("lora")));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x=y,z");
        std::fs::write(&path, "").unwrap();
        assert_eq!(of(path.to_str().unwrap()).masks, path);
        for bad in ["", ",lora", "m.safetensors,", "mine=,lora"] {
            assert!(bad.parse::<TunedSpec>().unwrap_err().is_user_fault(), "{bad}");
        }
    }
}
