//! A choice that stays: masks on the device, and biases for what they drop.

use super::{Block, Compensation, Half, LayerMasks, Mask, Plan, Selector, UnitSets};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::gpu::{Buffer, Gpu, Recorder};
use crate::kernels::{Rows, add_bias};
use std::sync::Arc;

/// Runs with masks chosen before.
#[derive(Clone, Copy)]
pub struct Frozen<'m> {
    /// By layer.
    pub masks: &'m [LayerMasks],
    /// What puts the means of the dropped units back, if anything.
    pub compensation: Option<&'m Compensation>,
}

impl Frozen<'_> {
    fn apply(&self, rec: &mut Recorder<'_>, block: &Block<'_>, half: Half) -> Result<()> {
        match self.compensation.filter(|_| half.mask(&self.masks[block.layer]).is_some()) {
            Some(compensation) => compensation.apply(rec, block, half),
            None => Ok(()),
        }
    }
}

impl Selector for Frozen<'_> {
    fn heads(&mut self, _: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(self.masks[block.layer].heads.clone())
    }

    fn attended(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, _: Rows<'_>) -> Result<()> {
        self.apply(rec, block, Half::Attention)
    }

    fn channels(&mut self, _: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(self.masks[block.layer].channels.clone())
    }

    fn activated(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, _: Rows<'_>) -> Result<()> {
        self.apply(rec, block, Half::Mlp)
    }
}

/// Units chosen once, on the device.
pub struct Fixed {
    plan: Plan,
    masks: Vec<LayerMasks>,
    biases: Vec<[Option<Buffer>; 2]>, // [H], by layer and half
}

impl Fixed {
    /// Uploads sets of units.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] for sets of another shape of model, and those of [`Gpu::buffer`].
    pub fn new(gpu: &Gpu, model: &ModelConfig, units: &UnitSets) -> Result<Fixed> {
        units.check_shape(model)?;
        let plan = units.plan(model);
        let masks = LayerMasks::for_plan(gpu, model, &plan)?;
        let mut biases = Vec::with_capacity(masks.len());
        for (masks, layer) in masks.iter().zip(&units.layers) {
            let of = |half: Half| -> Result<Option<Buffer>> {
                let (Some(mask), Some(units)) = (half.mask(masks), layer.half(half)) else { return Ok(None) };
                mask.set(gpu, &units.kept, model.group_size())?;
                units.bias.as_ref().map(|bias| gpu.upload("bias", bias)).transpose()
            };
            biases.push([of(Half::Attention)?, of(Half::Mlp)?]);
        }
        Ok(Fixed { plan, masks, biases })
    }

    /// Kept units by layer.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The masks.
    pub fn masks(&self) -> &[LayerMasks] {
        &self.masks
    }

    fn add_bias(&self, rec: &mut Recorder<'_>, block: &Block<'_>, half: Half) -> Result<()> {
        let Some(bias) = &self.biases[block.layer][half.index()] else { return Ok(()) };
        let (tokens, width) = (block.samples * block.length, half.output(block.weights).rows);
        add_bias::record(rec, block.residual, bias, (tokens, width))
    }
}

impl Selector for Fixed {
    fn heads(&mut self, _: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(self.masks[block.layer].heads.clone())
    }

    fn attended(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, _: Rows<'_>) -> Result<()> {
        self.add_bias(rec, block, Half::Attention)
    }

    fn channels(&mut self, _: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(self.masks[block.layer].channels.clone())
    }

    fn activated(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, _: Rows<'_>) -> Result<()> {
        self.add_bias(rec, block, Half::Mlp)
    }
}
