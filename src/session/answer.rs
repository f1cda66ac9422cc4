//! One answer: a prompt's new tokens in, a stream of text out, with what it cost.

use crate::engine::{Sampler, Sequences, Traffic};
use crate::error::Result;
use crate::protocol::{Cost, Stop, rate};
use crate::prune::Flops;
use crate::text::{StopStrings, StreamDecoder, Tokenizer};
use std::ops::ControlFlow;
use web_time::Instant;

/// What one answer is written with; several runs of [`Writer::write`] go on with one text.
pub struct Writer<'a> {
    /// The sequence that is continued.
    pub sequences: &'a mut Sequences,
    /// Says which tokens end an answer.
    pub tokenizer: &'a Tokenizer,
    /// Makes text of tokens.
    pub decoder: StreamDecoder,
    /// Draws.
    pub sampler: Sampler,
    /// Strings that end an answer.
    pub stops: StopStrings,
    /// Most tokens.
    pub max_tokens: usize,
    /// Go on behind tokens that end an answer.
    pub ignore_end: bool,
}

/// An answer and what it cost, so far.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// The text, without stop strings and special tokens.
    pub text: String,
    /// Its tokens; the one that ended it is not among them.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub stop: Option<Stop>,
    /// Tokens of the prompt that were run.
    pub prefilled: usize,
    /// Seconds until the first token could be drawn.
    pub prefill_seconds: f64,
    /// Seconds of all others.
    pub decode_seconds: f64,
    /// Tokens that were run while decoding.
    pub decoded: usize,
    /// What the prompt cost.
    pub prefill: Cost,
    /// What decoding cost.
    pub decode: Cost,
}

/// Who listens to an answer as it grows: the text that is new (often none: half a character, or the prompt is still being
/// read), what is written so far, and the sequence. `Break` ends the answer.
pub type Listener<'l> = dyn FnMut(&str, &Written, &mut Sequences) -> Result<ControlFlow<()>> + 'l;

impl Writer<'_> {
    /// Appends `new` to the sequence and writes an answer behind it, adding to `written`. A text that ends for good is
    /// complete; where the context is full ([`Stop::Context`]) it can be gone on with.
    ///
    /// # Errors
    /// Those of the engine and the listener; what was written until then stays in `written`.
    pub async fn write(&mut self, new: &[u32], written: &mut Written, hear: &mut Listener<'_>) -> Result<Stop> {
        let stop = self.until_stop(new, written, hear).await?;
        if stop != Stop::Context {
            self.finish(written, hear)?;
        }
        written.stop = Some(stop);
        Ok(stop)
    }

    /// Hands out what waited for the rest of a character or of a stop string.
    ///
    /// # Errors
    /// That of the listener.
    pub fn finish(&mut self, written: &mut Written, hear: &mut Listener<'_>) -> Result<()> {
        let mut rest = self.stops.push(&self.decoder.finish());
        rest.push_str(&self.stops.finish());
        written.text.push_str(&rest);
        if !rest.is_empty() {
            // It has ended already.
            let _ = hear(&rest, written, self.sequences)?;
        }
        Ok(())
    }

    /// While a token becomes text, and whoever listens draws it, the pass of that token runs.
    async fn until_stop(&mut self, new: &[u32], written: &mut Written, hear: &mut Listener<'_>) -> Result<Stop> {
        if !self.read(new, written, hear).await? {
            return Ok(Stop::Stopped);
        }
        let (earlier, cost) = (written.decode_seconds, written.decode);
        let (before, started) = (meter(self.sequences), Instant::now());
        let mut behind_prompt = true;
        loop {
            if written.ids.len() >= self.max_tokens {
                return Ok(Stop::Length);
            }
            self.sequences.draw(std::slice::from_mut(&mut self.sampler)).await?;
            if written.ids.len() + 1 < self.max_tokens {
                // Where it must not, it runs when the token is appended.
                self.sequences.run_ahead()?;
            }
            let token = self.sequences.drawn().await?.swap_remove(0);
            if !std::mem::take(&mut behind_prompt) {
                written.decoded += 1;
                written.decode_seconds = earlier + started.elapsed().as_secs_f64();
                written.decode = cost + since(self.sequences, before);
            }
            if self.tokenizer.is_end(token) && !self.ignore_end {
                return Ok(Stop::End);
            }
            self.sampler.accept(token);
            written.ids.push(token);
            let piece = self.stops.push(&self.decoder.push(token)?);
            written.text.push_str(&piece);
            let flow = hear(&piece, written, self.sequences)?;
            if self.stops.stopped() {
                return Ok(Stop::Phrase);
            }
            if flow.is_break() {
                return Ok(Stop::Stopped);
            }
            if written.ids.len() >= self.max_tokens {
                return Ok(Stop::Length);
            }
            if self.sequences.lengths()[0] >= self.sequences.context() {
                return Ok(Stop::Context);
            }
            self.sequences.append(&[token])?;
        }
    }

    /// Runs the prompt; `false` where the listener ended it.
    async fn read(&mut self, new: &[u32], written: &mut Written, hear: &mut Listener<'_>) -> Result<bool> {
        let (earlier, prefilled, cost) = (written.prefill_seconds, written.prefilled, written.prefill);
        let (before, started) = (meter(self.sequences), Instant::now());
        let mut done = 0;
        loop {
            done = self.sequences.prefill_part(new, done).await?;
            written.prefilled = prefilled + done;
            written.prefill_seconds = earlier + started.elapsed().as_secs_f64();
            written.prefill = cost + since(self.sequences, before);
            let flow = hear("", written, self.sequences)?;
            if flow.is_break() || done == new.len() {
                return Ok(flow.is_continue());
            }
        }
    }
}

impl Written {
    /// Tokens of the prompt a second.
    pub fn prefill_rate(&self) -> f64 {
        rate(self.prefilled, self.prefill_seconds)
    }

    /// Tokens of the answer a second; the first one is drawn from the prompt's pass and does not count.
    pub fn decode_rate(&self) -> f64 {
        rate(self.decoded, self.decode_seconds)
    }
}

/// What a sequence has cost.
#[derive(Clone, Copy)]
struct Meter(Flops, Traffic);

fn meter(sequences: &Sequences) -> Meter {
    Meter(sequences.flops(), sequences.traffic())
}

fn since(sequences: &Sequences, Meter(flops, traffic): Meter) -> Cost {
    let (Flops { pass, dense, probe }, read) = (sequences.flops() - flops, sequences.traffic());
    Cost {
        flops: pass,
        flops_dense: dense,
        flops_probe: probe,
        bytes: read.read - traffic.read,
        bytes_dense: read.dense - traffic.dense,
    }
}
