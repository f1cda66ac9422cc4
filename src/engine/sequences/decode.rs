//! Decoding: token after token, with the logits read back ([`Sequences::fetch_logits`]), or without: the next token is drawn on the
//! device, and its pass can be submitted before anybody knows it.
//!
//! In turns: [`Sequences::draw`], [`Sequences::run_ahead`], [`Sequences::drawn`], [`Sequences::append`]. A pass that runs ahead
//! counts for nothing (lengths, costs, the window of a renewal) until its token is appended. Where that never happens there is
//! nothing to undo: what it wrote lies behind the end of the cache and of the window, where the next token writes. A renewal
//! could not be undone, so the pass that one comes before is not submitted ahead.

use super::super::forward::{Pass, forward};
use super::super::sampler::{self, Sampler};
use super::super::views;
use super::Sequences;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu, Pending, Tier};
use crate::kernels::sample;
use crate::prune::{Dense, Frozen, Selector};

/// A draw, from the logits to whoever asks for the token.
pub(super) struct Drawing {
    /// `[samples][stride]`: what the op reads besides the logits.
    words: Buffer,
    drawn: Option<Drawn>,
    /// Whether the pass of the drawn tokens was submitted already.
    ahead: bool,
    /// Whether the device's logits are those after the last token, and nothing was drawn from them.
    pub ready: bool,
}

/// A token for every sequence.
enum Drawn {
    Coming(Pending),
    Here(Vec<u32>),
}

impl Drawing {
    pub fn new(gpu: &Gpu, samples: usize) -> Result<Drawing> {
        Ok(Drawing { words: gpu.zeros("draws", samples * 2)?, drawn: None, ahead: false, ready: false })
    }

    /// Gives up a draw, and a pass that runs ahead.
    pub fn forget(&mut self) {
        (self.drawn, self.ahead, self.ready) = (None, false, false);
    }
}

impl Sequences {
    /// Appends one token to every sequence and returns the logits after it: `[sample][vocab]`.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] when the cache is full, [`Error::Device`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn step(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        self.append(tokens)?;
        self.logits()
    }

    /// Appends one token to every sequence; the logits after it stay on the device. Where a pass of these very tokens runs
    /// ahead, that is the one.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] when the cache is full, [`Error::Device`].
    pub fn append(&mut self, tokens: &[u32]) -> Result<()> {
        self.engine.check_ids(tokens)?;
        if tokens.len() != self.lengths.len() {
            return Err(Error::Setting(format!("{} tokens for {} sequences", tokens.len(), self.lengths.len())));
        }
        if let Some(&full) = self.lengths.iter().find(|&&length| length >= self.context) {
            let trained = self.engine.config().max_position_embeddings;
            return Err(Error::PromptTooLong { prompt_tokens: full + 1, context: self.context, trained });
        }
        let runs = self.drawing.ahead && matches!(&self.drawing.drawn, Some(Drawn::Here(ids)) if ids == tokens);
        self.drawing.forget();
        if !runs {
            self.renew_if_due()?;
            self.engine.gpu().write(&self.step.ids, 0, tokens)?;
            self.submit_pass()?;
        }
        self.count_pass();
        self.drawing.ready = true;
        Ok(())
    }

    /// Draws the token that follows every sequence from the logits on the device, which are used up, and starts to read it
    /// back. There is a sampler for every sequence, all of the same settings but for the seed. A software adapter reads the
    /// logits back instead, and the CPU draws: that is faster there (docs/performance.md).
    ///
    /// # Errors
    /// [`Error::Setting`] for other samplers, [`Error::Internal`] without a prompt or [`Sequences::append`] before it,
    /// [`Error::Device`] when the device fails, or when a logit is NaN and that is seen already.
    pub async fn draw(&mut self, samplers: &mut [Sampler]) -> Result<()> {
        let engine = self.engine.clone();
        let (gpu, vocab) = (engine.gpu(), engine.config().vocab_size);
        let filters = match samplers {
            [first, others @ ..] if samplers_fit(first, others, self.lengths.len()) => first.filters(),
            _ => {
                let (found, expected) = (samplers.len(), self.lengths.len());
                return Err(Error::Setting(format!(
                    "{found} samplers for {expected} sequences, or samplers of different settings"
                )));
            }
        };
        self.check_logits()?;
        if gpu.tier() == Tier::Software {
            let logits = self.fetch_logits().await?;
            self.drawing.forget();
            let draws = samplers.iter_mut().zip(&logits);
            let ids = draws.map(|(sampler, logits)| sampler.sample(logits)).collect::<Result<Vec<u32>>>()?;
            gpu.write(&self.step.ids, 0, &ids)?;
            self.drawing.drawn = Some(Drawn::Here(ids));
            return Ok(());
        }
        self.drawing.forget();
        let draws: Vec<sample::Draw> = samplers.iter_mut().map(|sampler| sampler.draw(vocab)).collect();
        let (words, stride) = sample::words(&draws);
        if self.drawing.words.bytes() < 4 * words.len() as u64 {
            self.drawing.words = gpu.zeros("draws", words.len().next_power_of_two())?;
        }
        gpu.write(&self.drawing.words, 0, &words)?;
        let mut rec = gpu.record();
        let shape = (samplers.len(), vocab);
        sample::record(&mut rec, &self.step.logits, (&self.drawing.words, stride), &self.step.ids, shape, filters)?;
        rec.submit()?;
        self.drawing.drawn = Some(Drawn::Coming(gpu.read_later(&[(&self.step.ids, samplers.len())])?));
        Ok(())
    }

    /// Submits the pass of the tokens that were just drawn, whatever they are. Returns `false`, having done nothing, where it
    /// must wait until they are known: the cache is full, or masks are to be renewed.
    ///
    /// # Errors
    /// [`Error::Internal`] without a draw before it, and those of [`Sequences::append`].
    pub fn run_ahead(&mut self) -> Result<bool> {
        if self.drawing.drawn.is_none() || self.drawing.ahead {
            return Err(Error::Internal("a pass ahead without a token drawn for it".into()));
        }
        if self.renewal_is_due() || self.lengths.iter().any(|&length| length >= self.context) {
            return Ok(false);
        }
        self.submit_pass()?;
        self.drawing.ahead = true;
        Ok(true)
    }

    /// The tokens that were drawn, one for every sequence: waits for them, and not for a pass that runs ahead.
    ///
    /// # Errors
    /// [`Error::Internal`] without a draw before it, [`Error::Device`] when a logit was NaN or the device fails.
    pub async fn drawn(&mut self) -> Result<Vec<u32>> {
        let ids = match &self.drawing.drawn {
            Some(Drawn::Here(ids)) => ids.clone(),
            Some(Drawn::Coming(pending)) => {
                let words = self.engine.gpu().finish(pending).await?.concat();
                words.into_iter().map(sampler::token).collect::<Result<Vec<u32>>>()?
            }
            None => return Err(Error::Internal("no token was drawn".into())),
        };
        self.drawing.drawn = Some(Drawn::Here(ids.clone()));
        Ok(ids)
    }

    /// The logits after the last token of every sequence, read back: `[sample][vocab]`.
    ///
    /// # Errors
    /// [`Error::Internal`] where there are none: nothing ran yet, or they were drawn from; [`Error::Device`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn logits(&self) -> Result<Vec<Vec<f32>>> {
        pollster::block_on(self.fetch_logits())
    }

    /// The logits after the last token of every sequence, when they are there: `[sample][vocab]`.
    ///
    /// # Errors
    /// [`Error::Internal`] where there are none: nothing ran yet, or they were drawn from; [`Error::Device`].
    pub async fn fetch_logits(&self) -> Result<Vec<Vec<f32>>> {
        self.check_logits()?;
        let vocab = self.engine.config().vocab_size;
        let flat: Vec<f32> = self.engine.gpu().read_async(&self.step.logits, self.lengths.len() * vocab).await?;
        Ok(flat.chunks_exact(vocab).map(<[f32]>::to_vec).collect())
    }

    fn check_logits(&self) -> Result<()> {
        match self.drawing.ready {
            true => Ok(()),
            false => Err(Error::Internal("there are no logits: nothing ran, or they were drawn from".into())),
        }
    }

    /// Submits the pass of the tokens in `step.ids`; counts nothing.
    fn submit_pass(&mut self) -> Result<()> {
        let engine = self.engine.clone();
        let (gpu, config) = (engine.gpu(), engine.config());
        let places: Vec<[u32; 2]> = self.lengths.iter().map(|&length| [length as u32; 2]).collect();
        gpu.write(&self.step.places, 0, &places)?;
        let (row, next) = (self.prune.reprobe_rows(self.unseen), self.prune.reprobe_rows(self.unseen + 1));
        self.step.work.row = (next > row).then_some(row as u32);
        if let (Some(window), Some(row)) = (&self.step.work.window, self.step.work.row) {
            gpu.write(&window.places, u64::from(row) * 8, &places)?;
        }
        let caches = views(&self.caches, config, &self.lengths, 1);
        let pass = Pass {
            ids: &self.step.ids,
            places: &self.step.places,
            lengths: &self.step.lengths,
            is_padded: false,
            samples: self.lengths.len(),
            length: 1,
            caches: &caches,
            keeps_cache: true,
            turns: engine.model.rope(&self.turns),
        };
        let mut rec = gpu.record();
        let pruned = self.decodes_pruned();
        let compensation = self.judges.later.compensation().map(|compensation| &**compensation);
        let mut frozen = Frozen { masks: &self.masks, compensation };
        let selector: &mut dyn Selector = match &mut self.fixed {
            Some(fixed) if pruned => fixed,
            None if pruned => &mut frozen,
            _ => &mut Dense,
        };
        forward(&mut rec, &engine.model, &self.step.work, &pass, selector)?;
        let rows: Vec<usize> = (0..self.lengths.len()).collect();
        self.record_head(&mut rec, &self.step.work.residual, &self.step.work.norms, &rows)?;
        rec.submit()
    }

    /// Counts the pass that was submitted last.
    fn count_pass(&mut self) {
        let engine = self.engine.clone();
        let pruned = self.decodes_pruned();
        let plan = if pruned && self.prune.phases.decode { &self.plan } else { &self.dense };
        self.traffic.add(&engine.model, plan);
        for length in &mut self.lengths {
            *length += 1;
            self.flops.add(engine.config(), plan, 1.0, *length as f64);
        }
        // Before the first choice no renewal wants these states.
        self.unseen += usize::from(pruned);
    }

    fn decodes_pruned(&self) -> bool {
        (self.chosen || self.fixed.is_some()) && (self.live || self.prune.phases.decode)
    }
}

fn samplers_fit(first: &Sampler, others: &[Sampler], sequences: usize) -> bool {
    1 + others.len() == sequences && others.iter().all(|other| other.filters() == first.filters())
}
