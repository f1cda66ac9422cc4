//! Generation: sequences with a key/value cache, prefill and decode, dense or pruned.
//!
//! A slot of the cache is a position. Shorter prompts are padded on the right; a padded slot is overwritten before any
//! query can see it. The cache stays whole: keys and values of every kv head are computed, whatever a mask drops, so that
//! a later mask never meets a hole.

mod decode;
mod prompt;

use super::head::Head;
use super::options::{SequenceOptions, Watched, check_settings};
use super::traffic::Traffic;
use super::workspace::Workspace;
use super::{CacheBuffer, Engine, check_rows, views};
use crate::config::{Method, PruneConfig};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Contents, Gpu};
use crate::kernels::Rows;
use crate::model::Added;
use crate::prune::{Fixed, Flops, Judges, Knowledge, LayerMasks, Plan, Reading, Running, Window, statics};
use decode::Drawing;
pub use prompt::CHUNK;
use std::collections::VecDeque;
use std::sync::Arc;

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
    caches: Vec<CacheBuffer>,
    turns: Buffer,
    lengths: Vec<usize>,
    context: usize,
    step: Step,
    running: Option<Arc<Running>>,
    /// The same sums, under the plan of prompts, where a prompt's lead chooses from them.
    leading: Option<Arc<Running>>,
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
        let chooses = fixed.is_none() && plan.prunes();
        let follows = live || (chooses && prune.phases.decode);
        let window = if follows { prune.reprobe_every } else { 0 };
        if samples > 1 && (live || window > 0) {
            return Err(Error::Setting(format!(
                "--reprobe-every {window} with {samples} sequences: masks are renewed for one sequence at a time; use --reprobe-every 0"
            )));
        }
        let judges = Judges::new(gpu, &engine.model, &prune, &known)?;
        let leads = samples == 1 && chooses && prune.leads();
        let running = match follows || leads {
            true => {
                // Somebody who watches may prune prompts alone.
                let planned = if prune.phases.decode || !live { &plan } else { &dense };
                Some(Arc::new(Running::new(gpu, config, planned, (window, live), judges.later.clone())?))
            }
            false => None,
        };
        let leading = match &running {
            Some(running) if leads => Some(of_prompts(gpu, running, &prune, &plan, &judges)?),
            _ => None,
        };
        let mut work = Workspace::lasting(gpu, config, samples)?;
        if window > 0 {
            work.window = Some(Window::new(gpu, config, prune.reprobe_rows(window))?);
        }
        let step = Step {
            work,
            ids: gpu.zeros("ids", samples)?,
            places: gpu.zeros("places", samples * 2)?,
            lengths: gpu.upload("lengths", &vec![1u32; samples])?,
            last: gpu.mirrored("last state", Contents::Zeroed(4 * (samples * config.hidden_size) as u64))?,
            head: Head::new(gpu, config, samples)?,
            logits: gpu.zeros("logits", samples * config.vocab_size)?,
        };
        let caches = (0..config.num_hidden_layers)
            .map(|_| CacheBuffer::lasting(gpu, config, samples, context))
            .collect::<Result<Vec<CacheBuffer>>>()?;
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
            leading,
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
        let running = Arc::new(running.replanned(gpu, decoding, prune.reprobe_every, judges.later.clone())?);
        let leads = self.lengths.len() == 1 && plan.prunes() && prune.leads();
        self.leading = if leads { Some(of_prompts(gpu, &running, &prune, &plan, &judges)?) } else { None };
        self.running = Some(running);
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

    /// When the window is full: brings the sums up to date and chooses masks anew.
    fn renew_if_due(&mut self) -> Result<()> {
        if !self.renewal_is_due() {
            return Ok(());
        }
        self.absorb_window()?;
        self.adopt()?;
        match self.running.clone() {
            Some(running) => self.choose_from(&running, true),
            None => Ok(()),
        }
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
        let caches = views(&self.caches, config, &self.lengths, 0);
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

    /// Chooses the masks of a plan from its sums.
    fn choose_from(&mut self, running: &Running, renewal: bool) -> Result<()> {
        let engine = self.engine.clone();
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

/// The sums that a prompt's lead chooses from: those of the answer, under the plan of prompts.
fn of_prompts(
    gpu: &Gpu,
    running: &Arc<Running>,
    prune: &PruneConfig,
    plan: &Plan,
    judges: &Judges,
) -> Result<Arc<Running>> {
    match prune.phases.decode {
        true => Ok(running.clone()),
        false => Ok(Arc::new(running.replanned(gpu, plan, 0, judges.later.clone())?)),
    }
}

/// Counts by layer. Those of a static method follow from its units.
fn plan_of(engine: &Engine, prune: &PruneConfig, known: &Knowledge) -> Result<Plan> {
    match prune.method {
        Method::Dense => Ok(Plan::dense(engine.config())),
        _ => statics::planned(engine.gpu(), &engine.model, prune, known),
    }
}
