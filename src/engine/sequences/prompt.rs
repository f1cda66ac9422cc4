//! Prompts: whole, pruned by a probe that runs ahead, or, where there is one sequence, led by their own first tokens.
//!
//! A single prompt's **lead** runs whole and for real; the sums of its activations choose the units of the rest. A probe of such a
//! prompt would run a large share of it twice, for there are no samples to choose among (docs/pruning.md). Every [`CHUNK`] of a long
//! prompt has a lead of its own.

use super::super::forward::{Pass, forward};
use super::super::workspace::Workspace;
use super::super::{check_rows, views};
use super::Sequences;
use crate::error::{Error, Result};
use crate::prune::{Dense, Frozen, Half, Plan, ProbeSizes, Probing, Watching};

/// Tokens of a prompt that run in one pass; longer prompts run in several.
pub const CHUNK: usize = 1024;
/// The same while somebody waits: some seconds on a slow device.
const HEARD_CHUNK: usize = 256;

/// Which units a stretch of a prompt runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Those that the settings have for prompts: all, given ones, or those that a probe of this very stretch chooses.
    Settings,
    /// All of them, and with its end the units of what follows are chosen.
    Lead,
    /// Those that the lead chose.
    Led,
}

/// Where the stretch of a single prompt that begins at `done` ends, of `tokens`; `lead` says how many tokens of a chunk lead, and
/// no stretch that can be cut anywhere is longer than `most`.
fn stretch(tokens: usize, done: usize, lead: impl Fn(usize) -> usize, most: usize) -> (usize, Manner) {
    let first = done / CHUNK * CHUNK;
    let end = tokens.min(first + CHUNK);
    match first + lead(end - first) {
        begun if begun == first => (end.min(done + most), Manner::Settings),
        led if done < led => (led, Manner::Lead),
        _ => (end.min(done + most), Manner::Led),
    }
}

impl Sequences {
    /// Appends a prompt to every sequence and returns the logits after its last token: `[sample][vocab]`.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] when a prompt does not fit, [`Error::Setting`] for an empty one, [`Error::Device`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn prefill(&mut self, prompts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        pollster::block_on(self.prefill_async(prompts))
    }

    /// [`Sequences::prefill`] where nothing can be waited for.
    ///
    /// # Errors
    /// As [`Sequences::prefill`].
    pub async fn prefill_async(&mut self, prompts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        self.begin_prompts(&prompts.iter().map(Vec::as_slice).collect::<Vec<&[u32]>>())?;
        // Several prompts are padded to one length; a single one is cut into passes of bounded memory.
        if let [prompt] = prompts {
            let mut done = 0;
            while done < prompt.len() {
                done = self.prefill_stretch(prompt, done, CHUNK).await?;
            }
        } else {
            self.prefill_pass(prompts, true, Manner::Settings).await?;
        }
        self.end_prompts()?;
        self.fetch_logits().await
    }

    /// The next pass of [`Sequences::prefill_async`] for one sequence while somebody waits: of `prompt`, `done` tokens have run.
    /// Returns how many have run now; the logits after the last stay on the device, for [`Sequences::draw`] or
    /// [`Sequences::fetch_logits`]. Passes are short where that changes nothing; between them the prompt can be given up.
    ///
    /// # Errors
    /// As [`Sequences::prefill_async`].
    pub async fn prefill_part(&mut self, prompt: &[u32], done: usize) -> Result<usize> {
        if done == 0 {
            self.begin_prompts(&[prompt])?;
        }
        let end = self.prefill_stretch(prompt, done, if self.probes() { CHUNK } else { HEARD_CHUNK }).await?;
        if end == prompt.len() {
            self.end_prompts()?;
        }
        self.engine.gpu().idle().await?;
        Ok(end)
    }

    /// Runs the next stretch of a single prompt; returns how many of its tokens have run then.
    async fn prefill_stretch(&mut self, prompt: &[u32], done: usize, most: usize) -> Result<usize> {
        let lead = |tokens: usize| if self.leading.is_some() { self.prune.lead(tokens) } else { 0 };
        let (end, manner) = stretch(prompt.len(), done, lead, most);
        self.prefill_pass(&[prompt[done..end].to_vec()], end == prompt.len(), manner).await?;
        if let Some(leading) = self.leading.clone().filter(|_| manner == Manner::Lead) {
            self.choose_from(&leading, false)?;
        }
        Ok(end)
    }

    /// Whether a probe runs ahead of every pass of a prompt.
    fn probes(&self) -> bool {
        self.prune.phases.prefill && self.plan.prunes() && self.fixed.is_none() && self.leading.is_none()
    }

    fn begin_prompts(&mut self, prompts: &[&[u32]]) -> Result<()> {
        if prompts.len() != self.lengths.len() || prompts.iter().any(|prompt| prompt.is_empty()) {
            let (found, expected) = (prompts.len(), self.lengths.len());
            return Err(Error::Setting(format!("{found} prompts for {expected} sequences, or an empty prompt")));
        }
        let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
        check_rows(prompts.len(), longest)?;
        for (prompt, &length) in prompts.iter().zip(&self.lengths) {
            self.engine.check_ids(prompt)?;
            if length + longest > self.context {
                let trained = self.engine.config().max_position_embeddings;
                let prompt_tokens = length + prompt.len();
                return Err(Error::PromptTooLong { prompt_tokens, context: self.context, trained });
            }
        }
        self.drawing.forget();
        // A probed prompt starts its sums anew; a dense one, and the lead of one, adds to them.
        let coming = self.wished.as_ref().unwrap_or(&self.prune);
        let led = prompts.len() == 1 && coming.leads();
        if !led && coming.phases.prefill && Plan::new(self.engine.config(), coming).prunes() {
            self.rewind();
        } else {
            self.absorb_window()?;
        }
        self.adopt()
    }

    fn end_prompts(&mut self) -> Result<()> {
        match self.running.clone() {
            // The lead's masks were the prompt's: the answer goes on with those of its own plan, which may drop nothing.
            Some(running) if self.leading.is_some() && self.live => self.masks = running.masks().to_vec(),
            Some(running) if !(self.prune.phases.prefill && self.plan.prunes()) => self.choose_from(&running, false)?,
            _ => {}
        }
        self.drawing.ready = true;
        Ok(())
    }

    async fn prefill_pass(&mut self, prompts: &[Vec<u32>], last: bool, manner: Manner) -> Result<()> {
        let engine = self.engine.clone();
        let (gpu, config) = (engine.gpu(), engine.config());
        let (samples, length) = (prompts.len(), prompts.iter().map(Vec::len).max().unwrap_or(0));
        let rows = samples * length;
        let mut ids = vec![0u32; rows];
        let mut places = vec![[0u32; 2]; rows];
        for (sample, prompt) in prompts.iter().enumerate() {
            ids[sample * length..][..prompt.len()].copy_from_slice(prompt);
            for t in 0..length {
                places[sample * length + t] = [(self.lengths[sample] + t) as u32; 2];
            }
        }
        let real: Vec<u32> = prompts.iter().map(|prompt| prompt.len() as u32).collect();
        let ids = gpu.upload("prompt", &ids)?;
        let places = gpu.upload("prompt places", bytemuck::cast_slice::<[u32; 2], u32>(&places))?;
        let lengths = gpu.upload("prompt lengths", &real)?;
        let work = Workspace::new(gpu, config, rows)?;
        let caches = views(&self.caches, config, &self.lengths, length);
        let pass = Pass {
            ids: &ids,
            places: &places,
            lengths: &lengths,
            is_padded: prompts.iter().any(|prompt| prompt.len() < length),
            samples,
            length,
            caches: &caches,
            keeps_cache: true,
            turns: engine.model.rope(&self.turns),
        };
        let mut rec = gpu.record();
        let pruned = self.plan.prunes() && self.prune.phases.prefill && manner != Manner::Lead;
        let mut chosen = None;
        if manner == Manner::Led {
            let compensation = self.judges.later.compensation().map(|compensation| &**compensation);
            forward(&mut rec, &engine.model, &work, &pass, &mut Frozen { masks: &self.masks, compensation })?;
        } else if let Some(fixed) = self.fixed.as_mut().filter(|_| pruned) {
            forward(&mut rec, &engine.model, &work, &pass, fixed)?;
        } else if pruned {
            let sizes = ProbeSizes::new(&self.prune, samples, length);
            // A history by position belongs to positions from the start.
            let starts = self.lengths.iter().all(|&length| length == 0);
            let fits = self.judges.opening.history().is_none_or(|history| history.check(length).is_ok());
            let judge = if starts && fits { &self.judges.opening } else { &self.judges.later };
            let shape = (samples, length);
            let mut probing = Probing::new(gpu, config, &self.plan, sizes, shape, judge.clone(), None)?;
            if self.live {
                probing = probing.watched(gpu)?;
            }
            if let Some(running) = &self.running {
                probing = probing.seeding(running.clone());
            }
            forward(&mut rec, &engine.model, &work, &pass, &mut probing)?;
            self.flops.add_probe(config, &self.plan, sizes);
            self.traffic.add_probe(&engine.model, &self.plan);
            self.summed = Half::BOTH.map(|half| sizes.of(half).tokens);
            self.chosen = true;
            self.choices += 1;
            self.masks = match &self.running {
                Some(running) if !self.prune.phases.decode => running.masks().to_vec(),
                _ => probing.masks().to_vec(),
            };
            chosen = self.live.then_some(probing);
        } else if let Some(running) = self.running.clone() {
            forward(&mut rec, &engine.model, &work, &pass, &mut Watching(&running))?;
            let tokens = prompts.iter().map(Vec::len).sum::<usize>();
            self.summed = self.summed.map(|summed| summed + tokens);
        } else {
            forward(&mut rec, &engine.model, &work, &pass, &mut Dense)?;
        }
        let before = self.lengths[0];
        let plan = if pruned { &self.plan } else { &self.dense };
        self.traffic.add(&engine.model, plan);
        for (prompt, length) in prompts.iter().zip(&mut self.lengths) {
            let (before, new) = (*length as f64, prompt.len() as f64);
            self.flops.add(config, plan, new, new * before + new * (new + 1.0) / 2.0);
            *length += prompt.len();
        }
        if last {
            let rows: Vec<usize> = real.iter().enumerate().map(|(s, &real)| s * length + real as usize - 1).collect();
            self.record_head(&mut rec, &work.residual, &work.norms, &rows)?;
        }
        rec.submit_paced(rows).await?;
        if let Some(probing) = chosen {
            self.watch(probing.read_later(gpu)?, before, false);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stretches of a prompt, for chunks that a lead of at most 64 tokens begins.
    fn stretches(tokens: usize, most: usize, lead: usize) -> Vec<(usize, Manner)> {
        let mut all = vec![(0, Manner::Settings)];
        while all[all.len() - 1].0 < tokens {
            all.push(stretch(tokens, all[all.len() - 1].0, |chunk| chunk.min(lead), most));
        }
        all.split_off(1)
    }

    #[test]
    fn every_chunk_has_its_lead() {
        use Manner::{Lead, Led, Settings};
        assert_eq!(stretches(1100, CHUNK, 0), [(1024, Settings), (1100, Settings)]);
        assert_eq!(stretches(600, HEARD_CHUNK, 0), [(256, Settings), (512, Settings), (600, Settings)]);
        assert_eq!(stretches(50, CHUNK, 64), [(50, Lead)]);
        assert_eq!(stretches(200, CHUNK, 64), [(64, Lead), (200, Led)]);
        assert_eq!(stretches(400, HEARD_CHUNK, 64), [(64, Lead), (320, Led), (400, Led)]);
        assert_eq!(stretches(1200, CHUNK, 64), [(64, Lead), (1024, Led), (1088, Lead), (1200, Led)]);
        assert_eq!(stretches(1024, CHUNK, 64), [(64, Lead), (1024, Led)]);
    }
}
