//! The judges of a conversation: one for the probe of its opening, where positions are known, and one for everything behind.

use super::chooser::history;
use super::{Judge, Knowledge};
use crate::config::{HistoryKind, Method, PruneConfig};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::model::ModelWeights;

/// Two judges that differ in their history alone.
#[derive(Clone)]
pub struct Judges {
    made_for: PruneConfig,
    /// For prompts that open a sequence: the history by position, as the settings have it.
    pub opening: Judge,
    /// For what comes later: one row for all positions.
    pub later: Judge,
}

impl Judges {
    /// As the settings say. Without calibration there is no history: a conversation has no batches for it to follow.
    ///
    /// # Errors
    /// Those of [`Judge::new`] and of reading the calibration.
    pub fn new(gpu: &Gpu, model: &ModelWeights, prune: &PruneConfig, known: &Knowledge) -> Result<Judges> {
        let judge = Judge::new(gpu, model, prune, known)?;
        let length = known.calibration.as_ref().map_or(0, |calibration| calibration.recipe().seq_len);
        let remembers = prune.method == Method::Pp && length > 0;
        let of = |kind: HistoryKind| match remembers && prune.history != HistoryKind::Off {
            true => history(gpu, &model.config, &PruneConfig { history: kind, ..prune.clone() }, known, length),
            false => Ok(None),
        };
        let later = of(HistoryKind::Collapsed)?;
        let opening = if prune.history == HistoryKind::Collapsed { later.clone() } else { of(prune.history)? };
        Ok(Judges { made_for: prune.clone(), opening: judge.with_history(opening), later: judge.with_history(later) })
    }

    /// The judges of other settings; the same ones, where the difference is none of theirs.
    ///
    /// # Errors
    /// As [`Judges::new`].
    pub fn of(&self, gpu: &Gpu, model: &ModelWeights, prune: &PruneConfig, known: &Knowledge) -> Result<Judges> {
        let matters = |prune: &PruneConfig| {
            let PruneConfig { method, history, fusion, score, statistic, whole_groups, .. } = *prune;
            (method, history, fusion, score, statistic, whole_groups, prune.compensates())
        };
        match matters(&self.made_for) == matters(prune) {
            true => Ok(self.clone()),
            false => Judges::new(gpu, model, prune, known),
        }
    }
}
