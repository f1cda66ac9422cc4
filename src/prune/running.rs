//! Pruning while a conversation is decoded, one sequence at a time: sums of squared activations over prompt and answer,
//! from which masks are chosen anew every so many tokens.
//!
//! The prompt's dense pass is its own probe ([`Watching`]); generated tokens run with frozen masks ([`Frozen`]) while a
//! [`Window`] keeps their states; at a renewal ([`Running::renew`]) the units that were dropped run once more on those
//! states, so that the sums know every unit, and the masks are chosen again.

use super::{Block, History, LayerMasks, Mask, Plan, Selector};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::gpu::{Buffer, Gpu, Recorder};
use crate::kernels::attention::{Members, Queries};
use crate::kernels::history_update::Update;
use crate::kernels::matmul_columns::stride;
use crate::kernels::rope::Turns;
use crate::kernels::{Cache, Kept, Rows, attention, fusion, gate_up, history_update, matmul_rows, rope, score};
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

/// Sums over a conversation, and the masks chosen from them.
pub struct Running {
    model: ModelConfig,
    masks: Vec<LayerMasks>,
    sums: Vec<[Option<Buffer>; 2]>, // by layer: [A*d], [C], where pruned
    history: Option<Arc<History>>,
    fused: Buffer,  // [max(A*d, C)]
    scores: Buffer, // [max(A, C)]
    q: Buffer,      // [rows][A*d], for renewals
    mixed: Buffer,  // [rows][A*d]
    active: Buffer, // [rows][stride(C)]
}

impl Running {
    /// Empty sums for a plan, with renewals of at most `rows` tokens. `history` must be collapsed.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn new(
        gpu: &Gpu,
        model: &ModelConfig,
        plan: &Plan,
        rows: usize,
        history: Option<Arc<History>>,
    ) -> Result<Running> {
        let (width, channels) = (model.num_attention_heads * model.head_dim, model.intermediate_size);
        let mut sums = Vec::new();
        for layer in 0..plan.layers.len() {
            let sum = |pruned: bool, width: usize| pruned.then(|| gpu.zeros("sums", width)).transpose();
            sums.push([sum(plan.prunes_heads(layer), width)?, sum(plan.prunes_channels(layer), channels)?]);
        }
        let rows = rows.max(1);
        Ok(Running {
            model: model.clone(),
            masks: LayerMasks::for_plan(gpu, model, plan)?,
            sums,
            history,
            fused: gpu.zeros("fused statistic", width.max(channels))?,
            scores: gpu.zeros("scores", model.num_attention_heads.max(channels))?,
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
        for sums in self.sums.iter().flatten().flatten() {
            gpu.write(sums, 0, &vec![0u8; sums.bytes() as usize])?;
        }
        Ok(())
    }

    /// The masks as last chosen.
    pub fn masks(&self) -> &[LayerMasks] {
        &self.masks
    }

    pub(super) fn sums_of_heads(&self, layer: usize) -> Option<&Buffer> {
        self.sums[layer][0].as_ref()
    }

    pub(super) fn sums_of_channels(&self, layer: usize) -> Option<&Buffer> {
        self.sums[layer][1].as_ref()
    }

    /// Chooses every mask from the per-token mean of the sums over `tokens` tokens, fused with history.
    ///
    /// # Errors
    /// Those of the kernels it records.
    pub fn choose(&self, rec: &mut Recorder<'_>, layers: &[LayerWeights], tokens: usize) -> Result<()> {
        let heads = (self.model.num_attention_heads, self.model.head_dim);
        let channels = (self.model.intermediate_size, 1);
        for (layer, weights) in layers.iter().enumerate() {
            let history = self.history.as_ref();
            if let (Some(sums), Some(mask)) = (&self.sums[layer][0], &self.masks[layer].heads) {
                let history = history.map_or(fusion::History::None, |history| history.of_heads(layer));
                self.choose_block(rec, (sums, tokens), history, &weights.o_power, mask, heads)?;
            }
            if let (Some(sums), Some(mask)) = (&self.sums[layer][1], &self.masks[layer].channels) {
                let history = history.map_or(fusion::History::None, |history| history.of_channels(layer));
                self.choose_block(rec, (sums, tokens), history, &weights.down_power, mask, channels)?;
            }
        }
        Ok(())
    }

    fn choose_block(
        &self,
        rec: &mut Recorder<'_>,
        (sums, tokens): (&Buffer, usize),
        history: fusion::History<'_>,
        power: &Buffer,
        mask: &Mask,
        (units, unit): (usize, usize),
    ) -> Result<()> {
        let mean = (sums, 1.0 / tokens.max(1) as f32);
        // One row: the list of tokens is not read.
        fusion::record(rec, mean, (sums, 1), history, &self.fused, units * unit)?;
        score::record(rec, (&self.fused, power), &self.scores, (units, unit))?;
        mask.choose(rec, &self.scores, self.model.group_size())
    }

    /// Adds the last `rows` tokens of the window, run with `masks`, to the sums: their kept units as they were computed, their dropped units
    /// by running those once more on the tokens' normed states (keys and values are in the cache).
    ///
    /// # Errors
    /// Those of the kernels it records.
    pub fn renew(
        &self,
        rec: &mut Recorder<'_>,
        masks: &[LayerMasks],
        layers: &[LayerWeights],
        (window, rows): (&Window, usize),
        caches: &[Cache<'_>],
        turns: Turns<'_>,
    ) -> Result<()> {
        for (layer, weights) in layers.iter().enumerate() {
            let LayerMasks { heads, channels } = &masks[layer];
            if let (Some(sums), Some(mask)) = (&self.sums[layer][0], heads) {
                add(rec, &window.mixed[layer], mask.kept(), sums, weights.o.cols, rows)?;
                if let Some(dropped) = mask.dropped() {
                    let normed = Rows::from(&window.normed_attention[layer]);
                    matmul_rows::record(rec, normed, &weights.q, Some(dropped), (&self.q).into(), rows)?;
                    rope::record(rec, &self.q, &window.places, turns, (rows, dropped.count))?;
                    let queries = Queries {
                        q: &self.q,
                        places: &window.places,
                        samples: 1,
                        length: rows,
                        heads: dropped.count,
                        model_heads: self.model.num_attention_heads,
                        members: Members::Dropped(mask.place_of()),
                    };
                    attention::record(rec, queries, caches[layer], (&self.mixed).into())?;
                    add(rec, &self.mixed, dropped, sums, weights.o.cols, rows)?;
                }
            }
            if let (Some(sums), Some(mask)) = (&self.sums[layer][1], channels) {
                add(rec, &window.active[layer], mask.kept(), sums, weights.down.cols, rows)?;
                if let Some(dropped) = mask.dropped() {
                    let normed = Rows::from(&window.normed_mlp[layer]);
                    let both = (&weights.gate, &weights.up);
                    gate_up::record(rec, normed, both, Some(dropped), (&self.active).into(), rows)?;
                    add(rec, &self.active, dropped, sums, weights.down.cols, rows)?;
                }
            }
        }
        Ok(())
    }
}

/// `sums[c] += sum over rows of x[row, c]^2` for the units in `x`.
fn add(rec: &mut Recorder<'_>, x: &Buffer, units: Kept<'_>, sums: &Buffer, width: usize, rows: usize) -> Result<()> {
    let stride = stride(units.count * units.unit);
    history_update::record(rec, x.into(), Some(units), None, sums, summing(rows, width, stride))
}

fn summing(rows: usize, width: usize, stride: usize) -> Update {
    Update { samples: rows, length: 1, width, stride, mean: false, collapsed: true, keep: 1.0, gain: 1.0 }
}

/// Every real token of a batch: padding stays out of the sums.
fn watching(block: &Block<'_>, width: usize) -> Update {
    Update { samples: block.samples, length: block.length, ..summing(0, width, stride(width)) }
}

/// Runs everything and adds it to the sums: a dense prompt is its own probe.
pub struct Watching<'r>(pub &'r Running);

impl Selector for Watching<'_> {
    fn heads(&mut self, _: &mut Recorder<'_>, _: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(None)
    }

    fn attended(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, mixed: Rows<'_>) -> Result<()> {
        let Some(sums) = self.0.sums_of_heads(block.layer) else { return Ok(()) };
        let width = block.weights.o.cols;
        history_update::record(rec, mixed, None, Some(block.lengths), sums, watching(block, width))
    }

    fn channels(&mut self, _: &mut Recorder<'_>, _: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(None)
    }

    fn activated(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, active: Rows<'_>) -> Result<()> {
        let Some(sums) = self.0.sums_of_channels(block.layer) else { return Ok(()) };
        let width = block.weights.down.cols;
        history_update::record(rec, active, None, Some(block.lengths), sums, watching(block, width))
    }
}

/// Runs with masks chosen before.
pub struct Frozen<'m>(pub &'m [LayerMasks]);

impl Selector for Frozen<'_> {
    fn heads(&mut self, _: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(self.0[block.layer].heads.clone())
    }

    fn channels(&mut self, _: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(self.0[block.layer].channels.clone())
    }
}
