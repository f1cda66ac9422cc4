//! The next token of every sample, drawn from its logits. Order: repetition penalty, temperature, top-k, top-p, min-p, draw.

use crate::error::Result;
use crate::gpu::{Buffer, Recorder, Substitution};

super::kernel! {
    /// The op.
    sample [Write, Read, Write] {
        vocab: u32, top_k: u32, top_p: u32, last_bin: u32, stride: u32, temperature: f32, min_p: f32, penalty: f32,
    }
}

/// Marks what is no token but the index of a logit that is NaN, the first of its sample.
pub const NOT_A_NUMBER: u32 = 1 << 31;

/// Bins of the shader for a factor of e, and the last whose weights are not too small to count.
const STEPS: f32 = 8.0;
const LAST_BIN: u32 = 254;

/// How to draw, for all samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filters {
    /// Divides the logits; 0 = take the likeliest token.
    pub temperature: f32,
    /// Keep so many of the likeliest tokens; 0 = all.
    pub top_k: usize,
    /// Keep the smallest set whose probability reaches this; 1 = all.
    pub top_p: f32,
    /// Drop tokens less likely than this times the likeliest; 0 = none.
    pub min_p: f32,
    /// Divides (or multiplies, where negative) the logits of the tokens that are penalised.
    pub penalty: f32,
}

/// One draw of one sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draw {
    /// Where to draw, in [0, 1).
    pub uniform: f64,
    /// Tokens to penalise, each once, all in the vocabulary.
    pub penalised: Vec<u32>,
}

/// The draws as the device reads them, and words of a row: `[samples][stride]`.
pub fn words(draws: &[Draw]) -> (Vec<u32>, usize) {
    let stride = 2 + draws.iter().map(|draw| draw.penalised.len()).max().unwrap_or(0);
    let mut words = Vec::with_capacity(draws.len() * stride);
    for (row, draw) in (1..).zip(draws) {
        words.extend([part(draw.uniform), draw.penalised.len() as u32]);
        words.extend(&draw.penalised);
        words.resize(row * stride, 0);
    }
    (words, stride)
}

/// A number below 1 in parts of 2^32.
fn part(number: f64) -> u32 {
    (number * (1u64 << 32) as f64) as u32
}

/// As many as WebGPU allows, on either tier: with eight, the longest search found a wrong id on llvmpipe, which seems to end an
/// invocation that has looped too often.
fn variant() -> Substitution {
    Substitution::numbers(&[("LANES", 256)])
}

/// Every variant that can be compiled.
pub fn variants() -> Vec<Substitution> {
    vec![variant()]
}

/// Records the draw of one token a sample from `logits [samples][vocab]`, which it penalises in place, into
/// `ids [samples]`: a token, or [`NOT_A_NUMBER`] with the index of a logit. `draws` are [`words`], with their stride.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    logits: &Buffer,
    (draws, stride): (&Buffer, usize),
    ids: &Buffer,
    (samples, vocab): (usize, usize),
    filters: Filters,
) -> Result<()> {
    let Filters { temperature, top_k, top_p, min_p, penalty } = filters;
    // Two bins more than it takes, for what the logarithm rounds. Of 0 it is infinite.
    let last_bin = (-min_p.ln() * STEPS + 2.0).min(LAST_BIN as f32) as u32;
    let params = Params {
        vocab: vocab as u32,
        top_k: if top_k < vocab { top_k as u32 } else { 0 },
        top_p: if top_p < 1.0 { part(top_p.into()).max(1) } else { 0 },
        last_bin,
        stride: stride as u32,
        temperature,
        min_p,
        penalty,
    };
    rec.dispatch(&KERNEL, &variant(), &params, &[logits, draws, ids], [samples as u32, 1, 1])
}

/// The naive CPU twin, for one sample; what [`crate::engine::Sampler`] draws with.
pub fn twin(logits: &[f32], filters: Filters, draw: &Draw) -> u32 {
    let Filters { temperature, top_k, top_p, min_p, penalty } = filters;
    if let Some(index) = logits.iter().position(|logit| logit.is_nan()) {
        return NOT_A_NUMBER | index as u32;
    }
    let mut scores: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    for &token in &draw.penalised {
        let logit = &mut scores[token as usize].1;
        *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
    }
    if temperature == 0.0 {
        return likeliest(&scores);
    }
    // Likeliest first; equal logits by id, so that a seed means the same on every machine.
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let keep = match top_k {
        0 => scores.len(),
        k => k.min(scores.len()),
    };
    if keep < scores.len() {
        scores.select_nth_unstable_by(keep - 1, order);
        scores.truncate(keep);
    }
    scores.sort_unstable_by(order);
    let top = scores.first().map_or(0.0, |best| best.1);
    let weight = |&(_, logit): &(u32, f32)| {
        // The difference of two infinities is no number.
        if logit == top { 1.0 } else { f64::from((logit - top) / temperature).exp() }
    };
    let mut weights: Vec<f64> = scores.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let mut reached = 0.0;
    let mut count = 0;
    for weight in &weights {
        // The likeliest always stays; min_p compares with it (its weight is 1).
        let enough = reached >= f64::from(top_p) * total;
        if count > 0 && (enough || *weight < f64::from(min_p)) {
            break;
        }
        reached += weight;
        count += 1;
    }
    weights.truncate(count);
    let mut left = draw.uniform * reached;
    for (weight, (token, _)) in weights.iter().zip(&scores) {
        left -= weight;
        if left < 0.0 {
            return *token;
        }
    }
    scores.get(count.saturating_sub(1)).map_or(0, |last| last.0)
}

/// The token with the largest score; of equals the lowest id.
fn likeliest(scores: &[(u32, f32)]) -> u32 {
    scores
        .iter()
        .fold((0, f32::NEG_INFINITY), |best, &(token, logit)| if logit > best.1 { (token, logit) } else { best })
        .0
}
