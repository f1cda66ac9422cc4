//! One answer: a prompt's new tokens in, a stream of text out, with what it cost.

use anyhow::Result;
use secateur::engine::{Sampler, Sequences};
use secateur::prune::Flops;
use secateur::text::{StopStrings, StreamDecoder, Tokenizer};
use serde::Serialize;
use std::time::Instant;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// The model said so.
    End,
    /// A string came that ends an answer.
    Phrase,
    /// As many tokens as were asked for.
    Length,
    /// The context is full.
    Context,
    /// Ctrl-C.
    Interrupted,
}

/// How long an answer may get.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most tokens.
    pub max_tokens: usize,
    /// Go on behind tokens that end an answer.
    pub ignore_end: bool,
    /// Strings that end an answer.
    pub stops: StopStrings,
}

/// An answer and what it cost.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The text, without stop strings and special tokens.
    pub text: String,
    /// Its tokens; the one that ended it is not among them.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens of the prompt that were run.
    pub prefilled: usize,
    /// Seconds until the first token could be drawn.
    pub prefill_seconds: f64,
    /// Seconds of all others.
    pub decode_seconds: f64,
    /// Tokens that were run while decoding.
    pub decoded: usize,
    /// What the prompt cost.
    pub prefill_flops: Flops,
    /// What decoding cost.
    pub decode_flops: Flops,
}

/// Appends `new` to the sequence and draws an answer, handing its text to `emit` as it comes.
pub fn answer(
    sequences: &mut Sequences,
    (tokenizer, mut decoder): (&Tokenizer, StreamDecoder),
    new: &[u32],
    sampler: &mut Sampler,
    mut limits: Limits,
    emit: &mut dyn FnMut(&str) -> Result<()>,
    asked_to_stop: &dyn Fn() -> bool,
) -> Result<Answer> {
    let before = sequences.flops();
    let started = Instant::now();
    let mut logits = sequences.prefill(&[new.to_vec()])?;
    let prefill_seconds = started.elapsed().as_secs_f64();
    let prefill_flops = difference(sequences.flops(), before);

    let before = sequences.flops();
    let started = Instant::now();
    let (mut text, mut ids, mut decoded) = (String::new(), Vec::new(), 0);
    let mut show = |piece: String| {
        text.push_str(&piece);
        if piece.is_empty() { Ok(()) } else { emit(&piece) }
    };
    let stop = loop {
        if ids.len() >= limits.max_tokens {
            break Stop::Length;
        }
        if asked_to_stop() {
            break Stop::Interrupted;
        }
        let token = sampler.sample(&logits[0])?;
        if tokenizer.is_end(token) && !limits.ignore_end {
            break Stop::End;
        }
        sampler.accept(token);
        ids.push(token);
        show(limits.stops.push(&decoder.push(token)?))?;
        if limits.stops.stopped() {
            break Stop::Phrase;
        }
        if ids.len() >= limits.max_tokens {
            break Stop::Length;
        }
        if sequences.lengths()[0] >= sequences.context() {
            break Stop::Context;
        }
        logits = sequences.step(&[token])?;
        decoded += 1;
    };
    show(limits.stops.push(&decoder.finish()))?;
    show(limits.stops.finish())?;
    let decode_seconds = started.elapsed().as_secs_f64();
    let decode_flops = difference(sequences.flops(), before);
    let prefilled = new.len();
    Ok(Answer { text, ids, stop, prefilled, prefill_seconds, decode_seconds, decoded, prefill_flops, decode_flops })
}

impl Answer {
    /// Tokens of the prompt a second.
    pub fn prefill_rate(&self) -> f64 {
        rate(self.prefilled, self.prefill_seconds)
    }

    /// Tokens of the answer a second; the first one is drawn from the prompt's pass and does not count.
    pub fn decode_rate(&self) -> f64 {
        rate(self.decoded, self.decode_seconds)
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let mut line = format!(
            "prompt: {} tokens, {:.1} tokens/s; answer: {} tokens, {:.1} tokens/s",
            self.prefilled,
            self.prefill_rate(),
            self.ids.len(),
            self.decode_rate()
        );
        for (name, flops) in [("prompt", self.prefill_flops), ("answer", self.decode_flops)] {
            if flops.pass < flops.dense || flops.probe > 0.0 {
                line.push_str(&format!("; FLOPs of the {name}: {}", removed(flops)));
            }
        }
        line
    }

    /// What to say where a pruned prompt cost more than a dense one.
    pub fn prefill_warning(&self) -> Option<String> {
        let Flops { pass, dense, probe } = self.prefill_flops;
        (pass + probe > dense).then(|| {
            format!(
                "the pruned prompt cost {:.0} % of the FLOPs of a dense one (its probe alone {:.0} %): with one \
                 sequence, pruning the prompt pays only at high ratios or with a smaller --probe-tokens",
                100.0 * (pass + probe) / dense,
                100.0 * probe / dense
            )
        })
    }
}

/// Tokens a second; 0 where nothing was timed.
pub fn rate(tokens: usize, seconds: f64) -> f64 {
    if tokens > 0 && seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
}

/// The share of dense FLOPs that was saved, probes counted as cost, in words.
pub fn removed(flops: Flops) -> String {
    if flops.dense == 0.0 {
        return "none".into();
    }
    let percent = |part: f64| 100.0 * part / flops.dense;
    let saved = percent(flops.dense - flops.pass - flops.probe);
    let (amount, word) = (saved.abs(), if saved < 0.0 { "added" } else { "removed" });
    match flops.probe > 0.0 {
        true => format!("{amount:.1} % {word} (probes cost {:.1} %)", percent(flops.probe)),
        false => format!("{amount:.1} % {word}"),
    }
}

/// `after - before`.
pub fn difference(after: Flops, before: Flops) -> Flops {
    Flops { pass: after.pass - before.pass, dense: after.dense - before.dense, probe: after.probe - before.probe }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_counts_the_probe_as_cost() {
        assert_eq!(removed(Flops { pass: 80.0, dense: 100.0, probe: 0.0 }), "20.0 % removed");
        assert_eq!(removed(Flops { pass: 80.0, dense: 100.0, probe: 5.0 }), "15.0 % removed (probes cost 5.0 %)");
        assert_eq!(removed(Flops { pass: 85.0, dense: 100.0, probe: 29.0 }), "14.0 % added (probes cost 29.0 %)");
        assert_eq!(removed(Flops::default()), "none");
    }
}
