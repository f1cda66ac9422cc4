//! LoRA adapters: for some matrices of a model two small factors each, whose product is added to the matrix.
//!
//! An adapter is a folder in PEFT's form, read by [`Adapter::open`] and written by [`Adapter::save`];
//! [`ModelFiles::adapted`](super::ModelFiles::adapted) is the model with it. Invariants: factors fit the model that they were
//! opened or made for, come whole and are finite; their rows are in Hugging Face's order, whatever file holds the model.

mod config;
mod folder;
mod merge;

use super::mapped::hex;
use super::names::Convention;
use super::{LayerTensor, TensorRole};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The two factors of one matrix `[out, in]`: what is added to it is `scale * b a`.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// `[rank, in]`.
    pub a: Vec<f32>,
    /// `[out, rank]`.
    pub b: Vec<f32>,
}

/// Factors by the index of a layer and the matrix in it.
pub type FactorsByMatrix = BTreeMap<(usize, LayerTensor), Factors>;

/// A LoRA adapter for one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    rank: usize,
    alpha: f64,
    /// Whether the scale is `alpha / sqrt(rank)` (rsLoRA), and not `alpha / rank`.
    root: bool,
    factors: FactorsByMatrix,
    /// The model's matrices as its Hugging Face folder names them.
    modules: Vec<Module>,
}

/// A matrix of a Hugging Face folder: one of the model's, or several, one behind the other.
#[derive(Debug, Clone, PartialEq)]
struct Module {
    layer: usize,
    /// The name, such as `model.layers.0.self_attn.q_proj`.
    name: String,
    /// What it is made of, with the rows of each.
    parts: Vec<(LayerTensor, usize)>,
    cols: usize,
}

impl Module {
    fn rows(&self) -> usize {
        self.parts.iter().map(|(_, rows)| rows).sum()
    }

    /// The name without the layer's, such as `q_proj`.
    fn stem(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// All matrices of a model that an adapter may have factors for, in the order of the forward pass.
fn modules(config: &ModelConfig) -> Vec<Module> {
    let convention = Convention::of_folder(config);
    let mut modules: Vec<Module> = Vec::new();
    for layer in 0..config.num_hidden_layers {
        for tensor in LayerTensor::MATRICES.into_iter().filter(|tensor| tensor.is_in(&config.blocks)) {
            let role = TensorRole::Layer(layer, tensor);
            let Some(name) = convention.name(role, config.blocks.fused) else { continue };
            let name = name.strip_suffix(".weight").unwrap_or(&name);
            let [rows, cols] = role.shape(config);
            match modules.last_mut().filter(|last| last.name == name) {
                Some(last) => last.parts.push((tensor, rows)),
                None => modules.push(Module { layer, name: name.into(), parts: vec![(tensor, rows)], cols }),
            }
        }
    }
    modules
}

impl Adapter {
    /// An adapter of these factors, of which every matrix has its own or none. Its scale is `alpha / rank`.
    ///
    /// # Errors
    /// [`Error::Setting`] for no factors, a rank of 0, an alpha that is not finite, or a matrix that the model does not have;
    /// [`Error::TensorShape`] for factors of other sizes than model and rank imply; [`Error::TensorNotFinite`].
    pub fn new(config: &ModelConfig, rank: usize, alpha: f64, factors: FactorsByMatrix) -> Result<Adapter> {
        let adapter = Adapter { rank, alpha, root: false, factors, modules: modules(config) };
        adapter.check(config)?;
        Ok(adapter)
    }

    /// Columns of `a`, rows of `b`: the inner size of the product.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// What the scale is made of.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// What the product of the factors is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f64;
        (self.alpha / if self.root { rank.sqrt() } else { rank }) as f32
    }

    /// The factors.
    pub fn factors(&self) -> &FactorsByMatrix {
        &self.factors
    }

    /// Values of all factors.
    pub fn parameters(&self) -> usize {
        self.factors.values().map(|factors| factors.a.len() + factors.b.len()).sum()
    }

    /// SHA-256 of what it does, in lower-case hexadecimal: of the scale and of every factor. Files that say the same in other
    /// words have the same.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.scale().to_le_bytes());
        hash.update((self.rank as u64).to_le_bytes());
        for ((layer, tensor), factors) in &self.factors {
            hash.update(format!("{layer} {tensor:?}\n"));
            for values in [&factors.a, &factors.b] {
                values.iter().for_each(|value| hash.update(value.to_le_bytes()));
            }
        }
        hex(&hash.finalize())
    }

    /// Refuses what does not fit a model.
    fn check(&self, config: &ModelConfig) -> Result<()> {
        let bad = |what: String| Err(Error::Setting(what));
        if self.rank == 0 || !self.scale().is_finite() {
            return bad(format!(
                "an adapter of rank {} and alpha {}: both must be finite, the rank positive",
                self.rank, self.alpha
            ));
        }
        if self.factors.is_empty() {
            return bad("an adapter without factors changes nothing: give it some".into());
        }
        for (&(layer, tensor), factors) in &self.factors {
            let there = LayerTensor::MATRICES.contains(&tensor) && tensor.is_in(&config.blocks);
            if layer >= config.num_hidden_layers || !there {
                return bad(format!(
                    "an adapter has factors for {tensor:?} of layer {layer}, which this {} of {} layers does not have",
                    config.family_name(),
                    config.num_hidden_layers
                ));
            }
            let [rows, cols] = TensorRole::Layer(layer, tensor).shape(config);
            for (values, shape, which) in
                [(&factors.a, [self.rank, cols], "lora_A"), (&factors.b, [rows, self.rank], "lora_B")]
            {
                let name = || format!("{which} of {tensor:?} in layer {layer}");
                if values.len() != shape[0] * shape[1] {
                    return Err(Error::TensorShape { name: name(), expected: shape.into(), found: vec![values.len()] });
                }
                if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                    return Err(Error::TensorNotFinite { name: name(), index, value: values[index] });
                }
            }
        }
        Ok(())
    }
}
