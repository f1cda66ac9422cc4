//! Pruning while a conversation is decoded, one sequence at a time: sums of squared activations over prompt and answer,
//! from which masks are chosen anew every so many tokens.
//!
//! The prompt's dense pass is its own probe ([`Watching`]); generated tokens run with frozen masks ([`super::Frozen`]) while a
//! [`Window`] keeps their states; at a renewal ([`Running::renew`]) the units that were dropped run once more on those
//! states, so that the sums know every unit, and the masks are chosen again.

use super::reading::{self, Reading};
use super::{Block, Evidence, Half, Judge, LayerMasks, Mask, Plan, Selector, Verdict};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::gpu::{Buffer, Gpu, Recorder};
use crate::kernels::attention::{Members, Queries};
use crate::kernels::history_update::{Update, Value};
use crate::kernels::matmul_columns::stride;
use crate::kernels::rope_append::{Heads, Turns};
use crate::kernels::{Cache, HistoryRows, Kept, Rows, attention, history_update, matmul_rows, rope_append};
use crate::model::LayerWeights;
use std::sync::Arc;

/// States of the last generated tokens, by layer; a row is one token.
pub struct Window {
    /// `[rows][H]`: the normed state entering attention.
    pub normed_attention: Vec<Buffer>,
    /// `[rows][kept heads * d]`: the input of `o_proj`.
    pub mixed: Vec<Buffer>,
    /// `[rows][H]`: the normed state entering the MLP.
    pub normed_mlp: Vec<Buffer>,
    /// `[rows][stride(kept channels)]`: the input of `down_proj`.
    pub active: Vec<Buffer>,
    /// `[rows]` position and slot.
    pub places: Buffer,
    /// Rows that fit.
    pub rows: usize,
}

impl Window {
    /// Room for `rows` tokens.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn new(gpu: &Gpu, model: &ModelConfig, rows: usize) -> Result<Window> {
        let bank = |width: usize| -> Result<Vec<Buffer>> {
            (0..model.num_hidden_layers).map(|_| gpu.zeros("window", rows * width)).collect()
        };
        Ok(Window {
            normed_attention: bank(model.hidden_size)?,
            mixed: bank(model.num_attention_heads * model.head_dim)?,
            normed_mlp: bank(model.hidden_size)?,
            active: bank(stride(model.intermediate_size))?,
            places: gpu.zeros("window places", rows * 2)?,
            rows,
        })
    }
}

/// What is known of one block, and what it is judged by.
#[derive(Clone)]
struct Watched {
    sums: Arc<Buffer>,   // [units * elements of a unit]
    scores: Arc<Buffer>, // [units]
    /// `[units]`: shares of the history, where somebody watches.
    shares: Option<Arc<Buffer>>,
}

/// Sums over a conversation, and the masks chosen from them.
pub struct Running {
    model: ModelConfig,
    masks: Vec<LayerMasks>,
    watched: Vec<[Option<Watched>; 2]>, // by layer and half
    judge: Judge,
    fused: Buffer,  // [max(A*d, C)]
    q: Buffer,      // [rows][A*d], for renewals
    mixed: Buffer,  // [rows][A*d]
    active: Buffer, // [rows][stride(C)]
}

impl Running {
    /// Empty sums for a plan, with renewals of at most `rows` tokens. The judge's history must be collapsed. Where `every_block` is
    /// set, blocks that the plan leaves whole are summed too, so that a later plan may prune them, and the share of the history is told.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn new(
        gpu: &Gpu,
        model: &ModelConfig,
        plan: &Plan,
        (rows, every_block): (usize, bool),
        judge: Judge,
    ) -> Result<Running> {
        let block = |layer: usize, half: Half| -> Result<Option<Watched>> {
            if !plan.prunes_half(layer, half) && !every_block {
                return Ok(None);
            }
            let units = half.units(model).0;
            let (sums, scores) = (gpu.zeros("sums", half.width(model))?, gpu.zeros("scores", units)?);
            let shares = if every_block { Some(Arc::new(gpu.zeros("shares of history", units)?)) } else { None };
            Ok(Some(Watched { sums: Arc::new(sums), scores: Arc::new(scores), shares }))
        };
        let layers = 0..plan.layers.len();
        let watched = layers.map(|layer| Ok([block(layer, Half::Attention)?, block(layer, Half::Mlp)?]));
        Running::with(gpu, model, plan, rows, judge, watched.collect::<Result<_>>()?)
    }

    /// The same sums under another plan and judge, with renewals of at most `rows` tokens.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn replanned(&self, gpu: &Gpu, plan: &Plan, rows: usize, judge: Judge) -> Result<Running> {
        Running::with(gpu, &self.model, plan, rows, judge, self.watched.clone())
    }

    fn with(
        gpu: &Gpu,
        model: &ModelConfig,
        plan: &Plan,
        rows: usize,
        judge: Judge,
        watched: Vec<[Option<Watched>; 2]>,
    ) -> Result<Running> {
        let (width, channels) = (model.num_attention_heads * model.head_dim, model.intermediate_size);
        let rows = rows.max(1);
        Ok(Running {
            model: model.clone(),
            masks: LayerMasks::for_plan(gpu, model, plan)?,
            watched,
            judge,
            fused: gpu.zeros("fused statistic", width.max(channels))?,
            q: gpu.zeros("renewal q", rows * width)?,
            mixed: gpu.zeros("renewal mixed", rows * width)?,
            active: gpu.zeros("renewal activations", rows * stride(channels))?,
        })
    }

    /// Sets the sums to zero.
    ///
    /// # Errors
    /// Those of [`Gpu::write`].
    pub fn clear(&self, gpu: &Gpu) -> Result<()> {
        for Watched { sums, .. } in self.watched.iter().flatten().flatten() {
            gpu.write(sums, 0, &vec![0u8; sums.bytes() as usize])?;
        }
        Ok(())
    }

    /// The masks as last chosen.
    pub fn masks(&self) -> &[LayerMasks] {
        &self.masks
    }

    /// How units are judged.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    pub(super) fn sums(&self, layer: usize, half: Half) -> Option<&Buffer> {
        self.watched[layer][half.index()].as_ref().map(|watched| &*watched.sums)
    }

    /// Chooses every mask from the per-token mean of the sums, which have so many `tokens` by half, fused with history.
    ///
    /// # Errors
    /// Those of the kernels it records.
    pub fn choose(&self, rec: &mut Recorder<'_>, layers: &[LayerWeights], tokens: [usize; 2]) -> Result<()> {
        for (layer, weights) in layers.iter().enumerate() {
            for half in Half::BOTH {
                let (Some(Watched { sums, scores, shares }), Some(mask)) =
                    (&self.watched[layer][half.index()], half.mask(&self.masks[layer]))
                else {
                    continue;
                };
                let scale = 1.0 / tokens[half.index()].max(1) as f32;
                // One row: the list of tokens is not read.
                let evidence = Evidence { statistic: sums, scale, tokens: (sums, 1) };
                let verdict = Verdict { fused: &self.fused, scores, shares: shares.as_deref(), mask };
                self.judge.choose(rec, (layer, half), weights, evidence, verdict)?;
            }
        }
        Ok(())
    }

    /// Adds the first `rows` tokens of the window, run with `masks`, to the sums, each as often as the `weight` says: their kept units as
    /// they were computed, their dropped units by running those once more on the tokens' normed states (keys and values are in the cache).
    ///
    /// # Errors
    /// Those of the kernels it records.
    pub fn renew(
        &self,
        rec: &mut Recorder<'_>,
        masks: &[LayerMasks],
        layers: &[LayerWeights],
        (window, rows, weight): (&Window, usize, f32),
        caches: &[Cache<'_>],
        turns: Turns<'_>,
    ) -> Result<()> {
        for (layer, weights) in layers.iter().enumerate() {
            let LayerMasks { heads, channels } = &masks[layer];
            if let Some(sums) = self.sums(layer, Half::Attention) {
                let value = self.judge.value(layer, Half::Attention);
                let kept = heads.as_ref().map(|mask| mask.kept());
                add(rec, (&window.mixed[layer], value), kept, sums, weights.o.cols, (rows, weight))?;
                if let Some((mask, dropped)) = heads.as_ref().and_then(|mask| Some((mask, mask.dropped()?))) {
                    let normed = Rows::from(&window.normed_attention[layer]);
                    // Heads of q are the first of q, k and v stacked.
                    matmul_rows::record(rec, normed, &weights.qkv, Some(dropped), (&self.q).into(), rows)?;
                    let list = Some((dropped.list, self.model.num_attention_heads));
                    let (in_row, turns) = (Heads { queries: dropped.count, keys: 0, list }, weights.turns(turns));
                    rope_append::record(rec, &self.q, in_row, &window.places, turns, caches[layer], (1, rows))?;
                    let queries = Queries {
                        q: &self.q,
                        stride: dropped.count,
                        places: &window.places,
                        samples: 1,
                        length: rows,
                        heads: dropped.count,
                        model_heads: self.model.num_attention_heads,
                        members: Members::Dropped(mask.place_of()),
                        window: weights.sliding_window,
                        gathered: false,
                    };
                    attention::record(rec, queries, caches[layer], (&self.mixed).into())?;
                    add(rec, (&self.mixed, value), Some(dropped), sums, weights.o.cols, (rows, weight))?;
                }
            }
            if let Some(sums) = self.sums(layer, Half::Mlp) {
                let value = self.judge.value(layer, Half::Mlp);
                let kept = channels.as_ref().map(|mask| mask.kept());
                add(rec, (&window.active[layer], value), kept, sums, weights.down.cols, (rows, weight))?;
                if let Some(dropped) = channels.as_ref().and_then(|mask| mask.dropped()) {
                    let normed = Rows::from(&window.normed_mlp[layer]);
                    weights.mlp.record(rec, normed, Some(dropped), (&self.active).into(), rows)?;
                    add(rec, (&self.active, value), Some(dropped), sums, weights.down.cols, (rows, weight))?;
                }
            }
        }
        Ok(())
    }

    /// Starts to read back the masks of [`Running::choose`] and the scores behind them.
    ///
    /// # Errors
    /// Those of [`Gpu::read_later`].
    pub fn read_later(&self, gpu: &Gpu) -> Result<Reading> {
        let remembers = self.judge.history().is_some();
        let of = |watched: &Option<Watched>, mask: &Option<Arc<Mask>>| match (watched, mask) {
            (Some(watched), Some(mask)) => Some(reading::Site {
                scores: watched.scores.clone(),
                shares: watched.shares.clone().filter(|_| remembers),
                mask: mask.clone(),
                probed: None,
            }),
            _ => None,
        };
        let sites = self.watched.iter().zip(&self.masks);
        let sites = sites.map(|([heads, channels], masks)| [of(heads, &masks.heads), of(channels, &masks.channels)]);
        Reading::start(gpu, sites.collect())
    }
}

/// `sums[c] += weight * sum over rows of value(x[row, c])` for the units in `x`; `None` = all of them.
fn add(
    rec: &mut Recorder<'_>,
    (x, value): (&Buffer, Value<'_>),
    units: Option<Kept<'_>>,
    sums: &Buffer,
    width: usize,
    (rows, weight): (usize, f32),
) -> Result<()> {
    let stride = stride(units.map_or(width, |units| units.count * units.unit));
    history_update::record(
        rec,
        (x.into(), value),
        units,
        None,
        sums,
        Update { gain: weight, ..summing(rows, width, stride) },
    )
}

fn summing(rows: usize, width: usize, stride: usize) -> Update {
    let all = HistoryRows::One;
    Update { samples: rows, length: 1, width, stride, average: false, rows: all, keep: 1.0, gain: 1.0 }
}

/// Runs everything and adds it to the sums: a dense prompt is its own probe.
pub struct Watching<'r>(pub &'r Running);

impl Watching<'_> {
    /// Every real token of a batch: padding stays out of the sums.
    fn add(&self, rec: &mut Recorder<'_>, block: &Block<'_>, half: Half, x: Rows<'_>) -> Result<()> {
        let Some(sums) = self.0.sums(block.layer, half) else { return Ok(()) };
        let (width, value) = (half.width(&self.0.model), self.0.judge.value(block.layer, half));
        let update = Update { samples: block.samples, length: block.length, ..summing(0, width, stride(width)) };
        history_update::record(rec, (x, value), None, block.padding(), sums, update)
    }
}

impl Selector for Watching<'_> {
    fn heads(&mut self, _: &mut Recorder<'_>, _: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(None)
    }

    fn attended(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, mixed: Rows<'_>) -> Result<()> {
        self.add(rec, block, Half::Attention, mixed)
    }

    fn channels(&mut self, _: &mut Recorder<'_>, _: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(None)
    }

    fn activated(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, active: Rows<'_>) -> Result<()> {
        self.add(rec, block, Half::Mlp, active)
    }
}
