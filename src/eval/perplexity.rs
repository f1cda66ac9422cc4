//! Perplexity of a text, cut into batches, under any method.
//!
//! Invariant: what a batch runs with depends on the batches before it only through the history, which follows them in
//! order; likelihoods are summed in 64 bits.

use crate::config::PruneConfig;
use crate::engine::{Engine, Scorer};
use crate::error::{Error, Result};
use crate::prune::{Chooser, Flops, Knowledge, Plan, ProbeSizes, ProbeTrace};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// What to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerplexityOptions {
    /// Tokens of a chunk.
    pub seq_len: usize,
    /// Chunks of a batch; the last batch may have fewer.
    pub batch: usize,
    /// What to prune. A batch is always pruned as a prefill.
    pub prune: PruneConfig,
}

/// Listens to a run.
pub trait Observer {
    /// `done` of `total` batches are through; called with 0 at the start.
    fn progress(&mut self, done: usize, total: usize);

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
    /// Sizes of a full batch's probes; `None` where nothing is probed.
    pub probe: Option<ProbeSizes>,
    /// What all scored batches cost.
    pub flops: Flops,
    /// Seconds of preparing the method: weights' factors, history, units of a static method.
    pub seconds_prepare: f64,
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

/// What one batch gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Batch {
    /// Sum of the negative log likelihoods, in nats.
    pub nll: f64,
    /// Scored tokens.
    pub tokens: usize,
    /// What it cost.
    pub flops: Flops,
    /// Seconds, read-back included.
    pub seconds: f64,
}

/// Scores one batch of chunks of one length.
///
/// # Errors
/// Those of [`Chooser::prepare`] and [`Scorer::nll`].
pub fn score(scorer: &mut Scorer, chooser: &mut Chooser, samples: &[Vec<u32>]) -> Result<Batch> {
    let length = samples.first().map_or(0, Vec::len);
    let started = Instant::now();
    let nll = scorer.nll(samples, chooser.prepare(samples.len(), length)?)?;
    let seconds = started.elapsed().as_secs_f64();
    let (nll, tokens) = (nll.iter().flatten().map(|&nll| f64::from(nll)).sum(), nll.iter().map(Vec::len).sum());
    Ok(Batch { nll, tokens, flops: chooser.cost(samples.len(), length), seconds })
}

/// Scores `chunks`, each of `seq_len` tokens.
///
/// # Errors
/// [`Error::Setting`] for options outside their ranges or no chunk at all, those of [`Engine::chooser`], [`Scorer::new`] and
/// [`Scorer::nll`], and the observer's.
pub fn run(
    engine: &Arc<Engine>,
    options: &PerplexityOptions,
    chunks: &[Vec<u32>],
    known: &Knowledge,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let PerplexityOptions { seq_len, batch, prune } = options;
    if *batch == 0 || chunks.is_empty() {
        return Err(Error::Setting(format!("{} chunks in batches of {batch}: there is nothing to run", chunks.len())));
    }
    let batch = (*batch).min(chunks.len());
    let started = Instant::now();
    let mut scorer = Scorer::new(engine, batch, *seq_len)?;
    let mut chooser = engine.chooser(prune, known, *seq_len)?;
    engine.gpu().wait()?;
    let seconds_prepare = started.elapsed().as_secs_f64();

    let total = chunks.len().div_ceil(batch);
    let (mut sum, mut tokens, mut flops) = (0.0, 0, Flops::default());
    let mut seconds_by_batch = Vec::with_capacity(total);
    for (index, samples) in chunks.chunks(batch).enumerate() {
        observer.progress(index, total);
        let scored = score(&mut scorer, &mut chooser, samples)?;
        seconds_by_batch.push(scored.seconds);
        sum += scored.nll;
        tokens += scored.tokens;
        flops += scored.flops;
        if observer.wants_kept()
            && let Some(traces) = chooser.trace()?
        {
            observer.kept(index, &traces)?;
        }
    }
    observer.progress(total, total);
    Ok(Outcome {
        nll: sum / tokens as f64,
        tokens,
        batches: total,
        chunks: chunks.len(),
        plan: chooser.plan().clone(),
        probe: chooser.probe_sizes(batch, *seq_len),
        flops,
        seconds_prepare,
        seconds_by_batch,
    })
}
