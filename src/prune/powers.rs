//! The constant factor that weights give a channel's score, by the kind of score.

use super::Half;
use crate::config::ScoreKind;
use crate::error::Result;
use crate::gpu::{Buffer, Gpu};
use crate::kernels::column_power::{self, Degree};
use crate::kernels::score::{Reduce, Rule};
use crate::model::{LayerWeights, ModelWeights};

/// Factors of every channel of every layer.
pub enum Powers {
    /// PPsp's, which every loaded model has.
    Loaded,
    /// Those of another score, by layer and half.
    Made(Vec<[Buffer; 2]>),
}

impl Powers {
    /// The factors of a kind of score.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`] and of the kernels it records.
    pub fn new(gpu: &Gpu, model: &ModelWeights, score: ScoreKind) -> Result<Powers> {
        let degree = match score {
            ScoreKind::Ppsp => return Ok(Powers::Loaded),
            ScoreKind::Wanda => Degree::One,
            ScoreKind::Flap => Degree::Two,
        };
        let mut rec = gpu.record();
        let mut layers = Vec::new();
        for weights in &model.layers {
            let mut of = |half: Half| -> Result<Buffer> {
                let power = gpu.zeros("power", half.width(&model.config))?;
                column_power::record(&mut rec, half.output(weights), degree, &power)?;
                Ok(power)
            };
            layers.push([of(Half::Attention)?, of(Half::Mlp)?]);
        }
        rec.submit()?;
        Ok(Powers::Made(layers))
    }

    /// Those of one layer's half, `[width]`.
    pub fn of<'a>(&'a self, layer: usize, half: Half, weights: &'a LayerWeights) -> &'a Buffer {
        match self {
            Powers::Loaded => half.power(weights),
            Powers::Made(layers) => &layers[layer][half.index()],
        }
    }
}

/// How a kind of score makes one number of a unit; `group` neighbouring units share it.
pub fn rule(score: ScoreKind, group: usize) -> Rule {
    match score {
        ScoreKind::Ppsp => Rule { root: false, reduce: Reduce::Norm, group },
        ScoreKind::Wanda => Rule { root: true, reduce: Reduce::Sum, group },
        ScoreKind::Flap => Rule { root: false, reduce: Reduce::Mean, group },
    }
}
