//! Sets of kept units that hold for every input, and their files.
//!
//! On disk such a set is a safetensors file. For every layer `l` that drops something it holds `layers.l.attention.kept` and
//! `layers.l.mlp.kept` (U32, ascending indices of query heads and MLP channels), optionally with `layers.l.attention.bias` and
//! `layers.l.mlp.bias` (F32 `[hidden_size]`, added to the residual stream for what is dropped), and as its metadata an origin.
//! A layer's half that is left out keeps every unit.

use super::tensors::{Tensors, TensorsWriter};
use super::{Half, LayerPlan, Plan};
use crate::config::{Method, ModelConfig, PruneConfig};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Current version of the layout.
const FORMAT: u32 = 1;

/// Where a set of units comes from. Of a set made by another program only `model_sha256` is needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Version of the layout.
    #[serde(default = "format")]
    pub format: u32,
    /// SHA-256 of the model that the set was made for.
    pub model_sha256: String,
    /// What made it: the name of a method.
    #[serde(default = "unnamed")]
    pub made_by: String,
    /// The settings it was made with, where a method of this program made it.
    #[serde(default)]
    pub prune: Option<PruneConfig>,
    /// What a method was told beside those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<serde_json::Value>,
    /// The calibration's text and its SHA-256.
    #[serde(default)]
    pub data: Option<(String, String)>,
    /// Version of the program.
    #[serde(default)]
    pub version: String,
}

fn format() -> u32 {
    FORMAT
}

fn unnamed() -> String {
    Method::Masks.name().to_string()
}

impl Origin {
    /// Of a set that a method of this program makes.
    pub fn of_method(model_sha256: &str, prune: &PruneConfig, data: Option<(String, String)>) -> Origin {
        Origin {
            format: FORMAT,
            model_sha256: model_sha256.to_string(),
            made_by: prune.method.name().to_string(),
            prune: Some(prune.clone()),
            settings: None,
            data,
            version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }
}

/// What one half of a layer keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Units {
    /// Ascending.
    pub kept: Vec<u32>,
    /// `[H]`: added for what is dropped.
    pub bias: Option<Vec<f32>>,
}

/// What one layer keeps; `None` = everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerUnits([Option<Units>; 2]);

impl LayerUnits {
    /// Of attention and MLP.
    pub fn new(attention: Option<Units>, mlp: Option<Units>) -> LayerUnits {
        LayerUnits([attention, mlp])
    }

    /// Of one half.
    pub fn half(&self, half: Half) -> Option<&Units> {
        self.0[half.index()].as_ref()
    }

    pub(super) fn half_mut(&mut self, half: Half) -> Option<&mut Units> {
        self.0[half.index()].as_mut()
    }
}

/// What every layer keeps, for every input.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitSets {
    /// Where it comes from.
    pub origin: Origin,
    /// In order.
    pub layers: Vec<LayerUnits>,
}

impl UnitSets {
    /// Reads a file for a model.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::BadFile`] for a file that is none, is damaged, was made for another model, or keeps units that
    /// do not exist.
    pub fn open(path: &Path, model: &ModelConfig, sha256: &str) -> Result<UnitSets> {
        UnitSets::open_any(path, model, &[sha256])
    }

    /// Reads a file for a model that goes by several hashes: its own, and that of the model without its adapter.
    ///
    /// # Errors
    /// As [`UnitSets::open`].
    pub fn open_any(path: &Path, model: &ModelConfig, sha256: &[&str]) -> Result<UnitSets> {
        let tensors = Tensors::open(path)?;
        let origin: Origin = tensors.recipe("a set of kept units, as `secateur masks` writes it")?;
        if origin.format != FORMAT {
            let found = origin.format;
            return Err(tensors.bad(&format!("it has format {found}, this version reads {FORMAT}: update Secateur")));
        }
        if !sha256.contains(&origin.model_sha256.as_str()) {
            let (made_for, own) = (&origin.model_sha256, sha256.join(", or "));
            let what = format!("these units are of another model (SHA-256 {made_for}; this model's is {own})");
            return Err(tensors.bad(&what));
        }
        let beyond = format!("layers.{}.", model.num_hidden_layers);
        if tensors.has(&format!("{beyond}attention.kept"))? || tensors.has(&format!("{beyond}mlp.kept"))? {
            let layers = model.num_hidden_layers;
            return Err(
                tensors.bad(&format!("it has units of layer {layers}, but the model has layers 0 to {}", layers - 1))
            );
        }
        let mut layers = Vec::with_capacity(model.num_hidden_layers);
        for layer in 0..model.num_hidden_layers {
            let of = |half: Half| -> Result<Option<Units>> {
                let (kept, bias) = (name(layer, half, "kept"), name(layer, half, "bias"));
                if !tensors.has(&kept)? {
                    return Ok(None);
                }
                let bias = match tensors.has(&bias)? {
                    true => {
                        tensors.check(&bias, &[model.hidden_size])?;
                        Some(tensors.floats(&bias)?)
                    }
                    false => None,
                };
                Ok(Some(Units { kept: tensors.integers(&kept)?, bias }))
            };
            layers.push(LayerUnits([of(Half::Attention)?, of(Half::Mlp)?]));
        }
        let units = UnitSets { origin, layers };
        units.check_shape(model).map_err(|error| tensors.bad(&error.to_string()))?;
        Ok(units)
    }

    /// Writes them to a file, under another name first.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut writer = TensorsWriter::default();
        for (layer, units) in self.layers.iter().enumerate() {
            for half in Half::BOTH {
                let Some(units) = units.half(half) else { continue };
                writer.integers(&name(layer, half, "kept"), &units.kept);
                if let Some(bias) = &units.bias {
                    writer.floats(&name(layer, half, "bias"), &[bias.len()], bias);
                }
            }
        }
        writer.finish("kept units", &self.origin)?.save(path)
    }

    /// Refuses units that the model does not have.
    ///
    /// # Errors
    /// [`Error::Setting`] that names layer and numbers.
    pub fn check_shape(&self, model: &ModelConfig) -> Result<()> {
        let bad = |what: String| Err(Error::Setting(what));
        if self.layers.len() != model.num_hidden_layers {
            return bad(format!("units of {} layers for a model of {}", self.layers.len(), model.num_hidden_layers));
        }
        for (layer, units) in self.layers.iter().enumerate() {
            for half in Half::BOTH {
                let (Some(Units { kept, bias }), (total, _)) = (units.half(half), half.units(model)) else { continue };
                let what = format!("layer {layer}'s {}", half_name(half));
                if kept.is_empty() {
                    return bad(format!("{what} keeps no unit: at least one of {total} has to stay"));
                }
                let ascending = kept.windows(2).all(|pair| pair[0] < pair[1]);
                if !ascending || kept.last().is_some_and(|&last| last as usize >= total) {
                    return bad(format!("{what}: kept units must ascend and lie below {total}"));
                }
                if bias.as_ref().is_some_and(|bias| bias.len() != model.hidden_size) {
                    return bad(format!("{what}: a bias needs {} values", model.hidden_size));
                }
            }
        }
        Ok(())
    }

    /// Kept counts by layer.
    pub fn plan(&self, model: &ModelConfig) -> Plan {
        let count =
            |units: &LayerUnits, half: Half| units.half(half).map_or(half.units(model).0, |units| units.kept.len());
        let counts =
            |units: &LayerUnits| LayerPlan { heads: count(units, Half::Attention), channels: count(units, Half::Mlp) };
        Plan::of_counts(model, self.layers.iter().map(counts).collect())
    }
}

fn half_name(half: Half) -> &'static str {
    match half {
        Half::Attention => "attention",
        Half::Mlp => "mlp",
    }
}

fn name(layer: usize, half: Half, what: &str) -> String {
    format!("layers.{layer}.{}.{what}", half_name(half))
}
