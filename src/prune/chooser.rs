//! A method at work on batches: what it knows, and the selector of each batch.

use super::calibration::rows_of;
use super::{
    Dense, Fixed, Flops, History, Judge, Knowledge, Plan, ProbeSizes, ProbeTrace, Probing, Selector, statics,
    thresholds,
};
use crate::config::{HistoryKind, Method, ModelConfig, PruneConfig};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::model::ModelWeights;
use std::sync::Arc;

enum Kind {
    Dense(Dense),
    Fixed(Box<Fixed>),
    Probing { judge: Box<Judge>, made: Option<((usize, usize), Box<Probing>)> },
}

/// Chooses the units of one batch after another. History follows the batches in the order in which they are prepared and run.
pub struct Chooser {
    gpu: Arc<Gpu>,
    model: ModelConfig,
    prune: PruneConfig,
    plan: Plan,
    kind: Kind,
}

impl Chooser {
    /// Prepares a method for batches of samples of up to `length` tokens.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] for settings outside their ranges or without what they need, those of
    /// [`super::Calibration`]'s and [`super::UnitSets`]'s readers, and those of the device.
    pub fn new(
        gpu: &Arc<Gpu>,
        model: &ModelWeights,
        prune: &PruneConfig,
        known: &Knowledge,
        length: usize,
    ) -> Result<Chooser> {
        prune.validate()?;
        let config = &model.config;
        let (plan, kind) = match prune.method {
            Method::Dense => (Plan::dense(config), Kind::Dense(Dense)),
            Method::Masks => fixed(Fixed::new(gpu, config, known.masks()?)?),
            Method::WandaSp | Method::Flap => {
                let units = statics::choose(gpu, model, prune, known.calibration(prune)?)?;
                let (plan, kind) = fixed(Fixed::new(gpu, config, &units)?);
                (plan.by_groups(thresholds::group(config, prune)), kind)
            }
            Method::FullBatch | Method::Pp => {
                let plan = statics::planned(gpu, model, prune, known)?;
                let judge = Judge::new(gpu, model, prune, known)?;
                let history = match prune.method {
                    Method::Pp => history(gpu, config, prune, known, length)?,
                    _ => None,
                };
                let kind = match plan.prunes() {
                    true => Kind::Probing { judge: Box::new(judge.with_history(history)), made: None },
                    false => Kind::Dense(Dense),
                };
                (plan, kind)
            }
        };
        Ok(Chooser { gpu: gpu.clone(), model: config.clone(), prune: prune.clone(), plan, kind })
    }

    /// Kept units by layer.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What is pruned.
    pub fn prune(&self) -> &PruneConfig {
        &self.prune
    }

    /// The sizes of the probes of a batch; `None` where nothing is probed.
    pub fn probe_sizes(&self, samples: usize, length: usize) -> Option<ProbeSizes> {
        matches!(self.kind, Kind::Probing { .. }).then(|| ProbeSizes::new(&self.prune, samples, length))
    }

    /// The history that follows the batches, where there is one.
    pub fn history(&self) -> Option<&Arc<History>> {
        match &self.kind {
            Kind::Probing { judge, .. } => judge.history(),
            _ => None,
        }
    }

    /// The selector of a batch of `samples` by `length` tokens, padding included.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] for samples longer than the history, and those of the device.
    pub fn prepare(&mut self, samples: usize, length: usize) -> Result<&mut dyn Selector> {
        match &mut self.kind {
            Kind::Dense(dense) => Ok(dense),
            Kind::Fixed(fixed) => Ok(fixed.as_mut()),
            Kind::Probing { judge, made } => {
                let shape = (samples, length);
                let made = match made.take().filter(|(made_for, _)| *made_for == shape) {
                    Some(fitting) => made.insert(fitting),
                    None => {
                        let (sizes, ema) = (ProbeSizes::new(&self.prune, samples, length), Some(self.prune.ema));
                        let judge = Judge::clone(judge);
                        let probing = Probing::new(&self.gpu, &self.model, &self.plan, sizes, shape, judge, ema)?;
                        made.insert((shape, Box::new(probing)))
                    }
                };
                Ok(made.1.as_mut())
            }
        }
    }

    /// What the probes of the last batch saw and chose, by layer, heads then channels; `None` where nothing is probed.
    ///
    /// # Errors
    /// Those of [`Probing::trace`].
    pub fn trace(&self) -> Result<Option<Vec<[Option<ProbeTrace>; 2]>>> {
        match &self.kind {
            Kind::Probing { made: Some((_, probing)), .. } => probing.trace(&self.gpu).map(Some),
            _ => Ok(None),
        }
    }

    /// What a batch of `samples` by `length` tokens costs, padding included.
    pub fn cost(&self, samples: usize, length: usize) -> Flops {
        let mut flops = Flops::default();
        let rows = (samples * length) as f64;
        flops.add_batch(&self.model, &self.plan, rows, rows * (length as f64 + 1.0) / 2.0);
        if let Some(sizes) = self.probe_sizes(samples, length) {
            flops.add_probe(&self.model, &self.plan, sizes);
        }
        flops
    }
}

fn fixed(fixed: Fixed) -> (Plan, Kind) {
    (fixed.plan().clone(), Kind::Fixed(Box::new(fixed)))
}

/// The history that a run of samples of up to `length` tokens starts from: calibrated, or empty.
pub(super) fn history(
    gpu: &Gpu,
    model: &ModelConfig,
    prune: &PruneConfig,
    known: &Knowledge,
    length: usize,
) -> Result<Option<Arc<History>>> {
    if prune.history == HistoryKind::Off {
        return Ok(None);
    }
    let history = match &known.calibration {
        None => History::empty(gpu, model, rows_of(prune.history, length))?,
        Some(calibration) => {
            let rows = rows_of(prune.history, calibration.recipe().seq_len);
            History::filled(gpu, model, rows, |layer, half| calibration.history(layer, half, rows, prune.statistic))?
        }
    };
    Ok(Some(Arc::new(history)))
}
