//! How units are judged: by which statistic of their activations, fused with which history, weighed by what of their weights.
//! Probes of batches and sums of conversations end here alike.

use super::powers::{Powers, rule};
use super::{Compensation, Half, History, Knowledge, Mask, Means};
use crate::config::{Fusion, ModelConfig, PruneConfig, Statistic};
use crate::error::Result;
use crate::gpu::{Buffer, Gpu, Recorder};
use crate::kernels::history_update::Value;
use crate::kernels::score::Rule;
use crate::kernels::{fusion, history_share, score};
use crate::model::{LayerWeights, ModelWeights};
use std::sync::Arc;

/// A statistic of a probe or of a conversation.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// `[tokens][width]`, or one row.
    pub statistic: &'a Buffer,
    /// What it is multiplied with.
    pub scale: f32,
    /// `[tokens]` positions of its rows, and how many. Where the history has one row, positions are not read.
    pub tokens: (&'a Buffer, usize),
}

/// Where a judgement is written.
#[derive(Clone, Copy)]
pub struct Verdict<'a> {
    /// `[width]`: the fused statistic.
    pub fused: &'a Buffer,
    /// `[units]`.
    pub scores: &'a Buffer,
    /// `[units]`: the share of the history in each, for whoever watches.
    pub shares: Option<&'a Buffer>,
    /// The choice.
    pub mask: &'a Mask,
}

/// How units are judged.
#[derive(Clone)]
pub struct Judge {
    model: ModelConfig,
    rules: [Rule; 2],
    powers: Arc<Powers>,
    weight: Option<f32>,
    centre: Option<Arc<Means>>,
    compensation: Option<Arc<Compensation>>,
    history: Option<Arc<History>>,
}

impl Judge {
    /// As the settings say, without history yet.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] where settings need a calibration and there is none; those of [`Gpu::buffer`].
    pub fn new(gpu: &Gpu, model: &ModelWeights, prune: &PruneConfig, known: &Knowledge) -> Result<Judge> {
        let config = &model.config;
        let centred = prune.statistic == Statistic::Fluctuation;
        let means = match centred || prune.compensates() {
            true => Some(Arc::new(Means::new(gpu, config, known.calibration(prune)?)?)),
            false => None,
        };
        let compensation = match means.clone().filter(|_| prune.compensates()) {
            Some(means) => Some(Arc::new(Compensation::new(gpu, config, means)?)),
            None => None,
        };
        let group = if prune.whole_groups { config.group_size() } else { 1 };
        Ok(Judge {
            model: config.clone(),
            rules: [rule(prune.score, group), rule(prune.score, 1)],
            powers: Arc::new(Powers::new(gpu, model, prune.score)?),
            weight: match prune.fusion {
                Fusion::Scaled => None,
                Fusion::Fixed(weight) => Some(weight),
            },
            centre: means.filter(|_| centred),
            compensation,
            history: None,
        })
    }

    /// The same with a history to fuse with.
    pub fn with_history(&self, history: Option<Arc<History>>) -> Judge {
        Judge { history, ..self.clone() }
    }

    /// What is fused with.
    pub fn history(&self) -> Option<&Arc<History>> {
        self.history.as_ref()
    }

    /// What puts means back, where something does.
    pub fn compensation(&self) -> Option<&Arc<Compensation>> {
        self.compensation.as_ref()
    }

    /// The means that activations are measured from, where that is not zero.
    pub(super) fn centre(&self, layer: usize, half: Half) -> Option<&Buffer> {
        self.centre.as_ref().map(|means| means.of(layer, half))
    }

    /// What of an activation its statistic sums.
    pub(super) fn value(&self, layer: usize, half: Half) -> Value<'_> {
        self.centre(layer, half).map_or(Value::Energy, Value::Fluctuation)
    }

    /// Records fusion, score, choice (paper, sections 4.2 to 4.4), and the bias of what is dropped.
    ///
    /// # Errors
    /// Those of the kernels it records.
    pub fn choose(
        &self,
        rec: &mut Recorder<'_>,
        (layer, half): (usize, Half),
        weights: &LayerWeights,
        evidence: Evidence<'_>,
        verdict: Verdict<'_>,
    ) -> Result<()> {
        let Verdict { fused, scores, shares, mask } = verdict;
        let history = self.history.as_ref().map(|history| history.of(layer, half, self.weight));
        let statistic = (evidence.statistic, evidence.scale);
        fusion::record(rec, statistic, evidence.tokens, history, fused, half.width(&self.model))?;
        if let (Some(history), Some(shares)) = (history, shares) {
            history_share::record(rec, statistic, evidence.tokens, history, shares, half.units(&self.model))?;
        }
        let power = self.powers.of(layer, half, weights);
        score::record(rec, (fused, power), scores, half.units(&self.model), self.rules[half.index()])?;
        mask.choose(rec, scores, self.model.group_size())?;
        match &self.compensation {
            Some(compensation) => compensation.refresh(rec, (layer, half), weights, mask),
            None => Ok(()),
        }
    }
}
