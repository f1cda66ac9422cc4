//! A training run on disk, so that it can be cut short.
//!
//! Invariant: a run that goes on from its file takes the steps that it would have taken without a break, from the same values in
//! every bit: factors and the optimizer's means are kept as they are computed, and samples follow from seed and step alone.

use super::factors::Pair;
use super::options::TARGETS;
use super::training::{Training, Units};
use crate::error::{Error, Result};
use crate::llama::{failure, guarded};
use crate::model::mapped::hex;
use crate::prune::{Half, LayerUnits, Origin, Tensors, TensorsWriter, UnitSets};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Version of the layout.
const FORMAT: u32 = 1;

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// Hash of all that the steps follow from: model, samples, settings, units.
    fingerprint: String,
    losses: Vec<f64>,
    version: String,
}

impl Training<'_> {
    /// Writes everything that the next step builds on, under another name first.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Device`] when burn fails.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut writer = TensorsWriter::default();
        guarded("read the factors", || {
            for pair in &self.factors.pairs {
                for (name, tensor) in named(pair) {
                    let shape = tensor.dims();
                    writer.floats(&name, &shape, &tensor.try_into_vec_as::<f32>().map_err(failure)?);
                }
            }
            Ok(())
        })?;
        for (layer, means) in self.means.iter().enumerate() {
            for half in Half::BOTH {
                let values = &means[half.index()];
                writer.floats(&of_half(layer, half, "importance"), &[values.len()], values);
            }
        }
        let layers = self.kept.iter().flat_map(|kept| &kept.layers).enumerate();
        for (layer, units) in layers.filter(|_| matches!(self.units, Units::Fewer(_))) {
            for half in Half::BOTH {
                if let Some(units) = units.half(half) {
                    writer.integers(&of_half(layer, half, "kept"), &units.kept);
                }
            }
        }
        let record = Record {
            format: FORMAT,
            fingerprint: self.fingerprint()?,
            losses: self.losses.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        writer.finish("a training run", &record)?.save(path)
    }

    /// Goes on from a file, in a run that was made from the same model, samples and settings.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::BadFile`] for a file that is none, is damaged, or belongs to another run; [`Error::Device`] when burn
    /// fails.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let tensors = Tensors::open(path)?;
        let record: Record = tensors.recipe("a training run, as `secateur tune` keeps it")?;
        if record.format != FORMAT {
            let found = record.format;
            return Err(tensors.bad(&format!("it has format {found}, this version reads {FORMAT}: update Secateur")));
        }
        if record.fingerprint != self.fingerprint()? {
            let what = "this run had another model, other samples or other settings: give the same ones, or begin anew with --restart";
            return Err(tensors.bad(what));
        }
        let mut factors = Vec::with_capacity(self.factors.pairs.len());
        guarded("upload the factors", || {
            for pair in &self.factors.pairs {
                let mut pair = pair.clone();
                let names = named(&pair).map(|(name, tensor)| (name, tensor.dims()));
                let slots = [&mut pair.a, &mut pair.b].into_iter().flat_map(|factor| {
                    let [mean, square] = &mut factor.means;
                    [&mut factor.value, mean, square]
                });
                for (slot, (name, shape)) in slots.zip(names) {
                    tensors.check(&name, &shape)?;
                    *slot = Tensor::from_data(TensorData::new(tensors.floats(&name)?, shape), self.device());
                }
                factors.push(pair);
            }
            Ok(())
        })?;
        if let Units::Fewer(gradual) = &self.units {
            let config = &self.files.config;
            let (mut means, mut kept, mut any) = (Vec::new(), Vec::new(), false);
            for layer in 0..config.num_hidden_layers {
                let mean = |half| tensors.floats(&of_half(layer, half, "importance"));
                let units = |half| -> Result<_> {
                    let name = of_half(layer, half, "kept");
                    let kept = if tensors.has(&name)? { Some(tensors.integers(&name)?) } else { None };
                    Ok(kept.map(|kept| crate::prune::Units { kept, bias: None }))
                };
                if !record.losses.is_empty() {
                    means.push([mean(Half::Attention)?, mean(Half::Mlp)?]);
                }
                let [heads, channels] = [units(Half::Attention)?, units(Half::Mlp)?];
                any |= heads.is_some() || channels.is_some();
                kept.push(LayerUnits::new(heads, channels));
            }
            let kept = UnitSets { origin: Origin::of_method("", &gradual.prune, None), layers: kept };
            kept.check_shape(config).map_err(|error| tensors.bad(&error.to_string()))?;
            self.means = means;
            self.restore_units(any.then_some(kept));
        }
        self.factors.pairs = factors;
        self.losses = record.losses;
        Ok(())
    }

    /// Hash of all that the steps follow from.
    fn fingerprint(&self) -> Result<String> {
        let internal = |error: serde_json::Error| Error::Internal(format!("settings of a training run: {error}"));
        let mut hash = Sha256::new();
        hash.update(self.files.sha256()?);
        hash.update(serde_json::to_vec(&self.options).map_err(internal)?);
        match &self.units {
            Units::All => hash.update("all"),
            Units::Fewer(gradual) => hash.update(serde_json::to_vec(gradual).map_err(internal)?),
            Units::Fixed(units) => {
                for (layer, half) in units.layers.iter().flat_map(|layer| Half::BOTH.map(|half| (layer, half))) {
                    let Some(units) = layer.half(half) else {
                        hash.update("all");
                        continue;
                    };
                    hash.update((units.kept.len() as u64).to_le_bytes());
                    units.kept.iter().for_each(|unit| hash.update(unit.to_le_bytes()));
                    units.bias.iter().flatten().for_each(|value| hash.update(value.to_le_bytes()));
                }
            }
        }
        for sample in &self.samples {
            hash.update([sample.first as u64, sample.ids.len() as u64].map(u64::to_le_bytes).concat());
            sample.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
        Ok(hex(&hash.finalize()))
    }
}

/// The tensors of a pair, each with its name.
fn named(pair: &Pair) -> [(String, Tensor<2>); 6] {
    let name = TARGETS.iter().find(|(_, tensor)| *tensor == pair.tensor).map_or("", |(name, _)| name);
    let of = |what: &str, tensor: &Tensor<2>| (format!("layers.{}.{name}.{what}", pair.layer), tensor.clone());
    let [a, b] = [&pair.a, &pair.b];
    [
        of("a", &a.value),
        of("a.mean", &a.means[0]),
        of("a.square", &a.means[1]),
        of("b", &b.value),
        of("b.mean", &b.means[0]),
        of("b.square", &b.means[1]),
    ]
}

fn of_half(layer: usize, half: Half, what: &str) -> String {
    let half = match half {
        Half::Attention => "attention",
        Half::Mlp => "mlp",
    };
    format!("layers.{layer}.{half}.{what}")
}
