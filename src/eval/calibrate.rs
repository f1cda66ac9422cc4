//! Measuring a calibration: dense passes over the chunks of a text.
//!
//! Invariant: a measurement that goes on from a checkpoint gives the same statistics as one that was never cut short, where the
//! batches are the same.

use super::data::TextData;
use crate::config::HistoryKind;
use crate::engine::{Engine, Scorer};
use crate::error::{Error, Result};
use crate::prune::{Calibration, Measuring, Recipe};
use crate::random::SplitMix;
use crate::text::Tokenizer;
use std::sync::Arc;

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalibrateOptions {
    /// Samples.
    pub samples: usize,
    /// Tokens of each.
    pub seq_len: usize,
    /// Samples of a pass.
    pub batch: usize,
    /// Draws the samples from the whole text; `None` = its first chunks.
    pub seed: Option<u64>,
    /// Which positions share a row.
    pub positions: HistoryKind,
}

/// A measurement between two passes.
pub struct Step<'a> {
    /// Samples measured.
    pub done: usize,
    /// All samples.
    pub total: usize,
    measuring: &'a Measuring,
    engine: &'a Engine,
}

impl Step<'_> {
    /// What is known so far.
    ///
    /// # Errors
    /// Those of [`Measuring::read`].
    pub fn read(&self) -> Result<Calibration> {
        self.measuring.read(self.engine.gpu())
    }
}

/// The samples of a text: its first chunks, or chunks drawn by a seed, in the order of the text. Fewer than asked for where the
/// text has no more.
///
/// # Errors
/// Those of [`TextData::chunks`].
pub fn samples(data: &TextData, tokenizer: &Tokenizer, options: &CalibrateOptions) -> Result<Vec<Vec<u32>>> {
    let Some(seed) = options.seed else {
        return Ok(data.chunks(tokenizer, options.seq_len, options.samples)?.ids);
    };
    let mut all: Vec<Option<Vec<u32>>> =
        data.chunks(tokenizer, options.seq_len, usize::MAX)?.ids.into_iter().map(Some).collect();
    let mut drawn = draw(all.len(), options.samples, seed);
    drawn.sort_unstable();
    Ok(drawn.into_iter().filter_map(|index| all[index].take()).collect())
}

/// `count` of the numbers below `of`, each at most once, in the order in which they are drawn (Fisher and Yates' shuffle).
fn draw(of: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut random = SplitMix(seed);
    let mut order: Vec<usize> = (0..of).collect();
    let count = count.min(of);
    for place in 0..count {
        // The bias of the remainder is below 1e-12 for any text.
        let other = place + (random.next() % (of - place) as u64) as usize;
        order.swap(place, other);
    }
    order.truncate(count);
    order
}

/// Measures `samples`, going on from `before` where there is one. `heard` is called before the first pass and after each; an error
/// from it ends the measurement.
///
/// # Errors
/// [`Error::Setting`] for options that leave nothing to run; those of [`Scorer::new`], [`Scorer::observe`] and `heard`.
pub fn measure(
    engine: &Arc<Engine>,
    recipe: Recipe,
    (samples, batch): (&[Vec<u32>], usize),
    before: Option<&Calibration>,
    heard: &mut dyn FnMut(&Step<'_>) -> Result<()>,
) -> Result<Calibration> {
    if samples.is_empty() || batch == 0 {
        let found = samples.len();
        return Err(Error::Setting(format!("{found} samples in batches of {batch}: there is nothing to measure")));
    }
    let (gpu, total) = (engine.gpu(), samples.len());
    let mut scorer = Scorer::new(engine, batch.min(total), recipe.seq_len)?;
    let mut measuring = Measuring::new(gpu, engine.config(), Recipe { samples: total, ..recipe }, before)?;
    let first = measuring.measured();
    heard(&Step { done: first, total, measuring: &measuring, engine })?;
    for part in samples[first.min(total)..].chunks(batch) {
        scorer.observe(part, &mut measuring)?;
        heard(&Step { done: measuring.measured(), total, measuring: &measuring, engine })?;
    }
    measuring.read(gpu)
}

/// The recipe of a measurement that has not begun.
pub fn recipe(
    (model, model_sha256): (&str, &str),
    data: &TextData,
    options: &CalibrateOptions,
    samples: usize,
) -> Recipe {
    Recipe {
        format: 0,
        model_sha256: model_sha256.to_string(),
        model: model.to_string(),
        data: data.path.display().to_string(),
        data_sha256: data.sha256.clone(),
        samples,
        seq_len: options.seq_len,
        seed: options.seed,
        positions: options.positions,
        measured: 0,
        version: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_distinct_and_depend_on_the_seed_alone() {
        let drawn = draw(100, 30, 7);
        let mut sorted = drawn.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 30);
        assert!(sorted.last().is_some_and(|&last| last < 100));
        assert_eq!(draw(100, 30, 7), drawn);
        assert_ne!(draw(100, 30, 8), drawn);
        let mut all = draw(5, 9, 0);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4], "no more than there are");
    }
}
