//! Batch evaluation: the likelihood of given tokens, under any method. No cache outlives a layer.

use super::forward::{Pass, forward};
use super::workspace::Workspace;
use super::{CacheBuffers, Engine, check_rows};
use crate::error::{Error, Result};
use crate::gpu::Buffer;
use crate::kernels::{Rows, cross_entropy, matmul_rows, rms_norm};
use crate::prune::Selector;
use std::sync::Arc;

/// Bytes of logits held at once.
const LOGIT_BYTES: usize = 16 << 20;

/// Scores batches of at most a given shape.
pub struct Scorer {
    engine: Arc<Engine>,
    work: Workspace,
    cache: CacheBuffers,
    turns: Buffer,
    ids: Buffer,     // [samples * length]
    places: Buffer,  // [samples * length] position and slot
    lengths: Buffer, // [samples]
    targets: Buffer, // [samples * length]
    normed: Buffer,  // [samples * length][H]
    logits: Buffer,  // [rows at once][vocab]
    nll: Buffer,     // [samples * length]
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
            cache: CacheBuffers::new(gpu, config, samples, length)?,
            turns: engine.model.turns(gpu, length)?,
            ids: gpu.zeros("ids", rows)?,
            places: gpu.zeros("places", rows * 2)?,
            lengths: gpu.zeros("lengths", samples)?,
            targets: gpu.zeros("targets", rows)?,
            normed: gpu.zeros("last state", rows * config.hidden_size)?,
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
        let length = self.run(batch, selector)?;
        let rows = batch.len() * length;
        let mut targets = vec![0u32; rows];
        for (sample, ids) in batch.iter().enumerate() {
            targets[sample * length..][..ids.len() - 1].copy_from_slice(&ids[1..]);
        }
        let gpu = self.engine.gpu();
        gpu.write(&self.targets, 0, &targets)?;
        let mut rec = gpu.record();
        self.last_norm(&mut rec, rows)?;
        for first in (0..rows).step_by(self.rows_at_once) {
            let count = self.rows_at_once.min(rows - first);
            self.head(&mut rec, first, count)?;
            let out = (&self.targets, &self.nll);
            cross_entropy::record(&mut rec, &self.logits, out, (first, count), self.engine.config().vocab_size)?;
            rec.submit()?;
        }
        let nll: Vec<f32> = gpu.read(&self.nll, rows)?;
        let of = |(sample, ids): (usize, &Vec<u32>)| nll[sample * length..][..ids.len() - 1].to_vec();
        Ok(batch.iter().enumerate().map(of).collect())
    }

    /// Logits after the last token of every sample: `[sample][vocab]`.
    ///
    /// # Errors
    /// As [`Scorer::nll`].
    pub fn last_logits(&mut self, batch: &[Vec<u32>], selector: &mut dyn Selector) -> Result<Vec<Vec<f32>>> {
        let length = self.run(batch, selector)?;
        let gpu = self.engine.gpu();
        let mut rec = gpu.record();
        self.last_norm(&mut rec, batch.len() * length)?;
        let mut all = Vec::new();
        for (sample, ids) in batch.iter().enumerate() {
            self.head(&mut rec, sample * length + ids.len() - 1, 1)?;
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
        if batch.iter().any(|ids| ids.len() < 2) {
            return Err(Error::Setting("a sample has fewer than two tokens: there is nothing to score".into()));
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
        let caches = vec![self.cache.view(engine.config()); engine.config().num_hidden_layers];
        let pass = Pass {
            ids: &self.ids,
            places: &self.places,
            lengths: &self.lengths,
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

    fn last_norm(&self, rec: &mut crate::gpu::Recorder<'_>, rows: usize) -> Result<()> {
        let (model, config) = (&self.engine.model, self.engine.config());
        let shape = (rows, config.hidden_size, config.rms_norm_eps);
        let x = Rows::from(&self.work.residual);
        rms_norm::record(rec, x, &model.output_norm, (&self.normed).into(), &self.work.norms, shape)
    }

    fn head(&self, rec: &mut crate::gpu::Recorder<'_>, first: usize, rows: usize) -> Result<()> {
        let x = Rows { buffer: &self.normed, first: first as u32 };
        matmul_rows::record(rec, x, self.engine.model.head(), None, (&self.logits).into(), rows)
    }
}
