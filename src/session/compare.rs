//! What pruning costs and saves on one prompt: a dense answer, then the pruned model on that very answer.

use super::fit::{Room, fit};
use super::load::Model;
use super::talk::{Line, encode, encode_begun, sampler};
use crate::config::PruneConfig;
use crate::engine::{SequenceOptions, Sequences};
use crate::error::Result;
use crate::protocol::{Comparison, Event, Request, rate};
use crate::text::StopStrings;
use web_time::Instant;

/// Compares, telling everything on the way; stopped early, the comparison ends with what it has.
pub(super) async fn compare(model: &Model, request: &Request, line: &mut dyn Line) -> Result<()> {
    request.sampling.validate()?;
    let begun = encode_begun(model, &request.begun)?;
    let room = Room {
        context: model.info.context,
        reserve: request.max_tokens.min(model.info.context / 4),
        behind: begun.len(),
        overflow: request.overflow,
    };
    let mut ids = fit(&request.messages, room, &mut |messages| encode(model, messages))?.ids;
    ids.extend(&begun);
    let mut run = Run { model, request, line, ids, begun, comparison: Comparison::default() };
    let answer = run.dense().await?;
    run.pruned(&answer).await?;
    run.comparison.complete = true;
    run.tell();
    Ok(())
}

struct Run<'a> {
    model: &'a Model,
    request: &'a Request,
    line: &'a mut dyn Line,
    /// The prompt.
    ids: Vec<u32>,
    begun: Vec<u32>,
    comparison: Comparison,
}

impl Run<'_> {
    fn tell(&mut self) {
        let event = Event::Compared { id: self.request.id, comparison: self.comparison.clone() };
        self.line.post(event);
    }

    /// A sequence of its own, so that the chat's cache stays, with the logits behind the prompt; `None` when stopped.
    async fn start(&mut self, prune: PruneConfig) -> Result<Option<(Sequences, Vec<f32>)>> {
        let context = (self.ids.len() + self.request.max_tokens).min(self.model.info.context);
        let options = SequenceOptions { samples: 1, context, prune, known: self.model.known.clone(), live: false };
        let mut sequences = Sequences::new(&self.model.engine, options)?;
        let mut done = 0;
        loop {
            if self.line.stopped() {
                return Ok(None);
            }
            done = sequences.prefill_part(&self.ids, done).await?;
            if done == self.ids.len() {
                let logits = sequences.fetch_logits().await?.swap_remove(0);
                return Ok(Some((sequences, logits)));
            }
        }
    }

    /// Writes the dense answer; returns its tokens.
    async fn dense(&mut self) -> Result<Vec<u32>> {
        let Some((mut sequences, mut logits)) = self.start(PruneConfig::default()).await? else {
            return Ok(Vec::new());
        };
        let tokenizer = &self.model.tokenizer;
        let mut sampler = sampler(&self.request.sampling, &self.begun)?;
        let mut decoder =
            if self.begun.is_empty() { tokenizer.stream(true) } else { tokenizer.stream_continuing(true) };
        let mut stops = StopStrings::new(self.model.template.stop_strings().iter().cloned());
        let (mut answer, mut nll, started) = (Vec::new(), 0.0, Instant::now());
        loop {
            let token = sampler.sample(&logits)?;
            if tokenizer.is_end(token) {
                break;
            }
            sampler.accept(token);
            nll += negative_log_likelihood(&logits, token);
            answer.push(token);
            let piece = stops.push(&decoder.push(token)?);
            self.comparison.text.push_str(&piece);
            self.comparison.tokens = answer.len();
            self.comparison.dense_perplexity = (nll / answer.len() as f64).exp();
            self.comparison.dense_rate = rate(answer.len() - 1, started.elapsed().as_secs_f64());
            self.tell();
            let full = answer.len() >= self.request.max_tokens || sequences.lengths()[0] >= sequences.context();
            if stops.stopped() || full || self.line.stopped() {
                break;
            }
            sequences.append(&[token])?;
            logits = sequences.fetch_logits().await?.swap_remove(0);
        }
        let mut rest = stops.push(&decoder.finish());
        rest.push_str(&stops.finish());
        self.comparison.text.push_str(&rest);
        Ok(answer)
    }

    /// Runs the pruned model over the dense answer.
    async fn pruned(&mut self, answer: &[u32]) -> Result<()> {
        if answer.is_empty() {
            return Ok(());
        }
        let Some((mut sequences, mut logits)) = self.start(self.request.prune.clone()).await? else { return Ok(()) };
        let (mut nll, started) = (0.0, Instant::now());
        for (count, &token) in (1..).zip(answer) {
            nll += negative_log_likelihood(&logits, token);
            self.comparison.pruned_perplexity = Some((nll / f64::from(count)).exp());
            self.comparison.pruned_rate = Some(rate(count as usize - 1, started.elapsed().as_secs_f64()));
            self.tell();
            if self.line.stopped() || sequences.lengths()[0] >= sequences.context() {
                break;
            }
            if count as usize != answer.len() {
                sequences.append(&[token])?;
                logits = sequences.fetch_logits().await?.swap_remove(0);
            }
        }
        Ok(())
    }
}

/// `-ln softmax(logits)[token]`, in nats.
fn negative_log_likelihood(logits: &[f32], token: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    sum.ln() - f64::from(logits[token as usize] - most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_likelihood_is_that_of_the_softmax() {
        let logits = [1.0f32, 3.0, -2.0];
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        for (token, &logit) in (0u32..).zip(&logits) {
            let exact = -(f64::from(logit).exp() / sum).ln();
            assert!((negative_log_likelihood(&logits, token) - exact).abs() < 1e-12);
        }
    }
}
