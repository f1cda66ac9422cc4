//! Perplexity of true continuations, as a chat would write them: a prompt runs, then the tokens that follow it in the text are
//! decoded one by one. What pruning costs an answer.
//!
//! Invariant: every passage starts from nothing; likelihoods are summed in 64 bits.

use crate::config::PruneConfig;
use crate::engine::{Engine, SequenceOptions, Sequences};
use crate::error::{Error, Result};
use crate::prune::{Flops, Knowledge};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// What to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContinuationOptions {
    /// Tokens of a prompt.
    pub prompt_tokens: usize,
    /// Tokens of a continuation.
    pub answer_tokens: usize,
    /// What to prune, and when.
    pub prune: PruneConfig,
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Continued {
    /// Mean negative log likelihood of the continuations' tokens, in nats.
    pub nll: f64,
    /// Mean of each passage.
    pub nll_by_passage: Vec<f64>,
    /// Tokens scored.
    pub tokens: usize,
    /// What the prompts cost.
    pub flops_prompt: Flops,
    /// What the continuations cost.
    pub flops_answer: Flops,
    /// Choices of units.
    pub choices: usize,
    /// Seconds of the prompts.
    pub seconds_prompt: f64,
    /// Seconds of the continuations.
    pub seconds_answer: f64,
}

impl Continued {
    /// `exp(nll)`.
    pub fn perplexity(&self) -> f64 {
        self.nll.exp()
    }
}

/// Scores passages of `prompt_tokens + answer_tokens` tokens; `heard` is called before each with how many are through.
///
/// # Errors
/// [`Error::Setting`] for nothing to run, those of [`Sequences`] and of `heard`.
pub fn run(
    engine: &Arc<Engine>,
    options: &ContinuationOptions,
    passages: &[Vec<u32>],
    known: &Knowledge,
    heard: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Continued> {
    let ContinuationOptions { prompt_tokens, answer_tokens, ref prune } = *options;
    if prompt_tokens == 0 || answer_tokens == 0 || passages.is_empty() {
        let found = passages.len();
        return Err(Error::Setting(format!(
            "{found} passages of {prompt_tokens} + {answer_tokens} tokens: there is nothing to run"
        )));
    }
    let context = prompt_tokens + answer_tokens;
    let sequence = SequenceOptions { samples: 1, context, prune: prune.clone(), known: known.clone(), live: false };
    let mut sequences = Sequences::new(engine, sequence)?;
    let (mut flops_prompt, mut flops_answer) = (Flops::default(), Flops::default());
    let (mut seconds_prompt, mut seconds_answer, mut choices) = (0.0, 0.0, 0);
    let mut nll_by_passage = Vec::with_capacity(passages.len());
    for (index, passage) in passages.iter().enumerate() {
        heard(index)?;
        sequences.clear()?;
        let (prompt, answer) = passage.split_at(prompt_tokens.min(passage.len()));
        let (before, started) = (sequences.flops(), Instant::now());
        let mut logits = sequences.prefill(&[prompt.to_vec()])?;
        seconds_prompt += started.elapsed().as_secs_f64();
        let (between, started) = (sequences.flops(), Instant::now());
        let mut sum = 0.0;
        for (place, &token) in answer.iter().enumerate() {
            sum += logits.first().map_or(f64::NAN, |logits| nll(logits, token));
            // Nothing is asked behind the last one.
            if place + 1 < answer.len() {
                logits = sequences.step(&[token])?;
            }
        }
        seconds_answer += started.elapsed().as_secs_f64();
        flops_prompt += between - before;
        flops_answer += sequences.flops() - between;
        choices += sequences.choices();
        nll_by_passage.push(sum / answer.len() as f64);
    }
    heard(passages.len())?;
    let nll = nll_by_passage.iter().sum::<f64>() / passages.len() as f64;
    let tokens = passages.len() * answer_tokens;
    Ok(Continued { nll, nll_by_passage, tokens, flops_prompt, flops_answer, choices, seconds_prompt, seconds_answer })
}

/// `-log softmax(logits)[token]`.
fn nll(logits: &[f32], token: u32) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - top).exp()).sum();
    logits.get(token as usize).map_or(f64::NAN, |&logit| f64::from(top) + sum.ln() - f64::from(logit))
}
