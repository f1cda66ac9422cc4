//! Generation: sequences with a key/value cache, prefill and decode, dense or pruned.
//!
//! A slot of the cache is a position. Shorter prompts are padded on the right; a padded slot is overwritten before any
//! query can see it. The cache stays whole: keys and values of every kv head are computed, whatever a mask drops, so that
//! a later mask never meets a hole.

mod decode;

use super::forward::{Pass, forward};
use super::head::Head;
use super::options::{SequenceOptions, Watched, check_settings};
use super::traffic::Traffic;
use super::workspace::Workspace;
use super::{CacheBuffers, Engine, check_rows};
use crate::config::{Method, PruneConfig};
use crate::error::{Error, Result};
use crate::gpu::Buffer;
use crate::kernels::{Cache, Rows};
use crate::model::Added;
use crate::prune::{
    Dense, Fixed, Flops, Half, Judges, Knowledge, LayerMasks, Plan, ProbeSizes, Probing, Reading, Running, Watching,
    Window, statics,
};
use decode::Drawing;
use std::collections::VecDeque;
use std::sync::Arc;

/// Tokens of a prompt that run in one pass; longer prompts run in several.
pub(super) const CHUNK: usize = 1024;
/// The same while somebody waits: some seconds on a slow device.
const HEARD_CHUNK: usize = 256;

/// Sequences in the making.
pub struct Sequences {
    engine: Arc<Engine>,
    prune: PruneConfig,
    /// Settings that wait for the next choice.
    wished: Option<PruneConfig>,
    plan: Plan,
    dense: Plan,
    known: Knowledge,
    judges: Judges,
    /// Units that hold for every input, where the method has such.
    fixed: Option<Fixed>,
    caches: Vec<CacheBuffers>,
    turns: Buffer,
    lengths: Vec<usize>,
    context: usize,
    step: Step,
    running: Option<Arc<Running>>,
    /// Generated tokens that no renewal has seen.
    unseen: usize,
    /// Tokens in the running sums, by half: probes may differ in size.
    summed: [usize; 2],
    masks: Vec<LayerMasks>,
    chosen: bool,
    choices: usize,
    flops: Flops,
    traffic: Traffic,
    live: bool,
    readings: VecDeque<(Watched, Reading)>,
    drawing: Drawing,
}

/// Buffers of a decoding step.
struct Step {
    work: Workspace,
    ids: Buffer,
    places: Buffer,
    lengths: Buffer,
    last: Buffer, // [samples][H]
    head: Head,
    logits: Buffer, // [samples][vocab]
}

impl Sequences {
    /// Empty sequences.
    ///
    /// # Errors
    /// [`Error::Setting`] for contradicting options, and those of [`crate::gpu::Gpu::buffer`].
    pub fn new(engine: &Arc<Engine>, options: SequenceOptions) -> Result<Sequences> {
        let SequenceOptions { samples, context, prune, known, live } = options;
        prune.validate()?;
        check_rows(samples, 1)?;
        let (gpu, config) = (engine.gpu(), engine.config());
        if context == 0 || context > config.max_position_embeddings {
            let trained = config.max_position_embeddings;
            return Err(Error::Setting(format!("--context is {context}; the model allows 1 to {trained} tokens")));
        }
        check_settings(&prune, &known, live)?;
        let dense = Plan::dense(config);
        let fixed = match prune.method {
            Method::Masks => Some(Fixed::new(gpu, config, known.masks()?)?),
            Method::WandaSp | Method::Flap => {
                let units = statics::choose(gpu, &engine.model, &prune, known.calibration(&prune)?)?;
                Some(Fixed::new(gpu, config, &units)?)
            }
            Method::Dense | Method::FullBatch | Method::Pp => None,
        };
        let plan = match &fixed {
            Some(fixed) => fixed.plan().clone(),
            None => plan_of(engine, &prune, &known)?,
        };
        let follows = live || (fixed.is_none() && plan.prunes() && prune.phases.decode);
        let window = if follows { prune.reprobe_every } else { 0 };
        if samples > 1 && (live || window > 0) {
            return Err(Error::Setting(format!(
                "--reprobe-every {window} with {samples} sequences: masks are renewed for one sequence at a time; use --reprobe-every 0"
            )));
        }
        let judges = Judges::new(gpu, &engine.model, &prune, &known)?;
        let running = match follows {
            true => {
                let planned = if prune.phases.decode { &plan } else { &dense };
                Some(Arc::new(Running::new(gpu, config, planned, (window, live), judges.later.clone())?))
            }
            false => None,
        };
        let mut work = Workspace::new(gpu, config, samples)?;
        if window > 0 {
            work.window = Some(Window::new(gpu, config, prune.reprobe_rows(window))?);
        }
        let step = Step {
            work,
            ids: gpu.zeros("ids", samples)?,
            places: gpu.zeros("places", samples * 2)?,
            lengths: gpu.upload("lengths", &vec![1u32; samples])?,
            last: gpu.zeros("last state", samples * config.hidden_size)?,
            head: Head::new(gpu, config, samples)?,
            logits: gpu.zeros("logits", samples * config.vocab_size)?,
        };
        let caches = (0..config.num_hidden_layers)
            .map(|_| CacheBuffers::new(gpu, config, samples, context))
            .collect::<Result<Vec<CacheBuffers>>>()?;
        Ok(Sequences {
            turns: engine.model.turns(gpu, context)?,
            prune,
            plan,
            dense,
            known,
            judges,
            fixed,
            caches,
            lengths: vec![0; samples],
            context,
            step,
            running,
            unseen: 0,
            summed: [0; 2],
            masks: Vec::new(),
            chosen: false,
            choices: 0,
            flops: Flops::default(),
            traffic: Traffic::default(),
            live,
            readings: VecDeque::new(),
            wished: None,
            drawing: Drawing::new(gpu, samples)?,
            engine: engine.clone(),
        })
    }

    /// Tokens of each sequence so far.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Slots of the cache, in tokens.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Kept units by layer.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The masks of the next token; empty until they are chosen, or when decoding is dense.
    pub fn masks(&self) -> &[LayerMasks] {
        &self.masks
    }

    /// How often masks were chosen so far.
    pub fn choices(&self) -> usize {
        self.choices
    }

    /// What everything so far cost.
    pub fn flops(&self) -> Flops {
        self.flops
    }

    /// Bytes of weights that everything so far read.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Prunes like this from the next choice on: the next prompt, or the next time that masks are renewed. Of sequences
    /// that are not live, it takes effect with [`Sequences::new`] alone.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value outside its range, and for sequences that are not live.
    pub fn set_prune(&mut self, prune: &PruneConfig) -> Result<()> {
        prune.validate()?;
        if !self.live {
            return Err(Error::Setting("these sequences are not live: their pruning cannot change".into()));
        }
        check_settings(prune, &self.known, true)?;
        self.wished = (*prune != self.prune).then(|| prune.clone());
        Ok(())
    }

    /// What is pruned now.
    pub fn prune(&self) -> &PruneConfig {
        &self.prune
    }

    /// The oldest choice that has not been handed out and whose values are there; never waits. Only live sequences have
    /// any; values come with the logits of the pass that follows a choice, or the token drawn from them, at the latest.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn watched(&mut self) -> Result<Option<Watched>> {
        let Some((watched, reading)) = self.readings.front_mut() else { return Ok(None) };
        let Some(mut layers) = reading.take()? else { return Ok(None) };
        for chosen in layers.iter_mut().flatten().flatten() {
            // Probes know places in their pass, which began where they chose.
            chosen.probed.iter_mut().for_each(|place| *place += watched.at as u32);
        }
        watched.layers = layers;
        Ok(self.readings.pop_front().map(|(watched, _)| watched))
    }

    /// Puts settings that waited into force. The window must be empty.
    fn adopt(&mut self) -> Result<()> {
        let (Some(prune), Some(running)) = (self.wished.take(), &self.running) else { return Ok(()) };
        let engine = self.engine.clone();
        let (gpu, config) = (engine.gpu(), engine.config());
        let plan = plan_of(&engine, &prune, &self.known)?;
        let decoding = if prune.phases.decode { &plan } else { &self.dense };
        let judges = self.judges.of(gpu, &engine.model, &prune, &self.known)?;
        if prune.statistic != self.prune.statistic {
            // What was summed is another statistic.
            running.clear(gpu)?;
            self.summed = [0; 2];
        }
        self.running = Some(Arc::new(running.replanned(gpu, decoding, prune.reprobe_every, judges.later.clone())?));
        self.judges = judges;
        let rows = self.step.work.window.as_ref().map_or(0, |window| window.rows);
        if rows != prune.reprobe_rows(prune.reprobe_every) {
            self.step.work.window = match prune.reprobe_rows(prune.reprobe_every) {
                0 => None,
                rows => Some(Window::new(gpu, config, rows)?),
            };
        }
        (self.plan, self.prune) = (plan, prune);
        Ok(())
    }

    fn watch(&mut self, reading: Reading, at: usize, renewal: bool) {
        let (index, prune) = (self.choices - 1, self.prune.clone());
        self.readings.push_back((Watched { index, renewal, at, prune, layers: Vec::new() }, reading));
    }

    /// Cuts a sequence back to its first `tokens` tokens, so that it can go on from there. Running sums keep what they saw.
    pub fn truncate(&mut self, sample: usize, tokens: usize) {
        self.drawing.forget();
        let gone = self.lengths[sample].saturating_sub(tokens);
        self.lengths[sample] -= gone;
        // The window holds states of the last tokens.
        self.unseen = self.unseen.saturating_sub(gone);
    }

    /// Empties every sequence and forgets sums and masks.
    ///
    /// # Errors
    /// Those of [`crate::gpu::Gpu::buffer`].
    pub fn clear(&mut self) -> Result<()> {
        self.drawing.forget();
        self.lengths.fill(0);
        self.rewind();
        (self.summed, self.chosen, self.choices) = ([0; 2], false, 0);
        self.readings.clear();
        self.masks.clear();
        if let Some(running) = &self.running {
            running.clear(self.engine.gpu())?;
        }
        Ok(())
    }

    /// Empties the window.
    fn rewind(&mut self) {
        self.unseen = 0;
    }

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
            let passes = prompt.len().div_ceil(CHUNK);
            for (index, chunk) in prompt.chunks(CHUNK).enumerate() {
                self.prefill_pass(&[chunk.to_vec()], index + 1 == passes).await?;
            }
        } else {
            self.prefill_pass(prompts, true).await?;
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
        let probed = self.prune.phases.prefill && self.plan.prunes();
        let end = prompt.len().min(done + if probed { CHUNK } else { HEARD_CHUNK });
        self.prefill_pass(&[prompt[done..end].to_vec()], end == prompt.len()).await?;
        if end == prompt.len() {
            self.end_prompts()?;
        }
        self.engine.gpu().idle().await?;
        Ok(end)
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
        // A probed prompt starts its sums anew; a dense one adds to them.
        let coming = self.wished.as_ref().unwrap_or(&self.prune);
        if coming.phases.prefill && Plan::new(self.engine.config(), coming).prunes() {
            self.rewind();
        } else {
            self.absorb_window()?;
        }
        self.adopt()
    }

    fn end_prompts(&mut self) -> Result<()> {
        if !(self.prune.phases.prefill && self.plan.prunes()) {
            self.choose_from_sums(false)?;
        }
        self.drawing.ready = true;
        Ok(())
    }

    async fn prefill_pass(&mut self, prompts: &[Vec<u32>], last: bool) -> Result<()> {
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
        let caches: Vec<Cache<'_>> = self.caches.iter().map(|cache| cache.view(config)).collect();
        let pass = Pass {
            ids: &ids,
            places: &places,
            lengths: &lengths,
            samples,
            length,
            caches: &caches,
            keeps_cache: true,
            turns: engine.model.rope(&self.turns),
        };
        let mut rec = gpu.record();
        let pruned = self.plan.prunes() && self.prune.phases.prefill;
        let mut chosen = None;
        if let Some(fixed) = self.fixed.as_mut().filter(|_| pruned) {
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

    /// When the window is full: brings the sums up to date and chooses masks anew.
    fn renew_if_due(&mut self) -> Result<()> {
        if !self.renewal_is_due() {
            return Ok(());
        }
        self.absorb_window()?;
        self.adopt()?;
        self.choose_from_sums(true)
    }

    fn renewal_is_due(&self) -> bool {
        self.step.work.window.is_some() && self.unseen >= self.prune.reprobe_every
    }

    /// Adds the tokens in the window to the running sums, every unit of them, and empties it.
    fn absorb_window(&mut self) -> Result<()> {
        let (Some(window), Some(running)) = (&self.step.work.window, self.running.clone()) else {
            return Ok(());
        };
        let rows = self.prune.reprobe_rows(self.unseen);
        if rows == 0 {
            self.rewind();
            return Ok(());
        }
        let weight = self.unseen as f32 / rows as f32;
        let engine = self.engine.clone();
        let (gpu, config) = (engine.gpu(), engine.config());
        let caches: Vec<Cache<'_>> = self.caches.iter().map(|cache| cache.view(config)).collect();
        let mut rec = gpu.record();
        let turns = engine.model.rope(&self.turns);
        running.renew(&mut rec, &self.masks, &engine.model.layers, (window, rows, weight), &caches, turns)?;
        rec.submit()?;
        let (first, prune) = (self.lengths[0] - self.unseen, &self.prune);
        let run_again = (0..self.unseen).filter(|&index| prune.reprobe_rows(index + 1) > prune.reprobe_rows(index));
        let attended = run_again.map(|index| (first + index + 1) as f64).sum();
        if self.prune.phases.decode {
            self.flops.add_dropped(config, &self.plan, rows as f64, attended);
            self.traffic.add_dropped(&engine.model, &self.plan);
        }
        self.summed = self.summed.map(|summed| summed + self.unseen);
        self.rewind();
        Ok(())
    }

    /// Chooses masks from the running sums, where there are any.
    fn choose_from_sums(&mut self, renewal: bool) -> Result<()> {
        let (engine, Some(running)) = (self.engine.clone(), self.running.clone()) else { return Ok(()) };
        let mut rec = engine.gpu().record();
        running.choose(&mut rec, &engine.model.layers, self.summed)?;
        rec.submit()?;
        self.masks = running.masks().to_vec();
        self.chosen = true;
        // Live sequences may have a plan that leaves nothing to choose.
        if self.masks.iter().any(|masks| masks.heads.is_some() || masks.channels.is_some()) {
            self.choices += 1;
            if self.live {
                self.watch(running.read_later(engine.gpu())?, self.lengths[0], renewal);
            }
        }
        Ok(())
    }

    /// Records the last norm and the head for the given rows of a residual stream.
    fn record_head(
        &self,
        rec: &mut crate::gpu::Recorder<'_>,
        residual: &Buffer,
        norms: &Buffer,
        rows: &[usize],
    ) -> Result<()> {
        let (model, config) = (&self.engine.model, self.engine.config());
        for (sample, &row) in rows.iter().enumerate() {
            let x = Rows { buffer: residual, first: row as u32 };
            let y = Rows { buffer: &self.step.last, first: sample as u32 };
            let shape = (1, config.hidden_size, config.rms_norm_eps);
            model.output_norm.record(rec, x, Added::default(), y, norms, shape)?;
        }
        self.step.head.record(rec, model, (&self.step.last).into(), &self.step.logits, rows.len())
    }
}

/// Counts by layer. Those of a static method follow from its units.
fn plan_of(engine: &Engine, prune: &PruneConfig, known: &Knowledge) -> Result<Plan> {
    match prune.method {
        Method::Dense => Ok(Plan::dense(engine.config())),
        _ => statics::planned(engine.gpu(), &engine.model, prune, known),
    }
}
