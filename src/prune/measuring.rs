//! The dense passes that measure a calibration.

use super::calibration::{Calibration, Measured, Recipe};
use super::{Block, Half, Mask, Selector};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::gpu::{Buffer, Gpu, Recorder};
use crate::kernels::history_update::{self, Update, Value};
use crate::kernels::matmul_columns::stride;
use crate::kernels::{Rows, fluctuation};
use std::sync::Arc;

struct Site {
    mean: Buffer,         // [width]
    fluctuation: Buffer,  // [width]
    means: Buffer,        // [rows][width]
    mean_squares: Buffer, // [rows][width]
}

/// Adds every pass that runs with it to the statistics. Samples are of one length, without padding.
pub struct Measuring {
    model: ModelConfig,
    recipe: Recipe,
    sites: Vec<[Site; 2]>,
}

impl Measuring {
    /// Starts, or goes on from what was measured `before` with the same recipe.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`], and of reading what was measured before.
    pub fn new(gpu: &Gpu, model: &ModelConfig, recipe: Recipe, before: Option<&Calibration>) -> Result<Measuring> {
        let rows = recipe.rows().total();
        let site = |layer: usize, half: Half| -> Result<Site> {
            let width = half.width(model);
            let Measured { mean, fluctuation, means, mean_squares } = match before {
                Some(before) => before.measured(layer, half)?,
                None => Measured {
                    mean: vec![0.0; width],
                    fluctuation: vec![0.0; width],
                    means: vec![0.0; rows * width],
                    mean_squares: vec![0.0; rows * width],
                },
            };
            Ok(Site {
                mean: gpu.upload("means", &mean)?,
                fluctuation: gpu.upload("fluctuation", &fluctuation)?,
                means: gpu.upload("means by position", &means)?,
                mean_squares: gpu.upload("mean squares by position", &mean_squares)?,
            })
        };
        let sites =
            (0..model.num_hidden_layers).map(|layer| Ok([site(layer, Half::Attention)?, site(layer, Half::Mlp)?]));
        let measured = before.map_or(0, |before| before.recipe().measured);
        Ok(Measuring {
            model: model.clone(),
            recipe: Recipe { measured, ..recipe },
            sites: sites.collect::<Result<_>>()?,
        })
    }

    /// Samples measured so far.
    pub fn measured(&self) -> usize {
        self.recipe.measured
    }

    /// Reads back what is known so far.
    ///
    /// # Errors
    /// Those of [`Gpu::read`].
    pub fn read(&self, gpu: &Gpu) -> Result<Calibration> {
        let rows = self.recipe.rows().total();
        let of = |site: &Site, half: Half| -> Result<Measured> {
            let width = half.width(&self.model);
            Ok(Measured {
                mean: gpu.read(&site.mean, width)?,
                fluctuation: gpu.read(&site.fluctuation, width)?,
                means: gpu.read(&site.means, rows * width)?,
                mean_squares: gpu.read(&site.mean_squares, rows * width)?,
            })
        };
        let layers =
            self.sites.iter().map(|[attention, mlp]| Ok([of(attention, Half::Attention)?, of(mlp, Half::Mlp)?]));
        Calibration::new(self.recipe.clone(), &layers.collect::<Result<Vec<_>>>()?, &self.model)
    }

    fn add(&self, rec: &mut Recorder<'_>, block: &Block<'_>, x: Rows<'_>, half: Half) -> Result<()> {
        let site = &self.sites[block.layer][half.index()];
        let width = half.width(&self.model);
        let shape = (block.samples, block.length, self.recipe.measured);
        fluctuation::record(rec, x.buffer, (&site.mean, &site.fluctuation), shape, (width, stride(width)))?;
        // Every sample has the same positions, so the mean over all is a mean of the batches' means.
        let (before, now) = (self.recipe.measured as f64, block.samples as f64);
        let update = Update {
            samples: block.samples,
            length: block.length,
            width,
            stride: stride(width),
            average: true,
            rows: self.recipe.rows(),
            keep: (before / (before + now)) as f32,
            gain: (now / (before + now)) as f32,
        };
        history_update::record(rec, (x, Value::Plain), None, None, &site.means, update)?;
        history_update::record(rec, (x, Value::Energy), None, None, &site.mean_squares, update)
    }
}

impl Selector for Measuring {
    fn heads(&mut self, _: &mut Recorder<'_>, _: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(None)
    }

    fn attended(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, mixed: Rows<'_>) -> Result<()> {
        self.add(rec, block, mixed, Half::Attention)
    }

    fn channels(&mut self, _: &mut Recorder<'_>, _: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(None)
    }

    fn activated(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, active: Rows<'_>) -> Result<()> {
        self.add(rec, block, active, Half::Mlp)?;
        if block.layer + 1 == self.sites.len() {
            self.recipe.measured += block.samples;
        }
        Ok(())
    }
}
