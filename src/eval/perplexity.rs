//! Perplexity of a text, cut into batches, under any method.
//!
//! Invariant: what a batch runs with depends on the batches before it only through the history, which follows them in
//! order; likelihoods are summed in 64 bits.

use crate::config::{Method, PruneConfig};
use crate::engine::{Engine, Scorer};
use crate::error::{Error, Result};
use crate::prune::{Calibrating, Dense, Flops, History, Plan, ProbeSize, ProbeTrace, Probing};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// What Probe Pruning knows of earlier text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryKind {
    /// One row for every position: filled by the calibration (empty without one), then following the batches.
    Exact,
    /// None: every batch is judged by its own probe alone.
    Off,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerplexityOptions {
    /// Tokens of a chunk.
    pub seq_len: usize,
    /// Chunks of a batch; the last batch may have fewer.
    pub batch: usize,
    /// What to prune. A batch is always pruned as a prefill.
    pub prune: PruneConfig,
    /// What Probe Pruning remembers; other methods have no history.
    pub history: HistoryKind,
}

/// What is happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The calibration text runs dense.
    Calibration,
    /// The text is scored.
    Scoring,
}

/// Listens to a run.
pub trait Observer {
    /// `done` of `total` batches of a phase are through; called with 0 at its start.
    fn progress(&mut self, phase: Phase, done: usize, total: usize);

    /// Whether [`Observer::kept`] is to be called, which costs read-backs after every batch.
    fn wants_kept(&self) -> bool {
        false
    }

    /// What the probes of a batch chose, by layer, heads then channels; `None` where nothing is pruned.
    ///
    /// # Errors
    /// The observer's own; they end the run.
    fn kept(&mut self, _batch: usize, _layers: &[[Option<ProbeTrace>; 2]]) -> Result<()> {
        Ok(())
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Mean negative log likelihood of all scored tokens, in nats.
    pub nll: f64,
    /// Scored tokens: `seq_len - 1` of every chunk.
    pub tokens: usize,
    /// Batches run.
    pub batches: usize,
    /// Chunks run.
    pub chunks: usize,
    /// Kept units by layer.
    pub plan: Plan,
    /// Size of a full batch's probe; `None` where nothing is probed.
    pub probe: Option<ProbeSize>,
    /// What all scored batches cost.
    pub flops: Flops,
    /// Seconds of the calibration.
    pub seconds_calibration: f64,
    /// Seconds of each scored batch, read-backs included.
    pub seconds_by_batch: Vec<f64>,
}

impl Outcome {
    /// `exp(nll)`.
    pub fn perplexity(&self) -> f64 {
        self.nll.exp()
    }

    /// Seconds of all scored batches.
    pub fn seconds(&self) -> f64 {
        self.seconds_by_batch.iter().sum()
    }
}

/// Scores `chunks`, each of `seq_len` tokens; `calibration`, if any, fills the history first.
///
/// # Errors
/// [`Error::Setting`] for options outside their ranges or no chunk at all, those of [`Scorer::new`] and
/// [`Scorer::nll`], and the observer's.
pub fn run(
    engine: &Arc<Engine>,
    options: &PerplexityOptions,
    chunks: &[Vec<u32>],
    calibration: &[Vec<u32>],
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let PerplexityOptions { seq_len, batch, prune, history } = options;
    prune.validate()?;
    if *batch == 0 || chunks.is_empty() {
        return Err(Error::Setting(format!("{} chunks in batches of {batch}: there is nothing to run", chunks.len())));
    }
    let (gpu, config) = (engine.gpu(), engine.config());
    let plan = if prune.method == Method::Dense { Plan::dense(config) } else { Plan::new(config, prune) };
    let batch = (*batch).min(chunks.len().max(calibration.len()));
    let mut scorer = Scorer::new(engine, batch, *seq_len)?;

    let remembers = plan.prunes() && prune.method == Method::Pp && *history == HistoryKind::Exact;
    let history = match remembers {
        true => Some(Arc::new(History::empty(gpu, config, Some(*seq_len))?)),
        false => None,
    };
    let started = Instant::now();
    if let Some(history) = &history {
        let total = calibration.len().div_ceil(batch);
        let mut calibrating = Calibrating::new(history, calibration.len(), *seq_len);
        for (index, samples) in calibration.chunks(batch).enumerate() {
            observer.progress(Phase::Calibration, index, total);
            scorer.observe(samples, &mut calibrating)?;
        }
        if total > 0 {
            observer.progress(Phase::Calibration, total, total);
        }
    }
    let seconds_calibration = started.elapsed().as_secs_f64();

    let mut chooser = Chooser { engine, plan: &plan, prune, history, probing: None };
    let total = chunks.len().div_ceil(batch);
    let (mut sum, mut tokens, mut flops) = (0.0, 0, Flops::default());
    let mut seconds_by_batch = Vec::with_capacity(total);
    for (index, samples) in chunks.chunks(batch).enumerate() {
        observer.progress(Phase::Scoring, index, total);
        let started = Instant::now();
        let size = chooser.prepare(samples.len(), *seq_len)?;
        let nll = match &mut chooser.probing {
            Some((_, probing)) => scorer.nll(samples, probing)?,
            None => scorer.nll(samples, &mut Dense)?,
        };
        seconds_by_batch.push(started.elapsed().as_secs_f64());
        for value in nll.iter().flatten() {
            sum += f64::from(*value);
            tokens += 1;
        }
        let (rows, length) = ((samples.len() * seq_len) as f64, *seq_len as f64);
        flops.add(config, &plan, rows, rows * (length + 1.0) / 2.0);
        if let Some(size) = size {
            flops.add_probe(config, &plan, size);
        }
        if let Some((_, probing)) = chooser.probing.as_ref().filter(|_| observer.wants_kept()) {
            observer.kept(index, &probing.trace(gpu)?)?;
        }
    }
    observer.progress(Phase::Scoring, total, total);
    let probe = plan.prunes().then(|| probe_size(prune, batch.min(chunks.len()), *seq_len));
    let nll = sum / tokens as f64;
    let chunks = chunks.len();
    Ok(Outcome { nll, tokens, batches: total, chunks, plan, probe, flops, seconds_calibration, seconds_by_batch })
}

/// Samples and tokens that a batch's probe runs.
fn probe_size(prune: &PruneConfig, samples: usize, length: usize) -> ProbeSize {
    match prune.method {
        Method::FullBatch => ProbeSize { samples, tokens: length },
        Method::Pp | Method::Dense => ProbeSize::new(prune, samples, length),
    }
}

/// The selector of a run, made anew only when the shape of the batch changes.
struct Chooser<'a> {
    engine: &'a Arc<Engine>,
    plan: &'a Plan,
    prune: &'a PruneConfig,
    history: Option<Arc<History>>,
    probing: Option<(usize, Probing)>,
}

impl Chooser<'_> {
    /// Makes the probing of a batch of `samples` ready; `None` where nothing is pruned.
    fn prepare(&mut self, samples: usize, length: usize) -> Result<Option<ProbeSize>> {
        if !self.plan.prunes() {
            return Ok(None);
        }
        let size = probe_size(self.prune, samples, length);
        if self.probing.as_ref().is_none_or(|(made_for, _)| *made_for != samples) {
            let (gpu, config) = (self.engine.gpu(), self.engine.config());
            let (history, ema) = (self.history.clone(), Some(self.prune.ema));
            let probing = Probing::new(gpu, config, self.plan, size, (samples, length), history, ema)?;
            self.probing = Some((samples, probing));
        }
        Ok(Some(size))
    }
}
