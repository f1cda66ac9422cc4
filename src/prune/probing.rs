//! Probe Pruning of a batch (paper, sections 4.1 to 4.4): a few samples and tokens of the residual stream run ahead
//! through the first half of a block; their activations, fused with history, choose the units that the batch computes.
//! Full-batch probing is the same with every sample and token, and without history.

use super::reading::{self, Reading};
use super::{Block, Evidence, Half, Judge, LayerMasks, Mask, Plan, ProbeSize, ProbeSizes, Running, Selector, Verdict};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu, Recorder};
use crate::kernels::attention::{Members, Queries};
use crate::kernels::history_update::Update;
use crate::kernels::matmul_columns::stride;
use crate::kernels::rope_append::Heads;
use crate::kernels::top_k::Choice;
use crate::kernels::{
    Cache, Rows, attention, fusion, gather_probe, history_update, matmul_rows, probe_statistic, rope_append,
    sample_importance, token_importance, top_k,
};
use std::sync::Arc;

/// With this many probe tokens or fewer, position 0 is always among them (the authors' implementation).
const FIRST_STAYS: usize = 10;

/// What one probe of one block left on the GPU.
struct Site {
    size: ProbeSize,
    tokens: Arc<Buffer>, // [probe tokens] u32, ascending
    samples: Buffer,     // [probe samples] u32, ascending
    fused: Buffer,       // [channels]
    scores: Arc<Buffer>, // [units]
    /// `[units]`: shares of the history, where somebody watches and there is one.
    shares: Option<Arc<Buffer>>,
}

/// What a probe saw and decided, read back for reports and tests.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ProbeTrace {
    /// Positions probed, ascending.
    pub tokens: Vec<u32>,
    /// Samples probed, ascending.
    pub samples: Vec<u32>,
    /// The fused statistic by channel.
    pub statistic: Vec<f32>,
    /// The score by unit.
    pub scores: Vec<f32>,
    /// The kept units, ascending.
    pub kept: Vec<u32>,
}

/// Buffers of one probe at a time; `R` = probe samples x probe tokens of the larger probe.
struct Scratch {
    token_scores: Buffer,  // [length]
    sample_scores: Buffer, // [samples]
    rest: Buffer,          // what top_k drops, [max(length, samples)]
    place_of: Buffer,      // [max(length, samples)]
    normed: Buffer,        // [R][H]
    places: Buffer,        // [R] position and slot
    qkv: Buffer,           // [R][(A + 2K)*d]
    cache: Buffer,         // [probe samples][probe tokens][2][K][d]
    ranked: Buffer,        // [R][max(A*d, stride(C))]
    statistic: Buffer,     // [probe tokens][max(A*d, C)]
}

/// The selector of PP and of full-batch probing, for batches of one shape.
pub struct Probing {
    model: ModelConfig,
    masks: Vec<LayerMasks>,
    sites: Vec<[Option<Site>; 2]>,
    shape: (usize, usize),
    judge: Judge,
    ema: Option<f32>,
    seeded: Option<Arc<Running>>,
    scratch: Scratch,
}

impl Probing {
    /// Prepares probes of `sizes` for batches of `samples` by `length`. Where the judge has a history and there is an `ema` (the
    /// factor of the old), it follows the batches.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] when the history is too short, and those of [`Gpu::buffer`].
    pub fn new(
        gpu: &Gpu,
        model: &ModelConfig,
        plan: &Plan,
        sizes: ProbeSizes,
        (samples, length): (usize, usize),
        judge: Judge,
        ema: Option<f32>,
    ) -> Result<Probing> {
        if let Some(history) = judge.history() {
            history.check(length)?;
        }
        let (width, channels) = (model.num_attention_heads * model.head_dim, model.intermediate_size);
        let site = |layer: usize, half: Half| -> Result<Option<Site>> {
            if !plan.prunes_half(layer, half) {
                return Ok(None);
            }
            let (size, (units, unit)) = (sizes.of(half), half.units(model));
            Ok(Some(Site {
                size,
                tokens: Arc::new(gpu.zeros("probe tokens", size.tokens)?),
                samples: gpu.zeros("probe samples", size.samples)?,
                fused: gpu.zeros("fused statistic", units * unit)?,
                scores: Arc::new(gpu.zeros("scores", units)?),
                shares: None,
            }))
        };
        let mut sites = Vec::new();
        for layer in 0..plan.layers.len() {
            sites.push([site(layer, Half::Attention)?, site(layer, Half::Mlp)?]);
        }
        let rows = sizes.heads.rows().max(sizes.channels.rows());
        let tokens = sizes.heads.tokens.max(sizes.channels.tokens);
        let kv = model.num_key_value_heads * model.head_dim;
        let scratch = Scratch {
            token_scores: gpu.zeros("token scores", length)?,
            sample_scores: gpu.zeros("sample scores", samples)?,
            rest: gpu.zeros("not probed", length.max(samples))?,
            place_of: gpu.zeros("probe place_of", length.max(samples))?,
            normed: gpu.zeros("probe", rows * model.hidden_size)?,
            places: gpu.zeros("probe places", rows * 2)?,
            qkv: gpu.zeros("probe q, k and v", rows * (width + 2 * kv))?,
            cache: gpu.zeros("probe keys and values", rows * 2 * kv)?,
            ranked: gpu.zeros("probe activations", rows * width.max(stride(channels)))?,
            statistic: gpu.zeros("probe statistic", tokens * width.max(channels))?,
        };
        let masks = LayerMasks::for_plan(gpu, model, plan)?;
        Ok(Probing { model: model.clone(), masks, sites, shape: (samples, length), judge, ema, seeded: None, scratch })
    }

    /// Also tells how much of each unit's statistic came from the history.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn watched(mut self, gpu: &Gpu) -> Result<Probing> {
        if self.judge.history().is_some() {
            for (half, site) in self.sites.iter_mut().flat_map(|sites| Half::BOTH.into_iter().zip(sites)) {
                if let Some(site) = site {
                    site.shares = Some(Arc::new(gpu.zeros("shares of history", half.units(&self.model).0)?));
                }
            }
        }
        Ok(self)
    }

    /// Also writes each probe's plain sums into `running`, from which decoding goes on.
    pub fn seeding(mut self, running: Arc<Running>) -> Probing {
        self.seeded = Some(running);
        self
    }

    /// The masks that the last batch chose.
    pub fn masks(&self) -> &[LayerMasks] {
        &self.masks
    }

    /// Reads back what the last batch's probes saw, by layer, heads then channels; `None` where nothing is pruned.
    ///
    /// # Errors
    /// Those of [`Gpu::read`].
    pub fn trace(&self, gpu: &Gpu) -> Result<Vec<[Option<ProbeTrace>; 2]>> {
        let (width, channels) = (self.model.num_attention_heads * self.model.head_dim, self.model.intermediate_size);
        let read = |site: &Option<Site>, mask: &Option<Arc<Mask>>, units: usize, channels: usize| {
            let (Some(site), Some(mask)) = (site, mask) else { return Ok(None) };
            Ok(Some(ProbeTrace {
                tokens: gpu.read(&site.tokens, site.size.tokens)?,
                samples: gpu.read(&site.samples, site.size.samples)?,
                statistic: gpu.read(&site.fused, channels)?,
                scores: gpu.read(&site.scores, units)?,
                kept: mask.read(gpu)?,
            }))
        };
        self.sites
            .iter()
            .zip(&self.masks)
            .map(|([heads, active], masks)| {
                let heads = read(heads, &masks.heads, self.model.num_attention_heads, width)?;
                Ok([heads, read(active, &masks.channels, channels, channels)?])
            })
            .collect()
    }

    /// Starts to read back the masks of the last batch, the scores behind them and the tokens that were probed.
    ///
    /// # Errors
    /// Those of [`Gpu::read_later`].
    pub fn read_later(&self, gpu: &Gpu) -> Result<Reading> {
        let of = |site: &Option<Site>, mask: &Option<Arc<Mask>>| match (site, mask) {
            (Some(site), Some(mask)) => Some(reading::Site {
                scores: site.scores.clone(),
                shares: site.shares.clone(),
                mask: mask.clone(),
                probed: (site.size.tokens < self.shape.1).then(|| (site.tokens.clone(), site.size.tokens)),
            }),
            _ => None,
        };
        let sites = self.sites.iter().zip(&self.masks);
        Reading::start(
            gpu,
            sites.map(|([heads, active], masks)| [of(heads, &masks.heads), of(active, &masks.channels)]).collect(),
        )
    }

    /// Residual importance, choice of tokens and samples, gather (paper, section 4.1).
    fn gather(&self, rec: &mut Recorder<'_>, block: &Block<'_>, site: &Site) -> Result<()> {
        if (block.samples, block.length) != self.shape {
            let found = (block.samples, block.length);
            return Err(Error::Internal(format!("a probe made for a batch of {:?} met one of {found:?}", self.shape)));
        }
        let (s, size, shape) = (&self.scratch, site.size, (block.samples, block.length));
        let evidence = (block.norms, block.lengths);
        token_importance::record(rec, evidence, &s.token_scores, shape)?;
        let choice = Choice { kept: &site.tokens, dropped: &s.rest, place_of: &s.place_of };
        let first_stays = size.tokens <= FIRST_STAYS;
        top_k::record(rec, &s.token_scores, choice, (block.length, size.tokens), first_stays)?;
        sample_importance::record(rec, evidence, (&site.tokens, size.tokens), &s.sample_scores, shape)?;
        let choice = Choice { kept: &site.samples, dropped: &s.rest, place_of: &s.place_of };
        top_k::record(rec, &s.sample_scores, choice, (block.samples, size.samples), false)?;
        gather_probe::record(
            rec,
            (block.normed.buffer, block.places),
            (&site.samples, &site.tokens),
            (&s.normed, &s.places),
            (size.samples, size.tokens),
            (block.length, self.model.hidden_size),
        )
    }

    /// The first half of attention on the probe: its mixed values land in `ranked`.
    fn run_attention(&self, rec: &mut Recorder<'_>, block: &Block<'_>, size: ProbeSize) -> Result<()> {
        let (s, weights, heads) = (&self.scratch, block.weights, self.model.num_attention_heads);
        let (ProbeSize { samples, tokens }, rows) = (size, size.rows());
        let keys = self.model.num_key_value_heads;
        matmul_rows::record(rec, (&s.normed).into(), &weights.qkv, None, (&s.qkv).into(), rows)?;
        let cache = Cache {
            buffer: &s.cache,
            kv_heads: keys,
            capacity: tokens,
            fresh: 0,
            filled: tokens,
            head_dim: self.model.head_dim,
        };
        let in_row = Heads { queries: heads, keys, list: None };
        rope_append::record(rec, &s.qkv, in_row, &s.places, block.turns, cache, (samples, tokens))?;
        let queries = Queries {
            q: &s.qkv,
            stride: heads + 2 * keys,
            places: &s.places,
            samples,
            length: tokens,
            heads,
            model_heads: heads,
            members: Members::All,
            window: weights.sliding_window,
            gathered: true,
        };
        attention::record(rec, queries, cache, (&s.ranked).into())
    }

    /// The choice from the probe's `ranked` rows (paper, sections 4.2 to 4.4).
    fn choose(
        &self,
        rec: &mut Recorder<'_>,
        block: &Block<'_>,
        half: Half,
        (site, mask): (&Site, &Mask),
    ) -> Result<()> {
        let (s, at, width) = (&self.scratch, block.layer, half.width(&self.model));
        let lists = (&site.samples, &*site.tokens, block.lengths);
        let (size, ranked) = ((site.size.samples, site.size.tokens), (&s.ranked, self.judge.centre(at, half)));
        probe_statistic::record(rec, ranked, lists, &s.statistic, size, (width, stride(width)))?;
        let tokens = (&*site.tokens, site.size.tokens);
        if let Some(sums) = self.seeded.as_ref().and_then(|running| running.sums(at, half)) {
            fusion::record(rec, (&s.statistic, 1.0), tokens, None, sums, width)?;
        }
        let evidence = Evidence { statistic: &s.statistic, scale: 1.0, tokens };
        let verdict = Verdict { fused: &site.fused, scores: &site.scores, shares: site.shares.as_deref(), mask };
        self.judge.choose(rec, (at, half), block.weights, evidence, verdict)
    }

    /// Lets the history follow what the batch computed (paper, section 4.3), and puts the means of the rest back.
    fn follow(&self, rec: &mut Recorder<'_>, block: &Block<'_>, half: Half, x: Rows<'_>) -> Result<()> {
        let Some(mask) = half.mask(&self.masks[block.layer]) else { return Ok(()) };
        if let Some(compensation) = self.judge.compensation() {
            compensation.apply(rec, block, half)?;
        }
        let (Some(ema), Some(history)) = (self.ema, self.judge.history()) else { return Ok(()) };
        let kept = mask.kept();
        let update = Update {
            samples: block.samples,
            length: block.length,
            width: half.width(&self.model),
            stride: stride(kept.count * kept.unit),
            average: true,
            rows: history.rows(),
            keep: ema,
            gain: 1.0 - ema,
        };
        let (value, h) = (self.judge.value(block.layer, half), history.values(block.layer, half));
        history_update::record(rec, (x, value), Some(kept), block.padding(), h, update)
    }
}

impl Selector for Probing {
    fn heads(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        let (Some(site), Some(mask)) = (&self.sites[block.layer][0], &self.masks[block.layer].heads) else {
            return Ok(None);
        };
        self.gather(rec, block, site)?;
        self.run_attention(rec, block, site.size)?;
        self.choose(rec, block, Half::Attention, (site, mask))?;
        Ok(Some(mask.clone()))
    }

    fn attended(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, mixed: Rows<'_>) -> Result<()> {
        self.follow(rec, block, Half::Attention, mixed)
    }

    fn channels(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        let (Some(site), Some(mask)) = (&self.sites[block.layer][1], &self.masks[block.layer].channels) else {
            return Ok(None);
        };
        self.gather(rec, block, site)?;
        let (s, weights) = (&self.scratch, block.weights);
        weights.mlp.record(rec, (&s.normed).into(), None, (&s.ranked).into(), site.size.rows())?;
        self.choose(rec, block, Half::Mlp, (site, mask))?;
        Ok(Some(mask.clone()))
    }

    fn activated(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, active: Rows<'_>) -> Result<()> {
        self.follow(rec, block, Half::Mlp, active)
    }
}
