//! Batch evaluation: the likelihood of given tokens, under any method. No cache outlives a layer.

use super::forward::{Pass, forward};
use super::head::Head;
use super::workspace::Workspace;
use super::{CacheBuffer, Engine, check_rows};
use crate::error::{Error, Result};
use crate::gpu::Buffer;
use crate::kernels::{Rows, cross_entropy};
use crate::model::Added;
use crate::prune::Selector;
use std::sync::Arc;

/// Bytes of logits held at once.
const LOGIT_BYTES: usize = 16 << 20;

/// A token whose likelihood is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Position in the sample that predicts it: the one before its own.
    pub position: usize,
    /// The token.
    pub token: u32,
}

/// Scores batches of at most a given shape.
pub struct Scorer {
    engine: Arc<Engine>,
    work: Workspace,
    cache: CacheBuffer,
    turns: Buffer,
    ids: Buffer,     // [samples * length]
    places: Buffer,  // [samples * length] position and slot
    lengths: Buffer, // [samples]
    targets: Buffer, // [samples * length]
    normed: Buffer,  // [samples * length][H]
    head: Head,
    logits: Buffer, // [rows at once][vocab]
    nll: Buffer,    // [samples * length]
    rows_at_once: usize,
    samples: usize,
    length: usize,
}

impl Scorer {
    /// Room for batches of `samples` by `length` tokens.
    ///
    /// # Errors
    /// [`Error::Setting`] for a shape that no pass can run, [`Error::PromptTooLong`] beyond the model's context, and those
    /// of [`crate::gpu::Gpu::buffer`].
    pub fn new(engine: &Arc<Engine>, samples: usize, length: usize) -> Result<Scorer> {
        check_rows(samples, length)?;
        let (gpu, config) = (engine.gpu(), engine.config());
        let trained = config.max_position_embeddings;
        if length > trained {
            return Err(Error::PromptTooLong { prompt_tokens: length, context: trained, trained });
        }
        let rows = samples * length;
        let rows_at_once = (LOGIT_BYTES / 4 / config.vocab_size).clamp(1, rows);
        Ok(Scorer {
            work: Workspace::new(gpu, config, rows)?,
            cache: CacheBuffer::passing(gpu, config, samples, length)?,
            turns: engine.model.turns(gpu, length)?,
            ids: gpu.zeros("ids", rows)?,
            places: gpu.zeros("places", rows * 2)?,
            lengths: gpu.zeros("lengths", samples)?,
            targets: gpu.zeros("targets", rows)?,
            normed: gpu.zeros("last state", rows * config.hidden_size)?,
            head: Head::new(gpu, config, rows_at_once)?,
            logits: gpu.zeros("logits", rows_at_once * config.vocab_size)?,
            nll: gpu.zeros("likelihoods", rows)?,
            rows_at_once,
            samples,
            length,
            engine: engine.clone(),
        })
    }

    /// Negative log likelihoods of tokens 1.. of every sample, in nats: `[sample][tokens - 1]`. Shorter samples are padded
    /// on the right to the longest.
    ///
    /// # Errors
    /// [`Error::Setting`] for a batch larger than the scorer or an unknown id, [`Error::Device`].
    pub fn nll(&mut self, batch: &[Vec<u32>], selector: &mut dyn Selector) -> Result<Vec<Vec<f32>>> {
        let next = |(position, &token): (usize, &u32)| Target { position, token };
        let of = |ids: &Vec<u32>| ids.iter().skip(1).enumerate().map(next).collect();
        let targets: Vec<Vec<Target>> = batch.iter().map(of).collect();
        self.nll_of(batch, &targets, selector)
    }

    /// Negative log likelihoods of `targets`, `[sample][target]`, in nats. The output head runs for their positions alone;
    /// those of a sample may repeat, and ascending ones cost least.
    ///
    /// # Errors
    /// As [`Scorer::nll`], and [`Error::Setting`] for a sample without a target or a target outside its sample.
    pub fn nll_of(
        &mut self,
        batch: &[Vec<u32>],
        targets: &[Vec<Target>],
        selector: &mut dyn Selector,
    ) -> Result<Vec<Vec<f32>>> {
        self.check_targets(batch, targets)?;
        let length = self.run(batch, selector)?;
        let row = |sample: usize, target: &Target| (sample * length + target.position, target.token);
        let of = |(sample, targets): (usize, &'_ Vec<Target>)| -> Vec<(usize, u32)> {
            targets.iter().map(|target| row(sample, target)).collect()
        };
        let wanted: Vec<(usize, u32)> = targets.iter().enumerate().flat_map(of).collect();
        let nll = self.likelihoods(&wanted)?;
        let mut nll = nll.into_iter();
        Ok(targets.iter().map(|targets| nll.by_ref().take(targets.len()).collect()).collect())
    }

    /// Of each `(row, token)` of the batch that has just run.
    fn likelihoods(&self, wanted: &[(usize, u32)]) -> Result<Vec<f32>> {
        let gpu = self.engine.gpu();
        let mut all = Vec::with_capacity(wanted.len());
        // As many at once as there is room for: targets may repeat a row.
        for wanted in wanted.chunks(self.samples * self.length) {
            let tokens: Vec<u32> = wanted.iter().map(|(_, token)| *token).collect();
            gpu.write(&self.targets, 0, &tokens)?;
            let mut rec = gpu.record();
            let mut at = 0;
            // Rows that follow one another are normed together; they come to lie densely.
            for run in wanted.chunk_by(|(one, _), (next, _)| *next == one + 1) {
                self.last_norm(&mut rec, (run[0].0, at), run.len())?;
                at += run.len();
            }
            for first in (0..wanted.len()).step_by(self.rows_at_once) {
                let count = self.rows_at_once.min(wanted.len() - first);
                self.record_head(&mut rec, first, count)?;
                let out = (&self.targets, &self.nll);
                cross_entropy::record(&mut rec, &self.logits, out, (first, count), self.engine.config().vocab_size)?;
                rec.submit()?;
            }
            all.extend(gpu.read::<f32>(&self.nll, wanted.len())?);
        }
        Ok(all)
    }

    /// Logits after the last token of every sample: `[sample][vocab]`.
    ///
    /// # Errors
    /// As [`Scorer::nll`].
    pub fn last_logits(&mut self, batch: &[Vec<u32>], selector: &mut dyn Selector) -> Result<Vec<Vec<f32>>> {
        let length = self.run(batch, selector)?;
        let gpu = self.engine.gpu();
        let mut rec = gpu.record();
        self.last_norm(&mut rec, (0, 0), batch.len() * length)?;
        let mut all = Vec::new();
        for (sample, ids) in batch.iter().enumerate() {
            self.record_head(&mut rec, sample * length + ids.len() - 1, 1)?;
            rec.submit()?;
            all.push(gpu.read(&self.logits, self.engine.config().vocab_size)?);
        }
        Ok(all)
    }

    /// Runs the layers only: for selectors that watch.
    ///
    /// # Errors
    /// As [`Scorer::nll`].
    pub fn observe(&mut self, batch: &[Vec<u32>], selector: &mut dyn Selector) -> Result<()> {
        self.run(batch, selector)?;
        // A calibration of thousands of samples must not queue up without bound.
        self.engine.gpu().wait()
    }

    /// The residual stream after the last layer of the last batch, `[rows][H]`, before the last norm.
    ///
    /// # Errors
    /// Those of [`crate::gpu::Gpu::read`].
    pub fn residual(&self, rows: usize) -> Result<Vec<f32>> {
        self.engine.gpu().read(&self.work.residual, rows * self.engine.config().hidden_size)
    }

    fn run(&mut self, batch: &[Vec<u32>], selector: &mut dyn Selector) -> Result<usize> {
        let length = batch.iter().map(Vec::len).max().unwrap_or(0);
        check_rows(batch.len(), length)?;
        if batch.len() > self.samples || length > self.length {
            let (samples, longest) = (self.samples, self.length);
            let what = format!("a batch of {} x {length} tokens for a scorer of {samples} x {longest}", batch.len());
            return Err(Error::Setting(what));
        }
        if batch.iter().any(Vec::is_empty) {
            return Err(Error::Setting("a sample has no token: there is nothing to run".into()));
        }
        let engine = self.engine.clone();
        let gpu = engine.gpu();
        let mut ids = vec![0u32; batch.len() * length];
        for (sample, tokens) in batch.iter().enumerate() {
            engine.check_ids(tokens)?;
            ids[sample * length..][..tokens.len()].copy_from_slice(tokens);
        }
        let places: Vec<[u32; 2]> = (0..ids.len()).map(|row| [(row % length) as u32; 2]).collect();
        let lengths: Vec<u32> = batch.iter().map(|tokens| tokens.len() as u32).collect();
        gpu.write(&self.ids, 0, &ids)?;
        gpu.write(&self.places, 0, &places)?;
        gpu.write(&self.lengths, 0, &lengths)?;
        let caches = vec![self.cache.view(engine.config(), 0, length); engine.config().num_hidden_layers];
        let pass = Pass {
            ids: &self.ids,
            places: &self.places,
            lengths: &self.lengths,
            is_padded: batch.iter().any(|tokens| tokens.len() < length),
            samples: batch.len(),
            length,
            caches: &caches,
            keeps_cache: false,
            turns: engine.model.rope(&self.turns),
        };
        let mut rec = gpu.record();
        forward(&mut rec, &engine.model, &self.work, &pass, selector)?;
        rec.submit()?;
        Ok(length)
    }

    fn check_targets(&self, batch: &[Vec<u32>], targets: &[Vec<Target>]) -> Result<()> {
        if batch.len() != targets.len() {
            let what = format!("targets of {} samples for a batch of {}", targets.len(), batch.len());
            return Err(Error::Setting(what));
        }
        for (ids, targets) in batch.iter().zip(targets) {
            if targets.is_empty() {
                return Err(Error::Setting("a sample has no token to score: it needs two at least".into()));
            }
            if let Some(target) = targets.iter().find(|target| target.position >= ids.len()) {
                let (position, length) = (target.position, ids.len());
                return Err(Error::Setting(format!("a target at position {position} of a sample of {length} tokens")));
            }
            self.engine.check_ids(&targets.iter().map(|target| target.token).collect::<Vec<u32>>())?;
        }
        Ok(())
    }

    /// The last norm of `rows` rows, from row `from` of the residual stream to row `to` of the normed state.
    fn last_norm(&self, rec: &mut crate::gpu::Recorder<'_>, (from, to): (usize, usize), rows: usize) -> Result<()> {
        let (model, config) = (&self.engine.model, self.engine.config());
        let shape = (rows, config.hidden_size, config.rms_norm_eps);
        let x = Rows { buffer: &self.work.residual, first: from as u32 };
        let y = Rows { buffer: &self.normed, first: to as u32 };
        model.output_norm.record(rec, x, Added::default(), y, &self.work.norms, shape)
    }

    fn record_head(&self, rec: &mut crate::gpu::Recorder<'_>, first: usize, rows: usize) -> Result<()> {
        let x = Rows { buffer: &self.normed, first: first as u32 };
        self.head.record(rec, &self.engine.model, x, &self.logits, rows)
    }
}
