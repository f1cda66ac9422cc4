//! A task under a method, batch by batch.
//!
//! Invariant: what a batch runs with depends on the batches before it only through the history, which follows them in
//! order; every task starts from a history of its own.

use super::{Questions, Request, Scored, TaskOutcome, score_batch};
use crate::config::PruneConfig;
use crate::engine::{Engine, Scorer};
use crate::error::{Error, Result};
use crate::prune::{Chooser, Flops, Knowledge, Plan, ProbeSizes};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// What to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskOptions {
    /// Requests of a batch; the last batch may have fewer.
    pub batch: usize,
    /// What to prune. A batch is always pruned as a prefill.
    pub prune: PruneConfig,
}

/// What one batch gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Its answers' likelihoods.
    pub scored: Vec<Scored>,
    /// Tokens run, padding left out.
    pub tokens: usize,
    /// What it cost, padding included.
    pub flops: Flops,
    /// Seconds, read-back included.
    pub seconds: f64,
}

/// What came out of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRun {
    /// Accuracies.
    pub outcome: TaskOutcome,
    /// Tokens run, padding left out.
    pub tokens: usize,
    /// Batches run.
    pub batches: usize,
    /// Kept units by layer.
    pub plan: Plan,
    /// Sizes of the first batch's probes, which is the longest; `None` where nothing is probed.
    pub probe: Option<ProbeSizes>,
    /// What all batches cost.
    pub flops: Flops,
    /// Seconds of preparing the method.
    pub seconds_prepare: f64,
    /// Seconds of all batches.
    pub seconds: f64,
}

/// Scores one batch of requests.
///
/// # Errors
/// Those of [`Chooser::prepare`] and [`score_batch`].
pub fn score(scorer: &mut Scorer, chooser: &mut Chooser, requests: &[&Request]) -> Result<Batch> {
    let lengths = requests.iter().map(|request| request.input.len());
    let (length, tokens) = (lengths.clone().max().unwrap_or(0), lengths.sum());
    let started = Instant::now();
    let scored = score_batch(scorer, chooser.prepare(requests.len(), length)?, requests)?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Batch { scored, tokens, flops: chooser.cost(requests.len(), length), seconds })
}

/// Scores all questions; `progress` hears how many batches of how many are done, from 0 on, and may end the run.
///
/// # Errors
/// [`Error::Setting`] for options outside their ranges or no question at all; those of [`Engine::chooser`],
/// [`Scorer::new`], [`score`] and [`Questions::outcome`]; and `progress`'s.
pub fn run(
    engine: &Arc<Engine>,
    options: &TaskOptions,
    questions: &Questions,
    known: &Knowledge,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<TaskRun> {
    if options.batch == 0 || questions.is_empty() {
        let what = format!("{} questions in batches of {}: there is nothing to run", questions.len(), options.batch);
        return Err(Error::Setting(what));
    }
    let (size, longest) = (options.batch.min(questions.requests.len()), questions.longest());
    let started = Instant::now();
    let mut scorer = Scorer::new(engine, size, longest)?;
    let mut chooser = engine.chooser(&options.prune, known, longest)?;
    engine.gpu().wait()?;
    let seconds_prepare = started.elapsed().as_secs_f64();

    let batches = questions.batches(size);
    let mut log_likelihoods = vec![f64::NAN; questions.answers()];
    let (mut tokens, mut flops, mut seconds) = (0, Flops::default(), 0.0);
    for (done, batch) in batches.iter().enumerate() {
        progress(done, batches.len())?;
        let requests: Vec<&Request> = batch.iter().filter_map(|&index| questions.requests.get(index)).collect();
        let batch = score(&mut scorer, &mut chooser, &requests)?;
        for scored in batch.scored {
            if let Some(place) = log_likelihoods.get_mut(scored.answer) {
                *place = scored.log_likelihood;
            }
        }
        tokens += batch.tokens;
        flops += batch.flops;
        seconds += batch.seconds;
    }
    progress(batches.len(), batches.len())?;
    Ok(TaskRun {
        outcome: questions.outcome(&log_likelihoods)?,
        tokens,
        batches: batches.len(),
        plan: chooser.plan().clone(),
        probe: chooser.probe_sizes(size, longest),
        flops,
        seconds_prepare,
        seconds,
    })
}
